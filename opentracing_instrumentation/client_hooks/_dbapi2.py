"""PEP 249 drivers: what the span of a statement is called and says, and proxies that trace any such driver.

A driver that has no hook is traced by proxies round its connections and cursors. A service asks for them by wrapping
the driver's ``connect``::

    connect = ConnectionFactory(sqlite3.connect, "sqlite3")

Statements, commits and rollbacks are traced below a current span only; connecting is always. A statement that has a
span of SQLAlchemy's gets none of its driver's, or one below it (``CONFIG.nest_driver_spans``).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from time import perf_counter
from typing import Any, cast

import wrapt
from opentracing import Span
from opentracing.ext import tags as standard

from .. import n_plus_one
from .._core.calls import Description, FlowDescription, idle_database, instrument
from .._core.safety import report
from ..config import CONFIG
from ..request_context import current_span
from ..utils import child_span, start_child_span
from . import _sql_events
from ._connect_params import positional_names, shown
from ._sql_errors import log_without_values

_BEGIN = "begin-trans"
_COMMIT = "commit"
_ROLLBACK = "rollback"

#: The default of an argument for which ``None`` is a value.
NO_ARG = object()

#: The database's code for an error, as SQLSTATE or errno (OpenTelemetry semantic conventions, database spans).
STATUS_CODE = "db.response.status_code"

_FIRST_WORD = re.compile(r"(?:\s|--[^\n]*\n|/\*(?:[^*]|\*(?!/))*\*/)*(?!--|/\*)(\S+)\s", re.DOTALL)
_LOOKED_AT = 256  # characters: enough for a comment and a word, and little to remember


def db_span(
    sql_statement: Any,
    module_name: str,
    sql_parameters: Any = None,
    connect_params: Any = None,
    cursor_params: Any = None,
) -> AbstractContextManager[Any]:
    """Begin the span of a statement, to be finished by ``with``; without a current span, a block that gives ``None``.

    Args:
        sql_statement: the statement, or one of ``begin-trans``, ``commit`` and ``rollback``.
        module_name: the driver's name in the name of the span.
        sql_parameters: the statement's bound parameters; tagged only with ``CONFIG.capture_sql_parameters``.
        connect_params: the arguments of the connection as ``(args, kwargs)``, without secrets.
        cursor_params: the arguments of the cursor as ``(args, kwargs)``.
    """
    parent = current_span()
    if parent is None:
        return nullcontext()
    tags = {standard.SPAN_KIND: standard.SPAN_KIND_RPC_CLIENT}
    if sql_statement in (_BEGIN, _COMMIT, _ROLLBACK):
        span = start_child_span(f"{module_name}:{sql_statement}", parent=parent, tags=tags)
    else:
        span = statement_span(parent, module_name, sql_statement, tags, sql_parameters, connect_params, cursor_params)
    return cast(AbstractContextManager[Any], span)


def parent_of_statement(cursor: Any) -> Any:
    """Return the parent for the span of a statement, or ``None`` if that is not to be traced.

    Args:
        cursor: the cursor that executes it; for a begin, commit or rollback, the connection.
    """
    executing = _sql_events.executing_on(cursor)
    if executing is None:
        return current_span()
    return executing[1] if CONFIG.nest_driver_spans else None


def statement_span(
    parent: Any,
    module_name: str,
    statement: Any,
    tags: dict[str, Any],
    parameters: Any = None,
    connect_params: Any = None,
    cursor_params: Any = None,
) -> Span:
    """Begin the span of a statement; see :func:`db_span`.

    Args:
        parent: the span above it.
        statement: the statement. What is neither text nor bytes is left to the driver's opinion, and not tagged.
        tags: the tags to begin with. The tracer may keep this very dict.
    """
    text = statement.strip() if isinstance(statement, str) else _decoded(statement)
    if text is not None:
        tags["sql"] = text
    if CONFIG.capture_sql_parameters and parameters:
        tags["sql.params"] = parameters
    if connect_params:
        tags["sql.conn"] = tuple(connect_params)
    if cursor_params:
        tags["sql.cursor"] = tuple(cursor_params)
    return start_child_span(_operation(module_name, (text or "")[:_LOOKED_AT]), parent=parent, tags=tags)


def _decoded(statement: Any) -> str | None:
    return statement.decode("utf-8", "ignore").strip() if isinstance(statement, bytes | bytearray) else None


@lru_cache(maxsize=1024)
def _operation(module_name: str, statement: str) -> str:
    """Return the span's name for a statement: the driver, and the first of several words, comments aside."""
    word = _FIRST_WORD.match(statement)
    return f"{module_name}:{word.group(1) if word else ''}"


def status_code(error: BaseException) -> str | None:
    """Return the SQLSTATE of a driver's error, else the driver's own code, else ``None``."""
    if not any(cls.__name__ == "Error" for cls in type(error).__mro__):  # the base class that PEP 249 asks for
        return None
    for name in ("pgcode", "sqlstate", "sqlite_errorname"):
        code = getattr(error, name, None)
        if code:
            return str(code)
    first = error.args[0] if error.args else None
    return str(first) if isinstance(first, int) else None


