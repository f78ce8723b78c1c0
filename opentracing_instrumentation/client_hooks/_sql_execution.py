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
        operation: what the statement does.
        span: the span, if it has begun.
        late: name and tags of the span that may begin at the end.
        statement: its text, if similar ones are to be counted: not those of a batch.
    """

    __slots__ = ("_before", "_began", "_late", "_operation", "_parent", "_rules", "_span", "_started", "_statement")

    def __init__(
        self,
        rules: Rules,
        cursor: Any,
        parent: Any,
        operation: str = "",
        span: Any = None,
        late: tuple[str, dict[str, Any]] | None = None,
        statement: str | None = None,
    ) -> None:
        self._rules = rules
        self._parent = parent
        self._operation = operation
        self._span = span
        self._late = late
        self._statement = statement
        self._before = _sql_events.begin(cursor, span)
        self._began = time() if late else 0.0
        self._started = perf_counter()

    def succeeded(self, context: Any, cursor: Any) -> None:
        """Finish the span of a statement that has run."""
        span = self._end(context)
        if span is not None:
            if self._operation in WRITING:
                rows = rows_affected(cursor)
                if rows is not None:
                    span.set_tag(ROWS, rows)
            span.finish()

    def failed(self, context: Any, error: BaseException, parameters: Any) -> None:
        """Finish the span of a statement that failed."""
        span = self._end(context, failed=True)
        if span is None:
            return
        code = status_code(error)
        if code is not None:
            span.set_tag(STATUS_CODE, code)
        if log_without_values(span, error, parameters):
            span.finish()
        else:
            span.__exit__(type(error), error, error.__traceback__)

    def _end(self, context: Any, failed: bool = False) -> Any:
        """Return the span, which may only begin now, to be finished; count what has none."""
        _sql_events.end(self._before)
        seconds = perf_counter() - self._started
        span, self._span = self._span, None
        if span is None and self._late and (failed or seconds >= self._rules.min_duration):
            span = self._begin_late(*self._late)
        if span is None and self._parent is not None:
            left_out = {_sql_counts.LEFT_OUT: 1, _sql_counts.LEFT_OUT_TIME: seconds * 1000}
            _sql_counts.add(self._parent, left_out)
        if self._statement is not None:
            n_plus_one.observe(self._parent, self._statement, seconds, cause, context)
        if self._rules.trace_transactions:
            count_statement(context.root_connection)
        return span

    def _begin_late(self, name: str, tags: dict[str, Any]) -> Any:
        parent = None if self._parent is None else self._parent.context
        return opentracing.tracer.start_span(operation_name=name, child_of=parent, tags=tags, start_time=self._began)

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
    parent, rules = current_span(), engine.rules
    counted = None if size > 1 else rules.counted(statement) if rules.is_mysql else statement
    if is_idle:
        span, execution = None, Execution(rules, cursor, None, statement=counted)
    elif rules.filter is not None and not rules.admits(statement):
        span, execution = None, Execution(rules, cursor, parent)
    else:
        description = describe(statement, context)
        name, operation, tags = description.name, description.operation, engine.tags_of(description)
        tags[standard.DATABASE_STATEMENT] = rules.shown(statement) if rules.mask_literals else statement.strip()
        if size > 1:
            tags[BATCH_SIZE] = size
        if rules.min_duration:
            span, execution = None, Execution(rules, cursor, parent, operation, late=(name, tags), statement=counted)
        else:
            context.opentracing_span = span = start_child_span(name, parent=parent, tags=tags)
            execution = Execution(rules, cursor, parent, operation, span, statement=counted)
    setattr(context, _ATTRIBUTE, execution)
    return span


def ended(context: Any) -> Execution | None:
    """Return the execution that has come to its end, once."""
    return vars(context).pop(_ATTRIBUTE, None) if context is not None else None
