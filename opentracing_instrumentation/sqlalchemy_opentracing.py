"""Marks for SQLAlchemy: which statements are traced, and below which span.

The whole interface of the package ``sqlalchemy_opentracing``, for a change of one import. A statement, connection or
session is marked with :func:`set_traced` or :func:`set_parent_span`; asynchronous connections and sessions and scoped
sessions pass on what is said of them to what they stand for. Beside the hook ``client_hooks.sqlalchemy`` a statement
still has one span.

The attributes ``_traced`` and ``_parent_span`` of the marked object are the marks, so that whatever is derived from a
statement inherits them. SQLAlchemy keeps compiled statements, hence marks are read from the statement that was
executed, never from the equal one that it was compiled from. They are taken when it is sent to the driver, by events
that come after those in which the hook begins its span.
"""

from __future__ import annotations

import re
import sys
import threading
from typing import Any
from weakref import WeakSet

from opentracing.ext import tags as standard

from ._core.patching import Patcher, on_event
from ._core.safety import report
from ._core.side_table import SideTable
from .client_hooks import _sql_engines, _sql_events
from .sqlcommenter import strip

__all__ = [
    "clear_traced",
    "get_parent_span",
    "get_traced",
    "has_parent_span",
    "init_tracing",
    "register_engine",
    "set_parent_span",
    "set_traced",
    "unregister_engine",
]

#: The tracer that begins the spans, or ``None``.
g_tracer: Any = None
#: Trace every statement of the registered engines, marked or not.
g_trace_all_queries = False
#: All engines are registered by :func:`init_tracing`; none may be registered by itself.
g_trace_all_engines = False

_MARKS = ("_traced", "_parent_span")
_Marks = dict[str, Any]


def init_tracing(tracer: Any, trace_all_engines: bool = True, trace_all_queries: bool = True) -> None:
    """Set the tracer, and what is to be traced.

    Args:
        tracer: an OpenTracing tracer, or what holds one as ``_tracer``, as the integrations of web frameworks do.
            Nothing but ``start_span``, and ``set_tag`` and ``finish`` of its spans, is called.
        trace_all_engines: register the engines of the process, present and future. Turned off later, they stay so.
        trace_all_queries: trace all statements of registered engines; otherwise those only that are marked, or whose
            connection or session is.

    Raises:
        ImportError: all engines are asked for, and SQLAlchemy is not installed.
    """
    global g_tracer, g_trace_all_engines, g_trace_all_queries  # noqa: PLW0603 - they are the interface
    g_tracer = tracer._tracer if hasattr(tracer, "_tracer") else tracer
    g_trace_all_queries = trace_all_queries
    g_trace_all_engines = trace_all_engines
    if trace_all_engines:
        from sqlalchemy.engine import Engine

        register_engine(Engine)


def register_engine(obj: Any) -> None:
    """Trace the statements of an engine. Once more does no harm, nor do both the engine and all engines.

    Args:
        obj: an ``Engine`` or ``AsyncEngine``, or the class ``Engine`` for all. What an engine's ``execution_options``
            returned stands for that engine.

    Raises:
        RuntimeError: there is no tracer, or all engines are registered.
        sqlalchemy.exc.InvalidRequestError: it is no engine.
    """
    from sqlalchemy.engine import Engine

    if g_tracer is None:
        raise RuntimeError("There is no tracer yet: call init_tracing() first")
    if g_trace_all_engines and obj is not Engine:
        raise RuntimeError("All engines are traced already")
    key = _engine_key(obj)
    with _lock:
        _registered.add(key)
        _transactions.install_patches()
        _statements.install_patches()


def unregister_engine(obj: Any) -> None:
    """Undo :func:`register_engine`.

    Raises:
        sqlalchemy.exc.InvalidRequestError: it is not registered.
    """
    from sqlalchemy.exc import InvalidRequestError

    key = _engine_key(obj)
    with _lock:
        if key not in _registered:
            raise InvalidRequestError(f"{obj!r} is not registered for tracing")
        _registered.remove(key)
        if not _registered:
            _statements.reset_patches()


def set_traced(obj: Any) -> None:
    """Mark an object to be traced.

    Args:
        obj: a statement, until it has been executed; a ``Connection`` or ``AsyncConnection``, until its transaction is
            committed or rolled back; a ``Session``, ``AsyncSession`` or scoped session, until then or until the end of
            a nested transaction, and the connections that it works on until the end of the outermost.

    Raises:
        RuntimeError: an ``AsyncConnection`` that has not been started.

    What is marked must not be executed by several threads or tasks at once, as connections and sessions never may:
    mark a copy of a shared statement.
    """
    bearer = _bearer(obj)
    if bearer is None:
        raise RuntimeError(f"{obj!r} has not been started, and so has no connection to mark")
    bearer._traced = True
    if _is_one_of(bearer, "sqlalchemy.orm", "Session"):
        for loan in (_works.get(bearer) or {}).values():
            loan.lend(_marks(bearer))
    _transactions.install_patches()


def get_traced(obj: Any) -> bool:
    """Tell whether an object is marked to be traced."""
    traced: bool = getattr(_bearer(obj), "_traced", False)
    return traced


