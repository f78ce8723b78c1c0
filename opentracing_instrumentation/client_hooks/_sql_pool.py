"""SQLAlchemy's pool: the wait for a connection, a new connection, and the ping of an old one.

A wait is told only if it was long enough to be seen: a request that stands still because the pool is exhausted then has
a bar where there would be a gap. It is over when a connection is handed out, or when one has to be made or pinged: that
is a span of its own.

- ``Engine.raw_connection`` is how every ``Connection`` comes by a connection of the driver, and knows its engine, which
  the pool does not.
- ``_ConnectionRecord.__connect`` is where all pools make one, by whatever function.
- ``DefaultDialect._do_ping_w_event`` is what ``pool_pre_ping`` calls; early releases of SQLAlchemy 2, and those before,
  call ``do_ping``, which some dialects have of their own.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextvars import ContextVar
from time import perf_counter, time
from typing import Any

import opentracing
from opentracing import Span
from opentracing.ext import tags as standard

from .._core.calls import idle_database
from .._core.patching import Patcher, trace
from ..request_context import current_span
from ..utils import log_error, start_child_span
from . import _sql_events
from ._sql_engines import TracedEngine, traced

#: Tags of a wait for a connection, with what a pool calls their values: a method, or an attribute.
POOL_TAGS = {
    "sqlalchemy.pool.size": "size",
    "sqlalchemy.pool.checked_out": "checkedout",
    "sqlalchemy.pool.overflow": "overflow",
    "sqlalchemy.pool.timeout": "timeout",
}

#: What libpq says of a connection string that it can't read, and what it quotes of that: the password, for one.
_OF_DSN = re.compile(r"connection info string|percent-encoded|in URI|URI query parameter")
_QUOTED = re.compile('".*"', re.DOTALL)

_checkout: ContextVar[Checkout | None] = ContextVar("opentracing_instrumentation.sql.checkout", default=None)


class Checkout:
    """The call that asks a pool for a connection: begins and ends a span once it is known that there was a wait."""

    __slots__ = ("_before", "_began", "_parent", "_started", "_waited", "dialect", "is_pinging", "pool", "traced")

    def __init__(self, parent: Any, known: TracedEngine, engine: Any) -> None:
        self.traced = known
        self.pool = engine.pool
        self.dialect = engine.dialect
        self.is_pinging = False
        self._parent = parent
        self._waited: float | None = None
        self._before = _checkout.get()
        _checkout.set(self)
        self._began = time()
        self._started = perf_counter()

    def over(self) -> None:
        """Note that the wait is over."""
        if self._waited is None:
            self._waited = perf_counter() - self._started

    def finish(self) -> None:
        """Note that the call returned."""
        _checkout.set(self._before)
        self.over()
        waited = self._waited or 0.0
        if waited >= self.traced.rules.checkout_threshold:
            self._span().finish(self._began + waited)

    def __exit__(self, *error: Any) -> None:
        """Note that the call raised: if it did not get as far as to a connection, that is the wait's error."""
        if self._waited is None:
            _checkout.set(self._before)
            self._span().__exit__(*error)
        else:
            self.finish()

    def _span(self) -> Span:
        tags = {**self.traced.tags, **_pool_tags(self.pool)}
        del tags[standard.SPAN_KIND]  # nobody is called: it is a wait of our own
        return opentracing.tracer.start_span(
            operation_name="sqlalchemy:checkout", child_of=self._parent.context, tags=tags, start_time=self._began
        )


def _pool_tags(pool: Any) -> dict[str, Any]:
    tags = {}
    for tag, name in POOL_TAGS.items():
        value = getattr(pool, name, None)
        if callable(value):
            value = value()
        if isinstance(value, int | float):
            tags[tag] = value
    return tags


class _Ping:
    """The ping of a connection, for which the driver's hook has no span."""

    __slots__ = ("_before", "_checkout", "_span")

    def __init__(self, checkout: Checkout, span: Span | None) -> None:
        self._checkout = checkout
        self._span = span
        checkout.is_pinging = True
        self._before = _sql_events.begin(_sql_events.ANYWHERE, span)

    def _end(self) -> None:
        _sql_events.end(self._before)
        self._checkout.is_pinging = False

    def set_tag(self, name: str, value: Any) -> None:
        if self._span is not None:
            self._span.set_tag(name, value)

    def finish(self) -> None:
        self._end()
        if self._span is not None:
            self._span.finish()

    def __exit__(self, *error: Any) -> None:
        self._end()
        if self._span is not None:
            self._span.__exit__(*error)


class PoolPatcher(Patcher):
    """Traces the pools of traced engines, below a current span only."""

    idle = staticmethod(idle_database)

    @trace("sqlalchemy.engine.base:Engine.raw_connection")
    def checkout(self, engine: Any) -> Checkout | None:
        known = traced(engine)
        parent = current_span() if known else None
        return Checkout(parent, known, engine) if known and parent is not None else None

    @trace("sqlalchemy.pool.base:_ConnectionRecord._ConnectionRecord__connect", activate=True)
    def connect(self, record: Any) -> Generator[Span, Any, None]:
        checkout = _checkout.get()
        if checkout is None or record._ConnectionRecord__pool is not checkout.pool:
            return
        checkout.over()
        if not checkout.traced.rules.trace_connects:
            return
        span = start_child_span("sqlalchemy:connect", parent=current_span(), tags=checkout.traced.tags.copy())
        try:
            yield span
        except Exception as error:
            if not _OF_DSN.search(str(error)):
                raise
            log_error(span, error, _QUOTED.sub("?", str(error)))

    @trace(
        "sqlalchemy.engine.default:DefaultDialect._do_ping_w_event",
        "sqlalchemy.engine.default:DefaultDialect.do_ping",
        "sqlalchemy.dialects.mysql.mysqlconnector:MySQLDialect_mysqlconnector.do_ping",
        "sqlalchemy.dialects.mysql.mysqldb:MySQLDialect_mysqldb.do_ping",
        "sqlalchemy.dialects.postgresql.asyncpg:PGDialect_asyncpg.do_ping",
        "sqlalchemy.dialects.postgresql.psycopg2:PGDialect_psycopg2.do_ping",
    )
    def ping(self, dialect: Any) -> Generator[_Ping, Any, None]:
        checkout = _checkout.get()
        if checkout is None or dialect is not checkout.dialect or checkout.is_pinging:
            return
        checkout.over()
        span = None
        if checkout.traced.rules.trace_pings:
            span = start_child_span("sqlalchemy:ping", parent=current_span(), tags=checkout.traced.tags.copy())
        ping = _Ping(checkout, span)
        if (yield ping) is False:  # the connection is dead, and replaced by another
            ping.set_tag(standard.ERROR, True)
