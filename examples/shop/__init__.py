"""A traced shop in three processes: `python -m examples.shop` runs it and prints two of its traces.

browser (`__main__.py`) -> shop (`shop.py`: WSGI, requests, SQLAlchemy) -> inventory (`inventory.py`: Tornado,
SQLAlchemy). What tracing asks of a service is marked there with (1) and (2); `tracing.py` makes its tracer.
"""