def clear_traced(obj: Any) -> None:
    """Take the marks off an object; off a session's connections, too. Harmless where there are none."""
    bearer = _bearer(obj)
    _unmark(bearer)
    if _is_one_of(bearer, "sqlalchemy.orm", "Session"):
        for loan in (_works.get(bearer) or {}).values():
            loan.give_back()


def set_parent_span(obj: Any, parent_span: Any) -> None:
    """Mark an object to be traced, as :func:`set_traced` does, below a span."""
    bearer = _bearer(obj)
    if bearer is not None:
        bearer._parent_span = parent_span
    set_traced(obj if bearer is None else bearer)


def get_parent_span(obj: Any) -> Any:
    """Return the span that an object is marked with, or ``None``."""
    return getattr(_bearer(obj), "_parent_span", None)


def has_parent_span(obj: Any) -> bool:
    """Tell whether an object is marked with a parent span."""
    return hasattr(_bearer(obj), "_parent_span")


def _clear_tracer() -> None:
    """Forget the tracer; registered engines stay registered. For tests."""
    global g_tracer  # noqa: PLW0603
    g_tracer = None


# Marks and those who bear them


def _is_one_of(obj: Any, module: str, *names: str) -> bool:
    """Tell whether an object is of one of a module's classes. If nobody has imported the module, it is not."""
    loaded = sys.modules.get(module)
    return isinstance(obj, tuple(getattr(loaded, name) for name in names if hasattr(loaded, name)))


def _bearer(obj: Any) -> Any:
    """Return who bears an object's marks: what it stands for, or itself."""
    if _is_one_of(obj, "sqlalchemy.orm", "scoped_session"):
        return _bearer(obj.registry())
    if _is_one_of(obj, "sqlalchemy.ext.asyncio", "async_scoped_session"):
        return _bearer(obj.registry())
    if _is_one_of(obj, "sqlalchemy.ext.asyncio", "AsyncSession"):
        return obj.sync_session
    if _is_one_of(obj, "sqlalchemy.ext.asyncio", "AsyncConnection"):
        return obj.sync_connection
    return obj


def _marks(bearer: Any) -> _Marks:
    return {name: getattr(bearer, name) for name in _MARKS if hasattr(bearer, name)}


def _mark(bearer: Any, marks: _Marks) -> None:
    for name, value in marks.items():
        setattr(bearer, name, value)


def _unmark(bearer: Any) -> None:
    for name in _marks(bearer):
        delattr(bearer, name)


class _Loan:
    """The marks that a connection has from the session that works on it."""

    __slots__ = ("_before", "_connection")

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._before: _Marks | None = None

    def lend(self, marks: _Marks) -> None:
        """Mark the connection as its session is."""
        if self._before is None:
            self._before = _marks(self._connection)
        _mark(self._connection, {name: value for name, value in marks.items() if value is not None})

    def give_back(self) -> None:
        """Mark it as it was before, unless a transaction of its own has ended since."""
        before, self._before = self._before, None
        if before is not None and _marks(self._connection):
            _unmark(self._connection)
            _mark(self._connection, before)


#: What sessions lend to the connections that they work on, by the identity of these, until their transactions end.
_works: SideTable[dict[int, _Loan]] = SideTable()


class _Transactions(Patcher):
    """Passes the marks of sessions on to their connections, and clears marks at the end of transactions."""

    library = "sqlalchemy"

    @staticmethod
    @on_event("sqlalchemy.orm:Session", "after_begin")
    def begun(session: Any, transaction: Any, connection: Any) -> None:
        """Note that a session works on a connection, from now on."""
        work = _works.get(session)
        if work is None:
            work = {}
            _works.put(session, work)
        loan = work.setdefault(id(connection), _Loan(connection))
        if getattr(session, "_traced", False):
            loan.lend(_marks(session))

    @staticmethod
    @on_event("sqlalchemy.orm:Session", "after_commit", "after_rollback")
    @on_event("sqlalchemy.engine:Engine", "commit", "rollback", "commit_twophase", "rollback_twophase")
    def over(bearer: Any, *_: Any) -> None:
        """Clear the marks of a session or connection whose transaction is over, those of a nested one, too."""
        _unmark(bearer)

    @staticmethod
    @on_event("sqlalchemy.orm:Session", "after_transaction_end")
    def ended(session: Any, transaction: Any) -> None:
        """Leave the connections of a session as they were, however its outermost transaction has ended."""
        if transaction.parent is None:
            clear_traced(session)
            _works.pop(session)


# Engines and their statements


class _EveryEngine:
    """Stands for the class ``Engine`` among the registered."""


_lock = threading.Lock()
#: The dialects of registered engines: each engine has its own, and shares it with what `execution_options` makes of it.
_registered: WeakSet[Any] = WeakSet()


def _engine_key(obj: Any) -> Any:
    from sqlalchemy.engine import Engine
    from sqlalchemy.exc import InvalidRequestError

    if obj is Engine:
        return _EveryEngine
    engine = obj.sync_engine if _is_one_of(obj, "sqlalchemy.ext.asyncio", "AsyncEngine") else obj
    if not isinstance(engine, Engine):
        raise InvalidRequestError(f"{obj!r} is no engine")
    return engine.dialect


