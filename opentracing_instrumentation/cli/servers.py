"""The server side of a program that says nothing of tracing: each application is wrapped as its server takes it.

A service that is written for tracing wraps its application itself. One that is merely run by `opentracing-instrument`
gets the same middleware here, from the server it runs on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from .._core.patching import Patcher, replace
from .._core.registry import Hook
from .._core.safety import report
from ..middleware import asgi, tornado, wsgi


def _as_wsgi(application: Any) -> Any:
    """The WSGI application, traced; one that is traced already, or is none, as it is."""
    if isinstance(application, wsgi.TracingMiddleware) or not callable(application):
        return application
    return wsgi.TracingMiddleware(application)


def _afterwards(function: Callable[..., Any], change: Callable[[Any], None]) -> Callable[..., Any]:
    """The method, after each successful call of which the instance is changed."""

    @functools.wraps(function)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = function(self, *args, **kwargs)
        try:
            change(self)
        except Exception as error:
            report(f"tracing the requests of {type(self).__qualname__}", error)
        return result

    return method


class WsgirefServer(Patcher):
    """The standard library's WSGI server, and Django's `runserver`, which is built on it."""

    library, supports = "wsgiref", "part of Python"

    @replace("wsgiref.simple_server:WSGIServer.set_app")
    def set_app(self, original: Any) -> Any:
        def wrap(server: Any) -> None:
            server.application = _as_wsgi(server.application)

        return _afterwards(original, wrap)


class WerkzeugServer(Patcher):
    """Werkzeug's development server, which is Flask's."""

    library, supports = "werkzeug", ">=2.0"

    @replace("werkzeug.serving:BaseWSGIServer.__init__")
    def made(self, original: Any) -> Any:
        def wrap(server: Any) -> None:
            server.app = _as_wsgi(server.app)

        return _afterwards(original, wrap)


class GunicornServer(Patcher):
    """Gunicorn with workers of its own; those of uvicorn are traced as uvicorn."""

    library, supports = "gunicorn", ">=20.1"

    @replace("gunicorn.workers.base:Worker.load_wsgi")
    def load_wsgi(self, original: Any) -> Any:
        def wrap(worker: Any) -> None:
            if type(worker).__module__.startswith("gunicorn.") and "asgi" not in type(worker).__module__:
                worker.wsgi = _as_wsgi(worker.wsgi)

        return _afterwards(original, wrap)


class UvicornServer(Patcher):
    """Uvicorn, on its own or as a worker of Gunicorn."""

    library, supports = "uvicorn", ">=0.17"

    @replace("uvicorn.config:Config.load")
    def load(self, original: Any) -> Any:
        def wrap(config: Any) -> None:
            if not isinstance(config.loaded_app, asgi.TracingMiddleware):
                config.loaded_app = asgi.TracingMiddleware(config.loaded_app)

        return _afterwards(original, wrap)


class TornadoServer(Patcher):
    """Tornado's web applications."""

    library, supports = "tornado", ">=6.1"

    @replace("tornado.web:Application.__init__")
    def made(self, original: Any) -> Any:
        return _afterwards(original, tornado.trace_application)


def _hook(name: str, patcher: type[Patcher]) -> Hook:
    module = ModuleType(f"{__name__}.{name}", patcher.__doc__)
    patcher.configure_hook_module(vars(module))
    return Hook(name, module)


_HOOKS = (
    _hook("wsgiref_server", WsgirefServer),
    _hook("werkzeug_server", WerkzeugServer),
    _hook("gunicorn_server", GunicornServer),
    _hook("uvicorn_server", UvicornServer),
    _hook("tornado_server", TornadoServer),
)


def hooks() -> Iterator[Hook]:
    """Return the hooks of this module."""
    yield from _HOOKS