class Statement:
    """A statement's span, as far as the end of its call goes; a log of an error leaves out the bound parameters.

    At its end it is counted below its parent.
    """

    __slots__ = ("_is_mysql", "_parameters", "_parent", "_span", "_started", "_statement")

    def __init__(self, span: Span, parent: Any, statement: Any, parameters: Any, is_mysql: bool) -> None:
        self._span = span
        self._parent = parent
        self._statement = statement
        self._parameters = parameters
        self._is_mysql = is_mysql
        self._started = perf_counter()

    def set_tag(self, name: str, value: Any) -> None:
        self._span.set_tag(name, value)

    def finish(self) -> None:
        self._count()
        self._span.finish()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._count()
        if log_without_values(self._span, error, self._parameters):
            self._span.finish()
        else:
            self._span.__exit__(kind, error, trace)

    def _count(self) -> None:
        seconds = perf_counter() - self._started
        text = self._statement if isinstance(self._statement, str) else _decoded(self._statement)
        if text is not None:
            n_plus_one.observe(self._parent, text, seconds, is_mysql=self._is_mysql)


@lru_cache
def is_of_mysql(module_name: str) -> bool:
    """Tell whether a driver is one for MySQL, by its name: PyMySQL and others have no hook of their own."""
    return any(name in module_name.lower() for name in ("mysql", "mariadb"))


class _Coded(Description):
    """Tags the span of a call that fails with the code of the database's error."""

    def fail(self, handle: Any, error: BaseException) -> None:
        try:
            code = status_code(error)
            if code is not None:
                self.span_of(handle).set_tag(STATUS_CODE, code)
        except Exception as failure:
            report(f"{self.place}: status code", failure)
        super().fail(handle, error)


class _CodedFlow(_Coded, FlowDescription):
    """The same, of a description that yields its span."""


def description(describe: Callable[..., Any], place: str, idle: Callable[[], bool] = idle_database) -> Description:
    """Return the description of a driver's calls by a function: its spans bear the codes of the database's errors."""
    kind = _CodedFlow if inspect.isgeneratorfunction(describe) else _Coded
    return kind(describe, place, idle=idle)


