"""What the spans of a driver tell of its connections and cursors, for the hooks that trace a driver's own classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from opentracing import Span
from opentracing.ext import tags as standard

from .._core.calls import Switch
from .._core.patching import CallPatch, mark
from .._core.side_table import SideTable
from .._core.tags import PEER_HOST_IPV6
from ..utils import child_span, peer_tags, start_child_span
from ._comments import Comments
from ._connect_params import Arguments
from ._dbapi2 import Statement, description, is_of_mysql, parent_of_statement, statement_span

#: How the spans of a driver are named.
SPANS = (
    "`{module}:` and the first word of the statement, comments aside: `{module}:SELECT` (nothing, if it has just one, "
    "or for a procedure); `{module}:{connect}`, `{module}:commit`, `{module}:rollback`, `{module}:begin_transaction`"
)
#: The tags of the spans of any driver, and what they mean.
TAGS: Mapping[str, str] = {
    standard.SPAN_KIND: "`client`",
    standard.PEER_HOST_IPV4: "the server's host, if it is an IPv4 address",
    PEER_HOST_IPV6: "if it is an IPv6 address",
    standard.PEER_HOSTNAME: "if it is a name; none of the three for a socket of this machine's",
    standard.PEER_PORT: "the server's port",
    standard.DATABASE_USER: "the user",
    standard.DATABASE_INSTANCE: "the database",
    "sql": "the statement, or `sproc:` and the name of a procedure; bound parameters are not in it",
    "sql.params": "the statement's bound parameters, only with `CONFIG.capture_sql_parameters`",
    "sql.conn": "the arguments of `connect` without secrets, as a tuple of positional and keyword arguments",
    "sql.cursor": "the arguments of `cursor`, if it had any, in the same form",
}
#: The settings that they heed.
SETTINGS = (
    *("capture_sql_parameters", "nest_driver_spans", "secret_query_parameters", "legacy_peer_tags"),
    *("n_plus_one_threshold", "sql_comments", "app_name"),
)

_Method = TypeVar("_Method", bound=Callable[..., Any])


class Endpoint(NamedTuple):
    """Where a connection leads, as far as known."""

    host: str | None = None
    port: int | None = None
    user: str | None = None
    database: str | None = None

    def tags(self) -> dict[str, Any]:
        """Return the tags that tell of it; none of a host that is a path: that is a socket of this machine's."""
        tags: dict[str, Any] = {}
        if self.host and self.host[0] not in "/@":
            tags.update(peer_tags(self.host, self.port))
        if self.user:
            tags[standard.DATABASE_USER] = self.user
        if self.database:
            tags[standard.DATABASE_INSTANCE] = self.database
        return tags


_Inner = Callable[[Callable[..., Any], Switch], Callable[..., Any]]


class DriverPatch(CallPatch):
    """Traces the calls of a driver's method; see :func:`description`.

    Args:
        inner: makes a function of the driver's to be called in its place; with the switch off, it calls through.
    """

    def __init__(
        self, target: str, describe: Callable[..., Any], idle: Callable[[], bool], inner: _Inner | None = None
    ) -> None:
        super().__init__(target, describe)
        self._description = description(describe, target, idle)
        self._inner = inner

    def replacement_for(self, original: Any) -> Any:
        return super().replacement_for(self._inner(original, self.switch) if self._inner else original)


def traced(target: str, inner: _Inner | None = None) -> Callable[[_Method], _Method]:
    """Mark a method of a driver's hook as the description of calls, as ``trace`` does; see :class:`DriverPatch`."""
    return mark([lambda patcher, method: DriverPatch(target, method, patcher.idle, inner)])


class _Known(NamedTuple):
    """The tags of a connection's spans, and those of its statements' besides."""

    tags: dict[str, Any]
    statement_tags: dict[str, Any]


class Driver:
    """What the spans of one driver have in common, and what they tell of its connections and cursors.

    Args:
        module_name: the driver's name in the names of spans.
        db_type: the database's.
        endpoint_of: tells where a connection leads.
        facts_of: tells, for comments, what is known of its module; see :class:`Comments`.
    """

    def __init__(
        self,
        module_name: str,
        db_type: str,
        endpoint_of: Callable[[Any], Endpoint],
        facts_of: Callable[[Any], Mapping[str, Any]],
    ) -> None:
        self.module_name = module_name
        self.comments = Comments(module_name, db_type, facts_of)
        self._tags = {
            standard.SPAN_KIND: standard.SPAN_KIND_RPC_CLIENT,
            standard.COMPONENT: module_name,
            standard.DATABASE_TYPE: db_type,
        }
        self._is_mysql = is_of_mysql(module_name)
        self._endpoint_of = endpoint_of
        self._connections: SideTable[_Known] = SideTable()
        self._cursor_params: SideTable[Arguments] = SideTable()

    def connecting(self, function_name: str, endpoint: Endpoint) -> tuple[Span, dict[str, Any]]:
        """Begin the span of connecting; return it with the tags that it has."""
        tags = {**self._tags, **endpoint.tags()}
        return child_span(f"{self.module_name}:{function_name}", tags.copy()), tags

    def connected(self, connection: Any, params: Arguments, span: Span, tags: dict[str, Any]) -> None:
        """Tag what was not known before connecting, and remember all that, and the arguments, for the statements."""
        all_tags = {**tags, **self._endpoint_of(connection).tags()}
        for name in all_tags.keys() - tags.keys():
            span.set_tag(name, all_tags[name])
        conn = {"sql.conn": tuple(params)} if any(params) else {}
        self._connections.put(connection, _Known(all_tags, {**all_tags, **conn}))

    def opened(self, cursor: Any, params: Arguments) -> None:
        """Remember with which arguments a cursor was made, if it is of a kind that can be forgotten again."""
        if any(params):
            try:
                self._cursor_params.put(cursor, params)
            except TypeError:  # no weak references to it
                return

    def statement(
        self, cursor: Any, statement: Any, parameters: Any = None, gets_comment: bool = False
    ) -> Statement | None:
        """Begin the span of a statement, unless it is not to be traced; of the span, its comment may tell."""
        parent = parent_of_statement(cursor)
        if parent is None:
            return None
        connection = cursor.connection
        known = self._connections.get(connection) or self._look(connection)
        params = self._cursor_params.get(cursor)
        tags = known.statement_tags.copy()
        span = statement_span(parent, self.module_name, statement, tags, parameters, cursor_params=params)
        if gets_comment and not self.comments.are_off:
            self.comments.begin(cursor, span)
        return Statement(span, parent, statement, parameters, self._is_mysql)

    def transaction(self, connection: Any, operation: str) -> Span | None:
        """Begin the span of a transaction's begin, commit or rollback, unless it is not to be traced."""
        parent = parent_of_statement(connection)
        if parent is None:
            return None
        known = self._connections.get(connection) or self._look(connection)
        return start_child_span(f"{self.module_name}:{operation}", parent=parent, tags=known.tags.copy())

    def _look(self, connection: Any) -> _Known:
        try:
            tags = {**self._tags, **self._endpoint_of(connection).tags()}
        except Exception:  # it is closed or in use by another thread, its cursor is closed, it is a test's mock
            return _Known(self._tags, self._tags)
        known = _Known(tags, tags)
        self._connections.put(connection, known)
        return known
