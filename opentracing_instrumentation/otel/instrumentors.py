"""The hooks behind the interface of OpenTelemetry's instrumentors: code written for those changes its import only.

Each class has the name that it has in ``opentelemetry.instrumentation``. Its hook is the one of this package, so that
it traces what that one traces, beneath ``opentracing.tracer``, and can be undone at any time.
"""

from __future__ import annotations

import logging
from asyncio import Future
from collections.abc import Callable, Collection, Mapping
from pkgutil import resolve_name
from typing import Any, ClassVar

import opentracing

from ..config import CONFIG
from .followers import Follower, excluding, follow, unfollow
from .tracer import Tracer

_logger = logging.getLogger(__name__)

#: Arguments that ask for what is done, or decided, in any case.
_GRANTED = {"raise_exception_on_conflict", "skip_dep_check", "tracer_provider"}
_COMMENTS = ("enable_commenter", "commenter_options", "enable_attribute_commenter")


class Instrumentor:
    """One hook. Instances have no state: any of them turns off what another has turned on. Thread-safe."""

    #: The hook, by the name of its module.
    hook: ClassVar[str]

    def instrument(self, **kwargs: Any) -> None:
        """Install the hook, and a :class:`Tracer` if no tracer is set.

        Args:
            kwargs: ``tracer_provider``, for that tracer, and what the class names. Others, of which OpenTelemetry's
                instrumentors have many, are logged as having no effect.

        Raises:
            TypeError: a function that is to be called is none.
            ValueError: another argument does not accept its value.

        A tracer of ``opentelemetry-opentracing-shim`` is replaced by one on the same OpenTelemetry tracer. Called once
        more, the arguments given last are in force. A function of the user's is called by the thread or task that makes
        the call; what it raises is logged once.
        """
        self._set_tracer(kwargs.get("tracer_provider"))
        given = {name: value for name, value in kwargs.items() if name not in _GRANTED and value is not None}
        self._install(self._module(), given)
        if given:
            _logger.warning("%s: %s: no effect on this hook", type(self).__name__, ", ".join(sorted(given)))

    def _set_tracer(self, provider: Any) -> None:
        present = opentracing.tracer
        if type(present) is opentracing.Tracer:
            opentracing.set_global_tracer(Tracer(provider))
        elif not isinstance(present, Tracer) and hasattr(type(present), "unwrap"):
            opentracing.set_global_tracer(Tracer(present))
        elif provider is not None and getattr(present, "tracer_provider", None) is not provider:
            _logger.warning("%s: the tracer that is set stays; tracer_provider has no effect", type(self).__name__)

    def _install(self, module: Any, given: dict[str, Any]) -> None:
        """Install the hook; take out of ``given`` what has an effect."""
        module.install_patches()

    def uninstrument(self, **_: Any) -> None:
        """Reset the hook, whoever has installed it. The tracer stays."""
        module = self._module()
        module.reset_patches()
        unfollow(module.patcher)

    @property
    def is_instrumented_by_opentelemetry(self) -> bool:
        """Whether the hook is installed."""
        return bool(self._module().patcher.patches_installed)

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the library and its versions."""
        patcher = self._module().patcher
        return (f"{patcher.library} {patcher.supports}",)

    def _module(self) -> Any:
        return resolve_name(f"{__package__.partition('.')[0]}.client_hooks.{self.hook}")


def _function(given: dict[str, Any], name: str) -> Callable[..., Any] | None:
    function: Callable[..., Any] | None = given.pop(name, None)
    if function is not None and not callable(function):
        raise TypeError(f"{name}={function!r}: accepted is a function")
    return function


class _Following(Instrumentor):
    """A hook whose calls are shown to functions of the user's, and some of them left out."""

    #: The hook's methods that describe such calls.
    describing: ClassVar[tuple[str, ...]]
    #: The names of the two functions among the arguments.
    functions: ClassVar[tuple[str, str]] = ("request_hook", "response_hook")

    def _install(self, module: Any, given: dict[str, Any]) -> None:
        before, after = (_function(given, name) for name in self.functions)
        is_excluded = self._exclusion(given)
        if before is None and after is None and is_excluded is None:
            unfollow(module.patcher)
        else:
            name = type(self).__name__
            follow(
                module.patcher, self.describing, Follower(name, before, after, self.request, self.response, is_excluded)
            )
        module.install_patches()

    def _exclusion(self, given: dict[str, Any]) -> Callable[[Mapping[str, Any]], bool] | None:
        """Return what tells of a call, by its arguments, whether it is left untraced; ``None`` if none is."""
        return None

    @staticmethod
    def request(call: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return what the first function is given behind the span, by the arguments of the call."""
        raise NotImplementedError

    @staticmethod
    def response(call: Mapping[str, Any], result: Any) -> tuple[Any, ...]:
        """Return what the second function is given behind the span, by the arguments and the result of the call."""
        raise NotImplementedError


class _HTTP(_Following):
    """``request_hook(span, request)``, ``response_hook(span, request, response)``, ``excluded_urls``."""

    describing = ("send",)
    #: The name of the request among the arguments of a call, and of the URL among its attributes.
    names: ClassVar[tuple[str, str]]
    #: What the variable ``OTEL_PYTHON_..._EXCLUDED_URLS`` has in its name.
    variable: ClassVar[str]

    def _exclusion(self, given: dict[str, Any]) -> Callable[[Mapping[str, Any]], bool] | None:
        excludes = excluding(given.pop("excluded_urls", None), self.variable)
        request, url = self.names
        return excludes and (lambda call: excludes(str(getattr(call[request], url))))

    @classmethod
    def request(cls, call: Mapping[str, Any]) -> tuple[Any, ...]:
        return (call[cls.names[0]],)

    @classmethod
    def response(cls, call: Mapping[str, Any], result: Any) -> tuple[Any, ...]:
        return (call[cls.names[0]], result)


class BotocoreInstrumentor(_Following):
    """boto3, botocore and aiobotocore.

    Arguments: ``request_hook(span, service, operation, parameters)`` and ``response_hook(span, service, operation,
    result)``, of which the result is an error's response, or ``None``, where there is an error.
    """

    hook, describing = "boto3", ("api_call",)

    @staticmethod
    def request(call: Mapping[str, Any]) -> tuple[Any, ...]:
        return (call["client"].meta.service_model.service_name, call["operation_name"], call["api_params"])

    @classmethod
    def response(cls, call: Mapping[str, Any], result: Any) -> tuple[Any, ...]:
        return (*cls.request(call)[:2], result)


#: Its hook is the same.
AiobotocoreInstrumentor = BotocoreInstrumentor


class CeleryInstrumentor(Instrumentor):
    """Celery."""

    hook = "celery"


class _Driver(Instrumentor):
    """``capture_parameters``, which turns on ``CONFIG.capture_sql_parameters`` and so concerns all hooks."""

    def _install(self, module: Any, given: dict[str, Any]) -> None:
        if given.pop("capture_parameters", False):
            CONFIG.capture_sql_parameters = True
        options = {name: given.pop(name) for name in _COMMENTS if name in given}
        mode = "full" if options.pop("enable_commenter", False) else "off" if options else None
        module.set_comments(mode, **options)
        module.install_patches()

    def uninstrument(self, **_: Any) -> None:
        """Reset the hook, whoever has installed it, and its options. The tracer stays."""
        super().uninstrument()
        self._module().set_comments(None)


class MySQLClientInstrumentor(_Driver):
    """MySQLdb (mysqlclient). Arguments: ``capture_parameters``, for all hooks; those of comments, ``enable_commenter``,
    ``commenter_options`` and ``enable_attribute_commenter``.
    """

    hook = "mysqldb"


class Psycopg2Instrumentor(_Driver):
    """psycopg2. Arguments: those of :class:`MySQLClientInstrumentor`."""

    hook = "psycopg2"


class RedisInstrumentor(_Following):
    """redis-py. Arguments: ``request_hook(span, client, args, kwargs)`` and ``response_hook(span, client, response)``.

    Of a pipeline, ``args`` is empty; where there is an error, ``response`` is ``None``.
    """

    hook, describing = "strict_redis", ("command", "routed_command", "pipeline", "routed_pipeline")

    @staticmethod
    def request(call: Mapping[str, Any]) -> tuple[Any, ...]:
        client = call["client"] if "client" in call else call["pipeline"]
        return (client, call.get("args", ()), call.get("options", {}))

    @classmethod
    def response(cls, call: Mapping[str, Any], result: Any) -> tuple[Any, ...]:
        return (cls.request(call)[0], result)


class RequestsInstrumentor(_HTTP):
    """requests.

    Arguments: ``request_hook(span, request)``, ``response_hook(span, request, response)``, ``excluded_urls``: regular
    expressions with commas between; by default those of ``OTEL_PYTHON_REQUESTS_EXCLUDED_URLS``, else of
    ``OTEL_PYTHON_EXCLUDED_URLS``.
    """

    hook, names, variable = "requests", ("request", "url"), "REQUESTS"


class SQLAlchemyInstrumentor(Instrumentor):
    """SQLAlchemy.

    Arguments: ``engine`` or ``engines``, to trace only these, by any number of calls; ``enable_commenter``,
    ``commenter_options``, ``enable_attribute_commenter`` for these, or for all engines without options of their own.
    """

    hook = "sqlalchemy"

    def _install(self, module: Any, given: dict[str, Any]) -> None:
        engines = [*given.pop("engines", ()), *([given.pop("engine")] if "engine" in given else [])]
        options = {name: given.pop(name) for name in _COMMENTS if name in given}
        if not engines:
            module.install_patches()
            engines = [resolve_name("sqlalchemy.engine:Engine")] if options else []
        for engine in engines:
            module.instrument_engine(engine, **options)


class TornadoInstrumentor(_Following):
    """Tornado's HTTP clients; for its server see :mod:`opentracing_instrumentation.middleware.tornado`.

    Arguments: ``client_request_hook(span, request)`` and ``client_response_hook(span, future)``, of which the future is
    done.
    """

    hook, describing = "tornado_http", ("simple_fetch", "curl_fetch")
    functions = ("client_request_hook", "client_response_hook")

    @staticmethod
    def request(call: Mapping[str, Any]) -> tuple[Any, ...]:
        return (call["request"],)

    @staticmethod
    def response(call: Mapping[str, Any], result: Any) -> tuple[Any, ...]:
        return (_future(result),)


def _future(response: Any) -> Any:
    """Return a future as the caller of ``fetch`` gets it, and have it known that its exception has been seen."""
    future: Future[Any] = Future()
    error = getattr(response, "error", None)
    if error is None:
        future.set_result(response)
    else:
        future.set_exception(error)
        future.exception()
    return future


class URLLibInstrumentor(_HTTP):
    """``urllib.request``.

    Arguments: as of :class:`RequestsInstrumentor`, with ``OTEL_PYTHON_URLLIB_EXCLUDED_URLS``.
    """

    hook, names, variable = "urllib2", ("req", "full_url"), "URLLIB"