class _Execution:
    """The execution of a statement: the marks that it came with, and its span as long as that is not finished."""

    __slots__ = ("before", "marks", "span")

    def __init__(self, marks: _Marks) -> None:
        self.marks = marks
        self.span: Any = None
        self.before: _sql_events.Executing | None = None

    @classmethod
    def of(cls, context: Any) -> _Execution:
        """Return that of an execution context, which takes the marks off the statement when it is asked first."""
        execution: _Execution | None = vars(context).get("_opentracing_execution")
        if execution is None:
            execution = context._opentracing_execution = cls(_take_marks(context))
        return execution

    def end(self, error: BaseException | None = None) -> None:
        """Finish the span, if there is one."""
        span, self.span = self.span, None
        if span is None:
            return
        _sql_events.end(self.before)
        try:
            if error is not None:
                span.set_tag("sqlalchemy.exception", str(error))
                span.set_tag(standard.ERROR, "true")
        finally:
            span.finish()

    def __del__(self) -> None:
        """Finish the span of a statement whose end nobody announced."""
        if self.span is not None:
            try:
                self.span.finish()
            except Exception as error:
                report("finishing the span of an abandoned statement", error)


def _take_marks(context: Any) -> _Marks:
    statement, compiled = context.invoked_statement, context.compiled
    if statement is None:  # DDL, or what the user has compiled: no copy of theirs
        statement = getattr(compiled, "statement", None)
    marks = _marks(statement)
    if marks:
        _unmark_with_original(statement)
        if compiled.statement is statement:  # compiled just now, and kept with a copy that the ORM has made of it
            _unmark_with_original(getattr(compiled.compile_state, "statement", None))
    return marks


def _unmark_with_original(statement: Any) -> None:
    """Unmark a statement, and the one of which it is an annotated copy: the ORM executes such copies."""
    _unmark(statement)
    _unmark(getattr(statement, "_Annotated__element", None))


def _is_registered(context: Any) -> bool:
    return context is not None and (context.dialect in _registered or _EveryEngine in _registered)


def _is_traced(context: Any, statement: str) -> bool:
    if not _is_registered(context):
        return False
    marks = _Execution.of(context).marks
    if g_tracer is None or (context.compiled is None and statement.startswith("PRAGMA")):
        return False
    return bool(g_trace_all_queries or marks.get("_traced", getattr(context.root_connection, "_traced", False)))


class _Statements(Patcher):
    """Begins and ends the spans of statements."""

    library = "sqlalchemy"

    @staticmethod
    @on_event("sqlalchemy.engine:Engine", "do_execute", "do_executemany", "do_execute_no_params")
    def begin(cursor: Any, statement: str, *rest: Any) -> None:
        """Begin the span of a statement that the driver is about to get, unless the hook has begun one."""
        context = rest[-1]
        if not _is_traced(context, statement) or _sql_events.executing_on(cursor) is not None:
            return
        execution = _Execution.of(context)
        parent = execution.marks.get("_parent_span")
        if parent is None:
            parent = getattr(context.root_connection, "_parent_span", None)
        span = execution.span = g_tracer.start_span(operation_name=_operation(context.compiled), child_of=parent)
        execution.before = _sql_events.begin(cursor, span)
        span.set_tag(standard.COMPONENT, "sqlalchemy")
        span.set_tag(standard.DATABASE_TYPE, "sql")
        span.set_tag(standard.DATABASE_STATEMENT, _on_one_line(_without_comment(statement, context)))
        span.set_tag("sqlalchemy.dialect", context.dialect.name)

    @staticmethod
    @on_event("sqlalchemy.engine:Engine", "after_cursor_execute")
    def end(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
        """Finish the span."""
        if _is_registered(context):
            _Execution.of(context).end()

    @staticmethod
    @on_event("sqlalchemy.engine:Engine", "handle_error")
    def fail(exception_context: Any) -> None:
        """Finish the span of a statement that failed."""
        context = exception_context.execution_context
        if _is_registered(context):
            _Execution.of(context).end(exception_context.original_exception)


def _without_comment(statement: str, context: Any) -> str:
    """Return a statement without what the hook has put into it, unless spans are to show that."""
    engine = _sql_engines.traced(context.engine)
    if not engine or engine.commenter is None or engine.commenter.options.enable_attribute_commenter:
        return statement
    return strip(statement)


def _operation(compiled: Any) -> str:
    return str(getattr(getattr(compiled, "statement", None), "__visit_name__", "textclause"))


_BREAK = re.compile(r"(?<![\s(])[\n\r\t]+(?![\s)])")
_REMOVED = str.maketrans("", "", "\n\r\t")


def _on_one_line(statement: str) -> str:
    """Return a statement without newlines and tabs, its words still apart."""
    return _BREAK.sub(" ", statement.strip()).translate(_REMOVED)


_transactions = _Transactions()
_statements = _Statements()
_sql_events.claimants.append(_is_traced)
