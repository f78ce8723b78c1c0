"""The hooks behind the interface of OpenTelemetry's instrumentors: code written for those changes its import only.

Each class has the name that it has in ``opentelemetry.instrumentation``. Its hook is the one of this package, so that
it traces what that one traces, beneath ``opentracing.tracer``, and can be undone at any time.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from pkgutil import resolve_name
from typing import Any, ClassVar

import opentracing

from .tracer import Tracer

_logger = logging.getLogger(__name__)

#: Arguments that ask for what is done, or decided, in any case.
_GRANTED = {"engine", "engines", "raise_exception_on_conflict", "skip_dep_check", "tracer_provider"}


class Instrumentor:
    """One hook. Instances have no state: any of them turns off what another has turned on. Thread-safe."""

    #: The hook, by the name of its module.
    hook: ClassVar[str]

    def instrument(self, **kwargs: Any) -> None:
        """Install the hook, and a :class:`Tracer` if no tracer is set.

        Args:
            kwargs: ``tracer_provider``, for that tracer. ``engine`` and ``engines`` are accepted: all engines are
                traced. Others, of which OpenTelemetry's instrumentors have many, are logged as having no effect.

        A tracer of ``opentelemetry-opentracing-shim`` is replaced by one on the same OpenTelemetry tracer.
        """
        provider = kwargs.get("tracer_provider")
        present = opentracing.tracer
        if type(present) is opentracing.Tracer:
            opentracing.set_global_tracer(Tracer(provider))
        elif not isinstance(present, Tracer) and hasattr(type(present), "unwrap"):
            opentracing.set_global_tracer(Tracer(present))
        elif provider is not None:
            _logger.warning("%s: the tracer that is set stays; tracer_provider has no effect", type(self).__name__)
        unknown = sorted(set(kwargs) - _GRANTED)
        if unknown:
            _logger.warning("%s: %s: no effect on this hook", type(self).__name__, ", ".join(unknown))
        self._module().install_patches()

    def uninstrument(self, **_: Any) -> None:
        """Reset the hook, whoever has installed it. The tracer stays."""
        self._module().reset_patches()

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


class BotocoreInstrumentor(Instrumentor):
    """boto3 and botocore."""

    hook = "boto3"


class CeleryInstrumentor(Instrumentor):
    """Celery."""

    hook = "celery"


class MySQLClientInstrumentor(Instrumentor):
    """MySQLdb (mysqlclient)."""

    hook = "mysqldb"


class Psycopg2Instrumentor(Instrumentor):
    """psycopg2."""

    hook = "psycopg2"


class RedisInstrumentor(Instrumentor):
    """redis-py."""

    hook = "strict_redis"


class RequestsInstrumentor(Instrumentor):
    """requests."""

    hook = "requests"


class SQLAlchemyInstrumentor(Instrumentor):
    """SQLAlchemy."""

    hook = "sqlalchemy"


class TornadoInstrumentor(Instrumentor):
    """Tornado's HTTP clients; for its server see :mod:`opentracing_instrumentation.middleware.tornado`."""

    hook = "tornado_http"


class URLLibInstrumentor(Instrumentor):
    """``urllib.request``."""

    hook = "urllib2"
