"""psycopg2: one client span for each connection, statement, COPY, commit and rollback.

psycopg2 is written in C: its classes can't be patched, and its functions refuse anything but their instances. So the
connection that ``connect`` gives is an instance of a subclass, with :class:`ConnectionWrapper` between the driver's
class and that of the application, if it has one (``connection_factory``), and it gives out such cursors
(:class:`CursorWrapper`). What the application's own classes do stays theirs; what they hand on is traced.

- ``psycopg2._connect`` is what ``connect`` calls, also where it was imported by name before patching.
- ``psycopg2.connect`` tells with which arguments it was called, for the tag ``sql.conn``.
- The methods of the two classes of this module are traced; resetting stops it for live connections, too.

A cursor class that calls the driver by its name (``extensions.cursor.execute(self, ...)``) instead of ``super()`` gets
its :class:`CursorWrapper` in front.

An asynchronous connection does its work in ``poll()``: the span of a statement or of connecting ends there. Not traced
are connections made before patching or by calling a class instead of ``connect``, and what a factory function makes of
the driver's very class; for those there is :func:`instrument_connection`.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Generator, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, ClassVar
from weakref import WeakValueDictionary

from opentracing import Span
from opentracing.ext import tags as standard

from .._core.calls import Switch, idle_database, instrument
from .._core.patching import AttributePatch, Patch, Patcher, replace
from .._core.safety import report
from .._core.side_table import SideTable
from ..utils import child_span
from ._connect_params import Arguments, is_secret, shown
from ._dbapi2 import _COMMIT, _ROLLBACK, STATUS_CODE, ConnectionFactory, description
from ._driver import SETTINGS, SPANS, TAGS, Driver, Endpoint, traced
from ._singleton import singleton

__all__ = ["ConnectionFactory", "ConnectionWrapper", "CursorWrapper", "Psycopg2Patcher", "instrument_connection"]

#: The driver, once it is imported and patched.
psycopg2: Any = None

_Base: Any = object
_arguments: ContextVar[Any] = ContextVar("opentracing_instrumentation.psycopg2", default=None)


class _Itself:
    """The attribute ``__wrapped__`` of what needs no unwrapping; only instances have it."""

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            raise AttributeError("__wrapped__")
        return instance


class ConnectionWrapper(_Base):  # type: ignore[misc]
    """What stands between the application's connection class and the driver's: the base of all traced connections."""

    __slots__ = ()
    __wrapped__ = _Itself()

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        return super().cursor(*args, **kwargs)

    def commit(self) -> Any:
        return super().commit()

    def rollback(self) -> Any:
        return super().rollback()

    def poll(self) -> Any:
        return super().poll()

    def __enter__(self) -> Any:
        return super().__enter__()


class CursorWrapper(_Base):  # type: ignore[misc]
    """What stands between the application's cursor class and the driver's: the base of all traced cursors."""

    __slots__ = ()
    __wrapped__ = _Itself()

    def execute(self, query: Any, vars: Any = None) -> Any:  # noqa: A002
        return super().execute(query, vars)

    def executemany(self, query: Any, vars_list: Any) -> Any:
        return super().executemany(query, vars_list)

    def callproc(self, procname: Any, parameters: Any = None) -> Any:
        return super().callproc(procname, parameters)

    def copy_expert(self, sql: Any, *args: Any, **kwargs: Any) -> Any:
        return super().copy_expert(sql, *args, **kwargs)

    def copy_from(self, file: Any, table: Any, *args: Any, **kwargs: Any) -> Any:
        return super().copy_from(file, table, *args, **kwargs)

    def copy_to(self, file: Any, table: Any, *args: Any, **kwargs: Any) -> Any:
        return super().copy_to(file, table, *args, **kwargs)


class _Family:
    """The traced subclasses of the driver's class and of the application's, made once and forgotten with those.

    Args:
        wrapper: what is put between the driver's class and the application's.
        driver_class: the driver's.
        in_front: whether the wrapper may come before the application's class, if that calls the driver's by name.
    """

    def __init__(self, wrapper: type, driver_class: type, in_front: bool) -> None:
        self._wrapper = wrapper
        self._driver_class = driver_class
        self._in_front = in_front
        self._plain = _subclass(driver_class, (wrapper, driver_class))
        self._made: WeakValueDictionary[type, type] = WeakValueDictionary()

    def of(self, factory: Any) -> Any:
        """Return the traced subclass of a class, or what else may be a factory as it is."""
        if factory is None or factory is self._driver_class:
            return self._plain
        if not isinstance(factory, type):
            return factory
        try:
            made = self._made.get(factory)
            return self._derived(factory) if made is None else made
        except Exception as error:  # say, an __init_subclass__ with a mind of its own
            report(f"deriving a traced class from {factory!r}", error)
            return factory

    def _derived(self, factory: type) -> type:
        if not issubclass(factory, self._driver_class) or issubclass(factory, self._wrapper):
            return factory
        in_front = self._in_front and self._is_bypassed_by(factory)
        made = _subclass(factory, (self._wrapper, factory) if in_front else (factory, self._plain))
        self._made[factory] = made
        return made

    def _is_bypassed_by(self, cls: type) -> bool:
        """Tell whether a method calls its namesake by another way than ``super()``: it can only be the driver's."""
        for base in cls.__mro__[: cls.__mro__.index(self._driver_class)]:
            for name in vars(self._wrapper).keys() & vars(base).keys():
                code = getattr(vars(base)[name], "__code__", None)
                if code is not None and name in code.co_names and "super" not in code.co_names:
                    return True
        return False

    def adopt(self, made: Any) -> Any:
        """Trace what a factory function made, if that is of a class of the application's."""
        cls = type(made)
        if cls is not self._driver_class and issubclass(cls, self._driver_class):
            try:
                made.__class__ = self.of(cls)
            except Exception as error:
                report(f"tracing an object of {cls!r}", error)
        return made


