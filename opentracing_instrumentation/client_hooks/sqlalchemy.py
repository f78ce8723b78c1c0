"""SQLAlchemy: one client span for each statement that is sent to a driver, by Core and ORM, sync and async.

The events of the class ``Engine`` see the statements of every engine, whenever and by whatever name of
``create_engine`` it was made; an ``AsyncEngine`` runs on an ``Engine``. A statement ends in ``after_cursor_execute``
or, if it fails or is cancelled, in ``handle_error``. A statement whose end nobody announces (an application's listener
that was called before ours raised, the option ``skip_user_error_events``, a reset in mid-flight) ends with its
execution context.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from opentracing.ext import tags as standard

from .._core.calls import idle
from .._core.patching import Patcher, on_event
from .._core.safety import report
from .._core.tags import redact_query
from ..config import CONFIG
from ..utils import child_span
from . import _sql_events
from ._sql_errors import log_without_values

_FIRST_WORD = re.compile(r"(?:[\s(]|--[^\n]*\n|/\*.*?\*/)*(?!--|/\*)([^\s(;]*)", re.DOTALL)
_LOOKED_AT = 256  # characters: enough for a comment and a word, and little to remember

#: The tags of each engine, behind the patterns of secrets by which they were made.
_tags_by_engine: WeakKeyDictionary[Any, tuple[Sequence[str], dict[str, Any]]] = WeakKeyDictionary()


class SQLAlchemyPatcher(Patcher):
    """Traces SQLAlchemy."""

    library: ClassVar[str | None] = "sqlalchemy"
    supports = ">=1.4"
    spans = "`SQL` and the statement's first word in capitals, comments aside: `SQL SELECT`"
    tags: ClassVar[Mapping[str, str]] = {
        standard.SPAN_KIND: "`client`",
        standard.COMPONENT: "`sqlalchemy`",
        standard.DATABASE_TYPE: "the dialect: `postgresql`, `sqlite`, ...",
        standard.DATABASE_INSTANCE: "the engine's URL, its password and secret query parameters masked",
        standard.DATABASE_STATEMENT: "the statement as it is sent to the driver; bound parameters are not captured",
    }
    settings = ("secret_query_parameters", "capture_sql_parameters", "nest_driver_spans")

    @staticmethod
    @on_event("sqlalchemy.engine:Engine", "before_cursor_execute")
    def before_cursor_execute(
        conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        """Begin the statement's span; it is kept on the execution context, which lives as long as the statement."""
        if context is None or idle() or _sql_events.is_claimed(context, statement):
            return
        tags = {**_tags_of(conn.engine), standard.DATABASE_STATEMENT: statement.strip()}
        span = child_span(operation(statement[:_LOOKED_AT]), tags)
        context.opentracing_span = span
        context._opentracing_guard = _Guard(span)
        _sql_events.begin(cursor, span)

    @staticmethod
    @on_event("sqlalchemy.engine:Engine", "after_cursor_execute")
    def after_cursor_execute(
        conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        """Finish the statement's span."""
        guard = _ended(context)
        if guard:
            guard.release().finish()

    @staticmethod
    @on_event("sqlalchemy.engine:Engine", "handle_error")
    def handle_error(exception_context: Any) -> None:
        """Finish the span of a statement that failed."""
        guard = _ended(exception_context.execution_context)
        if guard:
            span, error = guard.release(), exception_context.original_exception
            if log_without_values(span, error, exception_context.parameters):
                span.finish()
            else:
                span.__exit__(type(error), error, error.__traceback__)


class _Guard:
    """Finishes the span of a statement that ends unannounced."""

    __slots__ = ("_span",)

    def __init__(self, span: Any) -> None:
        self._span = span

    def release(self) -> Any:
        span, self._span = self._span, None
        return span

    def __del__(self) -> None:
        if self._span is not None:
            try:
                self._span.finish()
            except Exception as error:
                report("finishing the span of an abandoned statement", error)


def _ended(context: Any) -> _Guard | None:
    guard: _Guard | None = context and vars(context).pop("_opentracing_guard", None)
    if guard:
        _sql_events.end()
    return guard


def _tags_of(engine: Any) -> dict[str, Any]:
    known, patterns = _tags_by_engine.get(engine), CONFIG.secret_query_parameters
    if known is None or known[0] != patterns:
        known = _tags_by_engine[engine] = patterns[:], _engine_tags(engine)
    return known[1]


def _engine_tags(engine: Any) -> dict[str, Any]:
    return {
        standard.SPAN_KIND: standard.SPAN_KIND_RPC_CLIENT,
        standard.COMPONENT: "sqlalchemy",
        standard.DATABASE_TYPE: engine.name,
        standard.DATABASE_INSTANCE: redact_query(repr(engine.url), CONFIG.secret_query_parameters),
    }


@lru_cache(maxsize=1024)
def operation(statement: str) -> str:
    """Return the span's name for a statement by the statement's first word, comments aside."""
    word = _FIRST_WORD.match(statement)
    return f"SQL {word.group(1).upper()}" if word and word.group(1) else "SQL"


patcher: SQLAlchemyPatcher
set_patcher: Callable[[Patcher], None]
install_patches: Callable[[], None]
reset_patches: Callable[[], None]

SQLAlchemyPatcher.configure_hook_module(globals())
