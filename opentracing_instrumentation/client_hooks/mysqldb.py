"""MySQLdb (mysqlclient): one client span for each connection, statement, commit and rollback.

The methods of the driver's Python classes are traced, which all connections and cursors have, those of the
application's subclasses, too, whenever and by whatever name of ``connect`` they were made.

- ``Connection.__init__`` is what every connection begins with.
- ``BaseCursor.execute`` and ``executemany`` are one span each, although the latter calls the former for every batch;
  ``callproc`` is the third way to send a statement.
- ``Connection.commit`` and ``rollback`` are the C class's: what is patched is an attribute of the Python class.
- ``Connection.cursor`` tells which class of cursor was asked for, for the tag ``sql.cursor``.

``Connection.query`` is not traced: it is what all of these end in.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Generator, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, ClassVar

from opentracing import Span
from opentracing.ext import tags as standard

from .._core.calls import Switch, idle_database
from .._core.patching import Patch, Patcher, replace
from ..utils import child_span
from ._connect_params import Arguments, shown
from ._dbapi2 import _BEGIN, _COMMIT, _ROLLBACK, STATUS_CODE, ConnectionFactory, Statement
from ._dbapi2 import ContextManagerConnectionWrapper as ConnectionWrapper
from ._driver import SETTINGS, SPANS, TAGS, Driver, DriverPatch, Endpoint, traced

__all__ = ["ConnectionFactory", "ConnectionWrapper", "MySQLdbPatcher"]

_PARAMETERS = ("host", "user", "password", "database", "port", "unix_socket")
_DEFAULT_PORT = 3306

#: The cursor whose ``executemany`` is being executed.
_batch: ContextVar[Any] = ContextVar("opentracing_instrumentation.mysqldb", default=None)


def _asked_for(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Endpoint:
    """Return where a connection with these arguments leads, as far as they tell; an option file may tell more."""
    given = {**dict(zip(_PARAMETERS, args, strict=False)), **kwargs}
    host = given.get("host")
    if host == "localhost" or given.get("unix_socket"):  # what libmysqlclient takes for its socket
        host = None
    return Endpoint(
        host, given.get("port") or _DEFAULT_PORT, given.get("user"), given.get("database") or given.get("db")
    )


def _endpoint_of(connection: Any) -> Endpoint:
    """Return where a connection leads: over TCP that is told as in "192.0.2.1 via TCP/IP"."""
    host, _, way = connection.get_host_info().partition(" via ")
    is_remote = way.startswith("TCP")
    user, database = (getattr(connection, name, None) for name in ("user", "database"))
    return Endpoint(host if is_remote else None, connection.port, user, database)


def _facts_of(module: Any) -> dict[str, Any]:
    return {"db_driver": f"MySQLdb:{module.release.__version__}", "mysql_client_version": module.get_client_info()}


_driver = Driver("MySQLdb", "mysql", _endpoint_of, _facts_of)
set_comments = _driver.comments.set_comments


def _commenting(original: Any, switch: Switch) -> Any:
    """Return an ``execute`` whose statements get comments, except for those of an ``executemany``.

    The driver makes one statement for all rows of that only as long as it has no comment.
    """

    @functools.wraps(original)
    def execute(self: Any, query: Any, args: Any = None) -> Any:
        if switch.active and not _driver.comments.are_off and _batch.get() is not self:
            query = _driver.comments.commented(self, query, args)
        return original(self, query, args)

    return execute


def _in_batch(original: Any, _: Switch) -> Any:
    """Return an ``executemany`` of which ``execute`` knows."""

    @functools.wraps(original)
    def executemany(self: Any, query: Any, args: Any) -> Any:
        token = _batch.set(self)
        try:
            return original(self, query, args)
        finally:
            _batch.reset(token)

    return executemany


class MySQLdbPatcher(Patcher):
    """Traces MySQLdb."""

    library: ClassVar[str | None] = "MySQLdb"
    supports = ">=2.0"
    spans = SPANS.format(module="MySQLdb", connect="Connect")
    tags: ClassVar[Mapping[str, str]] = {
        **TAGS,
        standard.COMPONENT: "`MySQLdb`",
        standard.DATABASE_TYPE: "`mysql`",
        STATUS_CODE: "the number of the database's error, if that is how it ends",
    }
    settings = SETTINGS
    idle = staticmethod(idle_database)

    def patches(self) -> Iterable[Patch]:
        # described even with no tracer set: the arguments are for the statements to come
        yield DriverPatch("MySQLdb.connections:Connection.__init__", self.connect, idle=lambda: False)
        yield from super().patches()

    def connect(self, connection: Any, *args: Any, **kwargs: Any) -> Generator[Any, Any, None]:
        span, tags = _driver.connecting("Connect", _asked_for(args, kwargs))
        yield span
        _driver.connected(connection, shown(args, kwargs, _PARAMETERS), span, tags)

    @replace("MySQLdb.connections:Connection.cursor")
    def cursor(self, original: Any) -> Any:
        """Make a ``cursor`` whose arguments are remembered."""

        @functools.wraps(original)
        def cursor(connection: Any, *args: Any, **kwargs: Any) -> Any:
            made = original(connection, *args, **kwargs)
            _driver.opened(made, Arguments(args, kwargs))
            return made

        return cursor

    @traced("MySQLdb.cursors:BaseCursor.execute", _commenting)
    def execute(self, cursor: Any, query: Any, args: Any) -> Statement | None:
        return None if _batch.get() is cursor else _driver.statement(cursor, query, args, gets_comment=True)

    @traced("MySQLdb.cursors:BaseCursor.executemany", _in_batch)
    def executemany(self, cursor: Any, query: Any, args: Any) -> Statement | None:
        return _driver.statement(cursor, query, args)

    @traced("MySQLdb.cursors:BaseCursor.callproc")
    def callproc(self, cursor: Any, procname: Any, args: Any) -> Statement | None:
        name = procname.decode("utf-8", "ignore") if isinstance(procname, bytes) else procname
        return _driver.statement(cursor, f"sproc:{name}", args)

    @traced("MySQLdb.connections:Connection.begin")
    def begin(self, connection: Any) -> Span | None:
        return _driver.transaction(connection, _BEGIN)

    @traced("MySQLdb.connections:Connection.commit")
    def commit(self, connection: Any) -> Span | None:
        return _driver.transaction(connection, _COMMIT)

    @traced("MySQLdb.connections:Connection.rollback")
    def rollback(self, connection: Any) -> Span | None:
        return _driver.transaction(connection, _ROLLBACK)

    @traced("MySQLdb.connections:Connection.__enter__")
    def block(self, connection: Any) -> Span:
        return child_span("MySQLdb:begin_transaction")


def __getattr__(name: str) -> Any:
    """Give the driver's ``connect`` under the name by which versions before 4.0 kept it."""
    if name == "_MySQLdb_connect":
        return importlib.import_module("MySQLdb").connect
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


patcher: MySQLdbPatcher
set_patcher: Callable[[Patcher], None]
install_patches: Callable[[], None]
reset_patches: Callable[[], None]

MySQLdbPatcher.configure_hook_module(globals())
