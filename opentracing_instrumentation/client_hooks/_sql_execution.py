"""The span of a statement of SQLAlchemy's, from the event that tells of its beginning to the one that tells its end."""

from __future__ import annotations

from time import perf_counter, time
from typing import Any

import opentracing
from opentracing.ext import tags as standard

from .. import n_plus_one
from .._core.safety import report
from ..request_context import current_span
from ..utils import start_child_span
from . import _sql_counts, _sql_events
from ._dbapi2 import STATUS_CODE, status_code
from ._sql_engines import TracedEngine
from ._sql_errors import log_without_values
from ._sql_options import Rules
from ._sql_relationships import cause
from ._sql_statements import BATCH_SIZE, ROWS, WRITING, describe, rows_affected
from ._sql_transactions import count_statement

_ATTRIBUTE = "_opentracing_statement"


class Execution:
    """A statement that is being executed.

    Its span begins at once or, if only statements of a certain duration have one, when it is over. One that gets none
    is counted on the span above. It is kept on the execution context, and ends with that at the latest.

    Args:
        rules: the engine's.
        cursor: the driver's cursor.
        parent: the span above, if there is one.
        counted: its text, if similar ones are to be counted: not those of a batch.
        span: the span, if it has begun.
        operation: what the statement does.
        late: name, tags and beginning of the span that may begin at the end.
    """

    __slots__ = ("_before", "_counted", "_late", "_parent", "_rules", "_span", "_started", "operation")

    def __init__(
        self,
        rules: Rules,
        cursor: Any,
        parent: Any,
        counted: str | None = None,
        span: Any = None,
        operation: str = "",
        late: tuple[str, dict[str, Any], float] | None = None,
    ) -> None:
        self._rules = rules
        self._parent = parent
        self._counted = counted
        self._span = span
        self.operation = operation
        self._late = late
        self._before = _sql_events.begin(cursor, span)
        self._started = perf_counter()

    def end(self, context: Any, failed: bool = False) -> Any:
        """Return the span, which may only begin now, to be finished; count what has none."""
        seconds = perf_counter() - self._started
        _sql_events.end(self._before)
        rules, parent = self._rules, self._parent
        span, self._span = self._span, None
        if span is None:
            if self._late and (failed or seconds >= rules.min_duration):
                span = self._begin_late(*self._late)
            elif parent is not None:
                _sql_counts.add(parent, {_sql_counts.LEFT_OUT: 1, _sql_counts.LEFT_OUT_TIME: seconds * 1000})
        if self._counted is not None:
            n_plus_one.observe(parent, self._counted, seconds, cause, context, rules.is_mysql)
        if rules.trace_transactions:
            count_statement(context.root_connection)
        return span

    def _begin_late(self, name: str, tags: dict[str, Any], began: float) -> Any:
        parent = None if self._parent is None else self._parent.context
        return opentracing.tracer.start_span(operation_name=name, child_of=parent, tags=tags, start_time=began)

    def __del__(self) -> None:
        """Finish the span of a statement whose end nobody announced."""
        if self._span is not None:
            try:
                self._span.finish()
            except Exception as error:
                report("finishing the span of an abandoned statement", error)


def begin(engine: TracedEngine, cursor: Any, statement: str, context: Any, size: int, is_idle: bool = False) -> Any:
    """Begin the execution of a statement, and its span, if it has one and that begins now.

    Args:
        engine: the engine.
        cursor: the driver's cursor.
        statement: the statement's text.
        context: the execution context, which keeps the execution until its end.
        size: with how many sets of parameters it is executed.
        is_idle: whether it has no span, nor counts on one, because nobody listens.
    """
    rules, span = engine.rules, None
    parent = None if is_idle else current_span()
    counted = None if size > 1 else statement
    if is_idle:
        execution = Execution(rules, cursor, parent, counted)
    elif rules.filter is not None and not rules.admits(statement):
        execution = Execution(rules, cursor, parent)
    else:
        description = describe(statement, context)
        name, operation, tags = description.name, description.operation, engine.tags_of(description)
        tags[standard.DATABASE_STATEMENT] = rules.shown(statement) if rules.mask_literals else statement.strip()
        if size > 1:
            tags[BATCH_SIZE] = size
        if rules.min_duration:
            execution = Execution(rules, cursor, parent, counted, None, operation, (name, tags, time()))
        else:
            context.opentracing_span = span = start_child_span(name, parent=parent, tags=tags)
            execution = Execution(rules, cursor, parent, counted, span, operation)
    setattr(context, _ATTRIBUTE, execution)
    return span


def succeeded(context: Any, cursor: Any) -> None:
    """Finish the span of a statement that has run; of nothing, if it has none."""
    execution = None if context is None else vars(context).pop(_ATTRIBUTE, None)
    if execution is None:
        return
    span = execution.end(context)
    if span is not None:
        if execution.operation in WRITING:
            rows = rows_affected(cursor)
            if rows is not None:
                span.set_tag(ROWS, rows)
        span.finish()


def failed(context: Any, error: BaseException, parameters: Any) -> None:
    """Finish the span of a statement that failed; of nothing, if it has none."""
    execution = None if context is None else vars(context).pop(_ATTRIBUTE, None)
    span = None if execution is None else execution.end(context, failed=True)
    if span is None:
        return
    code = status_code(error)
    if code is not None:
        span.set_tag(STATUS_CODE, code)
    if log_without_values(span, error, parameters):
        span.finish()
    else:
        span.__exit__(type(error), error, error.__traceback__)