def _subclass(cls: type, bases: tuple[type, ...]) -> type:
    names = ("__module__", "__qualname__", "__doc__")
    return type(cls.__name__, bases, {"__slots__": (), **{name: getattr(cls, name) for name in names}})


@functools.cache
def _families(extensions: types.ModuleType) -> tuple[_Family, _Family]:
    """Return the traced connection classes and the traced cursor classes."""
    connections = _Family(ConnectionWrapper, extensions.connection, in_front=False)
    return connections, _Family(CursorWrapper, extensions.cursor, in_front=True)


_flights: SideTable[_Flight] = SideTable()


class _Flight:
    """The span of what an asynchronous connection is doing: it ends when ``poll()`` says so, or with the connection.

    It stands in for the span of the call that begins the work, and of each ``poll()`` that may end it.
    """

    __slots__ = ("_connection", "_span", "over")

    def __init__(self, span: Any, connection: Any = None) -> None:
        self._span = span
        self._connection = connection  # held only until the call that begins the work returns
        self.over = True

    def depart(self, connection: Any) -> None:
        """Let the call that begins the work return without its end."""
        self._connection = connection

    def set_tag(self, name: str, value: Any) -> None:
        self._span.set_tag(name, value)

    def finish(self) -> None:
        """Note that a call returned, the one that begins the work or a ``poll()``."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self.over = False
            _flights.put(connection, self)
        elif self.over and self._span is not None:
            span, self._span = self._span, None
            span.finish()

    def __exit__(self, *error: Any) -> None:
        """Note that a call raised."""
        span, self._span = self._span, None
        span.__exit__(*error)

    def __del__(self) -> None:
        self._connection, self.over = None, True
        try:
            self.finish()
        except Exception as error:
            report("finishing the span of an abandoned asynchronous statement", error)


def _endpoint_of(connection: Any) -> Endpoint:
    info = connection.info
    return Endpoint(info.host, info.port, info.user, info.dbname)


def _facts_of(module: Any) -> dict[str, Any]:
    version, _, _ = module.__version__.partition(" ")
    return {"db_driver": f"psycopg2:{version}", "libpq_version": module.__libpq_version__}


_driver = Driver("psycopg2", "postgresql", _endpoint_of, _facts_of)
set_comments = _driver.comments.set_comments


class _ConnectPatch(AttributePatch):
    """Has ``psycopg2._connect`` make connections of a traced class, and traces it."""

    effect = "calls are traced, and make connections of a traced subclass"

    def apply(self, module: types.ModuleType) -> None:
        globals()["psycopg2"] = module
        super().apply(module)

    def replacement_for(self, original: Any) -> Any:
        switch = self.switch
        connections = _families(psycopg2.extensions)[0]

        def _connect(dsn: Any, connection_factory: Any = None, *args: Any, **kwargs: Any) -> Any:
            if not switch.active:
                return original(dsn, connection_factory, *args, **kwargs)
            return connections.adopt(original(dsn, connections.of(connection_factory), *args, **kwargs))

        # described even with no tracer set: the arguments are for the statements to come
        return instrument(_connect, description(_connecting, self.target, idle=lambda: False), switch)


def _connecting(dsn: Any, *_: Any, **__: Any) -> Generator[Any, Any, None]:
    args, kwargs = _arguments.get() or ((dsn,), {})
    _arguments.set(None)  # not those of what the application's factory connects
    span, tags = _driver.connecting("connect", _endpoint_in(_parsed(dsn)))
    flight = _Flight(span)
    connection = yield flight
    if not isinstance(connection, psycopg2.extensions.connection):
        return  # whatever the application's factory makes
    _driver.connected(connection, _shown(args, kwargs), span, tags)
    if connection.async_:
        flight.depart(connection)


def _parsed(dsn: Any) -> dict[str, str]:
    return psycopg2.extensions.parse_dsn(dsn)  # type: ignore[no-any-return]


def _endpoint_in(parameters: Mapping[str, str]) -> Endpoint:
    host, port = parameters.get("host"), parameters.get("port", "")
    if host and "," in host:  # the one that answers
        host = None
    return Endpoint(host, int(port) if port.isdecimal() else None, parameters.get("user"), parameters.get("dbname"))


def _shown(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
    """Return the arguments of ``connect`` without secrets."""
    if args and isinstance(args[0], str):
        args = (_without_secrets(args[0]), *args[1:])
    elif isinstance(kwargs.get("dsn"), str):
        kwargs = {**kwargs, "dsn": _without_secrets(kwargs["dsn"])}
    return shown(args, kwargs, ("dsn", "connection_factory", "cursor_factory"))


def _without_secrets(dsn: str) -> str:
    kept = {name: value for name, value in _parsed(dsn).items() if not is_secret(name)}
    return psycopg2.extensions.make_dsn(**kept)  # type: ignore[no-any-return]


def _commenting(original: Any, switch: Switch) -> Any:
    """Return an ``execute`` whose statements get comments."""

    @functools.wraps(original)
    def execute(self: Any, query: Any, vars: Any = None) -> Any:  # noqa: A002
        if switch.active and not _driver.comments.are_off:
            query = _commented(self, query, vars)
        return original(self, query, vars)

    return execute


def _commenting_all(original: Any, switch: Switch) -> Any:
    """Return an ``executemany`` whose statements get comments."""

    @functools.wraps(original)
    def executemany(self: Any, query: Any, vars_list: Any) -> Any:
        if switch.active and not _driver.comments.are_off:
            query = _commented(self, query, vars_list)
        return original(self, query, vars_list)

    return executemany


def _commented(cursor: Any, query: Any, parameters: Any) -> Any:
    """Return a statement with its comment: a ``Composable`` remains one, of the text that the driver makes of it."""
    text = _rendered(query, cursor)
    commented = _driver.comments.commented(cursor, text, parameters)
    if commented is text:
        return query
    return commented if text is query else psycopg2.sql.SQL(commented)


def instrument_connection(connection: Any) -> Any:
    """Have a connection traced, while the hook is installed, that was not made by ``connect`` or before patching.

    Args:
        connection: the connection, which may be in use. One of the driver's very class gets a traced class for its
            ``cursor_factory``: the statements of the cursors that it makes from now on are traced, but for those made
            with another ``cursor_factory``; its commits and rollbacks are not. One of the application's class is traced
            as if ``connect`` had made it.

    Returns:
        the connection itself.

    Raises:
        TypeError: it is no connection of psycopg2's.

    Once more for the same connection: nothing happens. Thread-safe as far as the connection is.
    """
    from psycopg2 import extensions

    if not isinstance(connection, extensions.connection):
        raise TypeError(f"{connection!r} is no connection of psycopg2")
    connections, cursors = _families(extensions)
    connections.adopt(connection)
    if not isinstance(connection, ConnectionWrapper):
        connection.cursor_factory = cursors.of(connection.cursor_factory)
    return connection


class Psycopg2Patcher(Patcher):
    """Traces psycopg2."""

    library: ClassVar[str | None] = "psycopg2"
    supports = ">=2.8"
    spans = SPANS.format(module="psycopg2", connect="connect")
    tags: ClassVar[Mapping[str, str]] = {
        **TAGS,
        standard.COMPONENT: "`psycopg2`",
        standard.DATABASE_TYPE: "`postgresql`",
        STATUS_CODE: "the SQLSTATE of the database's error, if that is how it ends",
    }
    settings = SETTINGS
    idle = staticmethod(idle_database)

    def patches(self) -> Iterable[Patch]:
        yield _ConnectPatch("psycopg2:_connect")
        yield from super().patches()

    @replace("psycopg2:connect")
    def connect(self, original: Any) -> Any:
        """Make a ``connect`` that leaves its arguments to the one that does the work."""

        @functools.wraps(original)
        def connect(*args: Any, **kwargs: Any) -> Any:
            token = _arguments.set((args, kwargs))
            try:
                return original(*args, **kwargs)
            finally:
                _arguments.reset(token)

        return connect

    @replace(f"{__name__}:ConnectionWrapper.cursor")
    def cursor(self, original: Any) -> Any:
        """Make a ``cursor`` that asks the driver for one of a traced class."""

        @functools.wraps(original)
        def cursor(connection: Any, *args: Any, **kwargs: Any) -> Any:
            cursors = _families(psycopg2.extensions)[1]
            asked = args[1] if len(args) > 1 else kwargs.get("cursor_factory")
            factory = cursors.of(connection.cursor_factory if asked is None else asked)
            if len(args) > 1:
                made = original(connection, args[0], factory, *args[2:], **kwargs)
            else:
                made = original(connection, *args, **{**kwargs, "cursor_factory": factory})
            made = cursors.adopt(made)
            _driver.opened(made, Arguments(args, kwargs))
            return made

        return cursor

    @traced(f"{__name__}:CursorWrapper.execute", _commenting)
    def execute(self, cursor: Any, query: Any, vars: Any) -> Any:  # noqa: A002
        return self._statement(cursor, query, vars, gets_comment=True)

    @traced(f"{__name__}:CursorWrapper.executemany", _commenting_all)
    def executemany(self, cursor: Any, query: Any, vars_list: Any) -> Any:
        return self._statement(cursor, query, vars_list, gets_comment=True)

    @traced(f"{__name__}:CursorWrapper.callproc")
    def callproc(self, cursor: Any, procname: Any, parameters: Any) -> Any:
        return self._statement(cursor, f"sproc:{procname}", parameters)

    @traced(f"{__name__}:CursorWrapper.copy_expert")
    def copy_expert(self, cursor: Any, sql: Any) -> Any:
        return self._statement(cursor, sql)

    @traced(f"{__name__}:CursorWrapper.copy_from")
    def copy_from(self, cursor: Any, table: Any) -> Any:
        return self._statement(cursor, f"COPY {table} FROM STDIN")

    @traced(f"{__name__}:CursorWrapper.copy_to")
    def copy_to(self, cursor: Any, table: Any) -> Any:
        return self._statement(cursor, f"COPY {table} TO STDOUT")

    @traced(f"{__name__}:ConnectionWrapper.commit")
    def commit(self, connection: Any) -> Span | None:
        return _driver.transaction(connection, _COMMIT)

    @traced(f"{__name__}:ConnectionWrapper.rollback")
    def rollback(self, connection: Any) -> Span | None:
        return _driver.transaction(connection, _ROLLBACK)

    @traced(f"{__name__}:ConnectionWrapper.__enter__")
    def block(self, connection: Any) -> Span:
        return child_span("psycopg2:begin_transaction")

    @traced(f"{__name__}:ConnectionWrapper.poll")
    def poll(self, connection: Any) -> Generator[Any, Any, None]:
        flight = _flights.get(connection)
        if flight is None:
            return
        flight.over = True
        try:
            flight.over = (yield flight) == psycopg2.extensions.POLL_OK
        finally:
            if flight.over:
                _flights.pop(connection)

    def _statement(self, cursor: Any, statement: Any, parameters: Any = None, gets_comment: bool = False) -> Any:
        span = _driver.statement(cursor, _rendered(statement, cursor), parameters, gets_comment)
        if span is None or not cursor.connection.async_:
            return span
        return _Flight(span, cursor.connection)


def _rendered(query: Any, cursor: Any) -> Any:
    """Return the text of a ``psycopg2.sql.Composable``, and anything else as it is."""
    if type(query) is str or not hasattr(query, "as_string"):
        return query
    try:
        return query.as_string(cursor)
    except Exception:  # the driver will do the same, and tell
        return None


patcher: Psycopg2Patcher
set_patcher: Callable[[Patcher], None]
install_patches: Any
reset_patches: Callable[[], None]

Psycopg2Patcher.configure_hook_module(globals(), run_once=singleton)
