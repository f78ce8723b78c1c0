"""Ready-made server sides: a span for each incoming request of a WSGI, ASGI or Tornado application.

Import the one that the application needs; nothing but OpenTracing is imported here.
"""