def _traced(describe: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    def decorate(method: Callable[..., Any]) -> Any:
        return instrument(method, description(describe, f"{__name__}:{method.__qualname__}"))

    return decorate


def _statement(cursor: CursorWrapper, *args: Any, **kwargs: Any) -> Statement | None:
    parent = parent_of_statement(cursor)
    return None if parent is None else cursor._span(parent, *_statement_and_parameters(args, kwargs))


def _procedure(cursor: CursorWrapper, *args: Any, **kwargs: Any) -> Statement | None:
    name, parameters = _statement_and_parameters(args, kwargs)
    return _statement(cursor, f"sproc:{name}", parameters)


def _statement_and_parameters(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """Tell the arguments of a statement, which have other names in every driver, from each other."""
    named = dict(kwargs)
    names = ("operation", "query", "sql", "statement", "procname", "proc_name")
    statement = args[0] if args else next((named.pop(name) for name in names if name in named), None)
    return statement, args[1] if len(args) > 1 else next(iter(named.values()), None)


class CursorWrapper(wrapt.ObjectProxy):  # type: ignore[misc]
    """A cursor whose statements are traced; all else is the driver's.

    Args:
        cursor: the driver's cursor.
        module_name: the driver's name in the names of spans.
        connect_params: the arguments of the connection as ``(args, kwargs)``, without secrets.
        cursor_params: the arguments of the cursor as ``(args, kwargs)``.
    """

    __slots__ = ("_connect_params", "_cursor_params", "_module_name")

    def __init__(self, cursor: Any, module_name: str, connect_params: Any = None, cursor_params: Any = None) -> None:
        super().__init__(cursor)
        self._module_name = module_name
        self._connect_params = connect_params
        self._cursor_params = cursor_params

    def __enter__(self) -> Any:
        entered = self.__wrapped__.__enter__()
        return self if entered is self.__wrapped__ else entered

    @_traced(_statement)
    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Call the driver's ``execute``, in a span."""
        return self.__wrapped__.execute(*args, **kwargs)

    @_traced(_statement)
    def executemany(self, *args: Any, **kwargs: Any) -> Any:
        """Call the driver's ``executemany``, in a span."""
        return self.__wrapped__.executemany(*args, **kwargs)

    @_traced(_procedure)
    def callproc(self, *args: Any, **kwargs: Any) -> Any:
        """Call the driver's ``callproc``, in a span."""
        return self.__wrapped__.callproc(*args, **kwargs)

    def _span(self, parent: Any, statement: Any, parameters: Any) -> Statement:
        tags = {standard.SPAN_KIND: standard.SPAN_KIND_RPC_CLIENT}
        span = statement_span(
            parent, self._module_name, statement, tags, parameters, self._connect_params, self._cursor_params
        )
        return Statement(span, parent, statement, parameters, is_of_mysql(self._module_name))


def _transaction(operation: str) -> Callable[[ConnectionWrapper], Span | None]:
    def describe(connection: ConnectionWrapper) -> Span | None:
        parent = current_span()
        if parent is None:
            return None
        tags = {standard.SPAN_KIND: standard.SPAN_KIND_RPC_CLIENT}
        return start_child_span(f"{connection._module_name}:{operation}", parent=parent, tags=tags)

    return describe


def _block(connection: ConnectionWrapper) -> Span:
    return child_span(f"{connection._module_name}:begin_transaction")


def _end_of_block(connection: ConnectionWrapper, exc: Any) -> Span | None:
    if not _ends_transaction(type(connection.__wrapped__)):
        return None
    return _transaction(_COMMIT if exc is None else _ROLLBACK)(connection)


def _ends_transaction(connection_class: type) -> bool:
    """Tell whether a connection's block ends in a commit or rollback. Some drivers just close the connection."""
    code = getattr(getattr(connection_class, "__exit__", None), "__code__", None)
    return code is None or not {"commit", "rollback"}.isdisjoint(code.co_names)


class ConnectionWrapper(wrapt.ObjectProxy):  # type: ignore[misc]
    """A connection whose cursors, commits and rollbacks are traced; all else is the driver's.

    Args:
        connection: the driver's connection.
        module_name: the driver's name in the names of spans.
        connect_params: the arguments of the connection as ``(args, kwargs)``, without secrets.
        cursor_wrapper: makes the traced cursor of the driver's, as :class:`CursorWrapper` does.
    """

    __slots__ = ("_connect_params", "_cursor_wrapper", "_module_name")

    def __init__(
        self, connection: Any, module_name: str, connect_params: Any, cursor_wrapper: Callable[..., Any]
    ) -> None:
        super().__init__(connection)
        self._module_name = module_name
        self._connect_params = connect_params
        self._cursor_wrapper = cursor_wrapper

    def __enter__(self) -> Any:
        entered = self.__wrapped__.__enter__()
        return self if entered is self.__wrapped__ else self._traced_cursor(entered)

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Return the driver's cursor, traced."""
        return self._traced_cursor(self.__wrapped__.cursor(*args, **kwargs), (args, kwargs))

    def _traced_cursor(self, cursor: Any, params: tuple[Any, Any] = ((), {})) -> Any:
        return self._cursor_wrapper(
            cursor=cursor,
            module_name=self._module_name,
            connect_params=self._connect_params,
            cursor_params=params if any(params) else None,
        )

    @_traced(_transaction(_BEGIN))
    def begin(self) -> Any:
        """Call the driver's ``begin``, in a span."""
        return self.__wrapped__.begin()

    @_traced(_transaction(_COMMIT))
    def commit(self) -> Any:
        """Call the driver's ``commit``, in a span."""
        return self.__wrapped__.commit()

    @_traced(_transaction(_ROLLBACK))
    def rollback(self) -> Any:
        """Call the driver's ``rollback``, in a span."""
        return self.__wrapped__.rollback()


class ContextManagerConnectionWrapper(ConnectionWrapper):
    """A connection whose block, too, is traced: its begin, and the commit or rollback in which it ends."""

    __slots__ = ()

    @_traced(_block)
    def __enter__(self) -> Any:
        return ConnectionWrapper.__enter__(self)

    @_traced(_end_of_block)
    def __exit__(self, exc: Any, value: Any, tb: Any) -> Any:
        return self.__wrapped__.__exit__(exc, value, tb)

    @property
    def _sqla_unwrap(self) -> Any:
        """The driver's connection, for SQLAlchemy."""
        return self.__wrapped__


def _connecting(factory: ConnectionFactory) -> Span:
    return child_span(factory._operation, {standard.SPAN_KIND: standard.SPAN_KIND_RPC_CLIENT})


class ConnectionFactory:
    """A driver's ``connect``, with traced connections.

    Args:
        connect_func: the driver's.
        module_name: the driver's name in the names of spans.
        conn_wrapper_ctor: makes the traced connection; :class:`ConnectionWrapper` by default.
        cursor_wrapper: makes the traced cursors; :class:`CursorWrapper` by default.
    """

    def __init__(
        self,
        connect_func: Callable[..., Any],
        module_name: str,
        conn_wrapper_ctor: Callable[..., Any] | None = None,
        cursor_wrapper: Callable[..., Any] = CursorWrapper,
    ) -> None:
        self._connect_func = connect_func
        self._module_name = module_name
        self._operation = f"{module_name}:{getattr(connect_func, '__name__', connect_func)}"
        self._names = positional_names(connect_func)
        self._wrapper_ctor = conn_wrapper_ctor or ConnectionWrapper
        self._cursor_wrapper = cursor_wrapper

    @_traced(_connecting)
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Connect with the driver's own arguments; return the traced connection."""
        connection = self._connect_func(*args, **kwargs)
        params = shown(args, kwargs, self._names)
        return self._wrapper_ctor(
            connection=connection,
            module_name=self._module_name,
            connect_params=tuple(params) if any(params) else None,
            cursor_wrapper=self._cursor_wrapper,
        )
