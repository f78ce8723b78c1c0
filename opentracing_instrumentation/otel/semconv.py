"""Tags of OpenTracing as attributes of OpenTelemetry's semantic conventions: one table, and the rules that it names.

Each tag that hooks, middleware or OpenTracing's own list know has a line in :data:`TABLE`: what becomes of it by the
conventions of today (``stable``; https://opentelemetry.io/docs/specs/semconv/, 1.44.0) and by those of before their
first stable release (``old``); ``dup`` is both. A tag without a line is an attribute of the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from functools import lru_cache
from ipaddress import ip_address
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from opentelemetry.trace import SpanKind
from opentracing.ext import tags as standard

from .._core.statements import summarize
from .._core.tags import HTTP_RESEND_COUNT, PEER_HOST_IPV6
from .names import NAMING, span_name
from .values import attempt, plain

if TYPE_CHECKING:
    from .span import Span

# Looked up once: up to Python 3.11, to get at a member of an enumeration costs as much as a call.
_INTERNAL, _CLIENT, _SERVER = SpanKind.INTERNAL, SpanKind.CLIENT, SpanKind.SERVER
_PRODUCER, _CONSUMER = SpanKind.PRODUCER, SpanKind.CONSUMER
_KINDS = {
    standard.SPAN_KIND_RPC_CLIENT: _CLIENT,
    standard.SPAN_KIND_RPC_SERVER: _SERVER,
    standard.SPAN_KIND_PRODUCER: _PRODUCER,
    standard.SPAN_KIND_CONSUMER: _CONSUMER,
    "internal": _INTERNAL,
}
_SERVING = (_SERVER, _CONSUMER)

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"))
_SYSTEMS = {
    "postgres": "postgresql",
    "mssql": "microsoft.sql_server",
    "oracle": "oracle.db",
    "db2": "ibm.db2",
    "sql": "other_sql",
}
#: Where databases listen by default, by the tag of their type.
_PORTS = {
    "postgres": 5432,
    "postgresql": 5432,
    "mysql": 3306,
    "mariadb": 3306,
    "redis": 6379,
    "mssql": 1433,
    "oracle": 1521,
}
#: By the name of an AWS service: the messaging system, and what its operations do with messages.
_AWS_MESSAGING = {"sqs": "aws_sqs", "sns": "aws.sns"}
_MESSAGE_OPERATIONS = {
    "SendMessage": "send",
    "SendMessageBatch": "send",
    "Publish": "send",
    "PublishBatch": "send",
    "ReceiveMessage": "receive",
    "DeleteMessage": "settle",
    "DeleteMessageBatch": "settle",
}


#: Adds to a translation what the value of a tag means.
Rule = Callable[["Translation", Any], None]
#: Tags, each with what becomes of it: an attribute's name, or a rule.
_Steps = tuple[tuple[Any, "Rule | str"], ...]


class Plan:
    """What spans with the same values of some tags have in common. It is worked out once somebody asks for it.

    Args:
        operation: the name that they were given.
        name: the name by the conventions; ``None`` if it follows from other tags.
        kind: their kind.
        constant: the tags whose values they share.
        first: what becomes of these.
        steps: what becomes of the others.
    """

    __slots__ = ("_constant", "_first", "kind", "known", "name", "operation", "steps")

    def __init__(
        self,
        operation: str,
        name: str | None,
        kind: SpanKind,
        constant: Mapping[str, Any],
        first: _Steps,
        steps: _Steps,
    ) -> None:
        self.operation = operation
        self.name = name
        self.kind = kind
        self.steps = steps
        self._constant = constant
        self._first = first
        #: The attributes that the shared tags become, once somebody has asked for them.
        self.known: dict[str, Any] | None = None

    def attributes(self) -> dict[str, Any]:
        """Return the attributes that the shared tags become. The dict is shared, too: copy it, don't change it."""
        if self.known is None:
            common = Translation(self, self._constant)
            common.take(self._first)
            self.known = common.made
        return self.known

    def narrowed(self, tags: Mapping[str, Any], repeated: tuple[str, ...]) -> Plan:
        """Return the plan for those of the spans that share the values of further tags, too."""
        constant = {**self._constant, **{tag: tags[tag] for tag in repeated}}
        first = tuple(step for step in self.steps if step[0] in constant)
        steps = tuple(step for step in self.steps if step[0] not in constant)
        is_named = self.name is None and all(tag in constant for tag in NAMING if tag in tags)
        name = span_name(self.operation, tags) if is_named else self.name
        return Plan(self.operation, name, self.kind, constant, (*self._first, *first), steps)


class Translation(Mapping[str, Any]):
    """The attributes for the tags of a span, worked out when somebody asks for them: nobody does if it is sampled out.

    Args:
        plan: the plan for them.
        tags: the tags.
    """

    __slots__ = ("_is_made", "is_error", "kind", "made", "plan", "tags")

    def __init__(self, plan: Plan, tags: Mapping[str, Any]) -> None:
        self._is_made = False
        #: The attributes that there are by now.
        self.made: dict[str, Any] = {}
        self.plan = plan
        self.kind = plan.kind
        self.tags = tags
        #: Whether the tags say that the span failed, or not; ``None`` if they don't say.
        self.is_error: bool | None = None

    def attributes(self) -> dict[str, Any]:
        """Return the attributes."""
        if not self._is_made:
            self._is_made = True
            plan = self.plan
            self.made = (plan.known or plan.attributes()).copy()
            if plan.steps:
                self.take(plan.steps)
        return self.made

    def take(self, steps: _Steps) -> None:
        """Add what becomes of these tags."""
        made, tags = self.made, self.tags
        for tag, rule in steps:
            value = tags[tag]
            if isinstance(rule, str):
                made[rule] = value if type(value) is str else plain(value)
            else:
                try:
                    rule(self, value)
                except Exception:  # a value of a kind that the rule knows nothing of
                    made[tag] = plain(value)

    def __getitem__(self, name: str) -> Any:
        return self.attributes()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.attributes())

    def __len__(self) -> int:
        return len(self.made or self.attributes())

    def items(self) -> Any:
        return (self.made or self.attributes()).items()

    def copy(self) -> dict[str, Any]:
        """Return the attributes in a dict of the caller's own, as earlier releases of the SDK ask for them."""
        return self.attributes().copy()


class Target(NamedTuple):
    """What becomes of a tag by the conventions of today and by the old ones: an attribute's name, a rule or nothing."""

    stable: str | Rule | None
    old: str | Rule | None


def _nothing(*_: Any) -> None:
    pass


def _both(first: str | Rule | None, second: str | Rule | None) -> str | Rule:
    if first == second or second is None:
        return first or _nothing
    one, other = _as_rule(first), _as_rule(second)

    def both(span: Translation, value: Any) -> None:
        one(span, value)
        other(span, value)

    return both


def _as_rule(target: str | Rule | None) -> Rule:
    if target is None:
        return _nothing
    if not isinstance(target, str):
        return target

    def put(span: Translation, value: Any) -> None:
        span.made[target] = plain(value)

    return put


# Any span


def _span_kind(span: Translation, value: Any) -> None:
    if kind_of(value) is None:
        span.made[standard.SPAN_KIND] = plain(value)


def kind_of(value: Any) -> SpanKind | None:
    """Return the kind of span that a value of the tag ``span.kind`` means."""
    return _KINDS.get(value) if isinstance(value, str) else None


def _error(span: Translation, value: Any) -> None:
    span.is_error = value.lower() not in ("false", "0", "") if isinstance(value, str) else bool(value)


def _integer(name: str) -> Rule:
    def put(span: Translation, value: Any) -> None:
        span.made[name] = value if type(value) is int else attempt(int, value)

    return put


#: Tags beside which a component says nothing that the attributes for them don't say.
_TOLD_BY = (standard.DATABASE_TYPE, "boto3.service_name", "celery.task_name")


def _component(span: Translation, value: Any) -> None:
    if not any(tag in span.tags for tag in _TOLD_BY):
        span.made[standard.COMPONENT] = plain(value)


# Peers


def _peer_service(span: Translation, value: Any) -> None:
    if value != span.tags.get(standard.DATABASE_TYPE):  # as "redis" is, of Redis
        span.made["service.peer.name"] = plain(value)


def _address(value: Any) -> str:
    return str(ip_address(value)) if isinstance(value, int) else str(plain(value))


def _host(span: Translation, value: Any) -> None:
    if span.kind in _SERVING:
        span.made["client.address"] = attempt(_address, value)
    else:
        span.made["server.address"] = attempt(_address, value)


def _ip(span: Translation, value: Any) -> None:
    address = value if type(value) is str else attempt(_address, value)
    span.made.setdefault("client.address" if span.kind in _SERVING else "server.address", address)
    if standard.PEER_HOSTNAME in span.tags:
        span.made["network.peer.address"] = address


def _port(span: Translation, value: Any) -> None:
    port = value if type(value) is int else attempt(int, value)
    if span.kind in _SERVING:
        span.made["client.port"] = port
    else:
        _server_port(span, port)


def _server_port(span: Translation, port: Any) -> None:
    """Tell the port of a server, but for a database's that listens where all of its kind do."""
    if port != _PORTS.get(span.tags.get(standard.DATABASE_TYPE, "")):
        span.made["server.port"] = port


def _old_host(span: Translation, value: Any) -> None:
    span.made["net.peer.name"] = attempt(_address, value)


def _old_ip(span: Translation, value: Any) -> None:
    address = attempt(_address, value)
    if span.kind in _SERVING or standard.PEER_HOSTNAME in span.tags:
        span.made["net.peer.ip"] = address
    else:
        span.made["net.peer.name"] = address


# HTTP


def _http_method(span: Translation, value: Any) -> None:
    if value in _METHODS:
        span.made["http.request.method"] = value
        return
    method = str(plain(value))
    if method.upper() in _METHODS:
        span.made["http.request.method"] = method.upper()
    else:
        span.made["http.request.method"] = "_OTHER"
    span.made["http.request.method_original"] = method


def _http_url(span: Translation, value: Any) -> None:
    if span.kind is not _SERVER:
        span.made["url.full"] = plain(value)
        return
    scheme, authority, path, query = _parts(value if type(value) is str else str(plain(value)))
    span.made.update(_origin(scheme, authority))
    span.made["url.path"] = path
    if query:
        span.made["url.query"] = query


def _old_http_url(span: Translation, value: Any) -> None:
    span.made["http.url"] = plain(value)
    if span.kind is _SERVER:
        scheme, authority, path, query = _parts(str(plain(value)))
        span.made["http.target"] = f"{path}?{query}" if query else path
        if scheme:
            span.made["http.scheme"] = scheme
        if authority:
            span.made["http.host"] = authority


def _parts(url: str) -> tuple[str, str, str, str]:
    if "#" in url:
        url = url.partition("#")[0]
    rest, _, query = url.partition("?")
    end = rest.find("://")
    if end < 0:
        return "", "", rest or "/", query
    slash = rest.find("/", end + 3)
    if slash < 0:
        return rest[:end], rest[end + 3 :], "/", query
    return rest[:end], rest[end + 3 : slash], rest[slash:], query


@lru_cache(maxsize=1024)
def _origin(scheme: str, authority: str) -> Mapping[str, Any]:
    """Return the attributes for the first parts of a URL. The mapping is shared: copy it, don't change it."""
    host: str | None
    try:
        parts = urlsplit(f"//{authority}")
        host, port = parts.hostname, parts.port or {"http": 80, "ws": 80, "https": 443, "wss": 443}.get(scheme)
    except ValueError:
        host, port = authority, None
    attributes = {"url.scheme": scheme, "server.address": host, "server.port": port}
    return {name: value for name, value in attributes.items() if value}


def _http_status(span: Translation, value: Any) -> None:
    status = value if type(value) is int else attempt(int, value)
    span.made["http.response.status_code"] = status
    if _is_failure(status, span):
        span.made.setdefault("error.type", str(status))


def _old_http_status(span: Translation, value: Any) -> None:
    span.made["http.status_code"] = status = value if type(value) is int else attempt(int, value)
    _is_failure(status, span)


def _is_failure(status: Any, span: Translation) -> bool:
    """Tell whether a status is an error, of which a server has fewer, and have the span say so."""
    is_failure = type(status) is int and status >= (500 if span.kind is _SERVER else 400)
    if is_failure:
        span.is_error = True
    return is_failure


# Databases


def _db_type(span: Translation, value: Any) -> None:
    system = plain(value)
    span.made["db.system.name"] = _SYSTEMS.get(system, system) if isinstance(system, str) else system
    operation = _operation(span)
    if operation:
        span.made["db.operation.name"] = operation


def _old_db_type(span: Translation, value: Any) -> None:
    span.made["db.system"] = plain(value)
    operation = _operation(span)
    if operation:
        span.made["db.operation"] = operation


def _operation(span: Translation) -> str | None:
    """Return the operation of a span of a database that has no statement: a command of Redis, or a commit."""
    prefix, _, name = span.plan.operation.partition(":")
    if prefix == "redis":
        return name
    return {"commit": "COMMIT", "rollback": "ROLLBACK", "begin-trans": "BEGIN"}.get(name)


def _commands(attribute: str) -> Rule:
    """Return the rule for the commands of a pipeline, which has them in its operation if they are all the same."""

    def put(span: Translation, value: Any) -> None:
        span.made["redis.commands"] = plain(value)
        if isinstance(value, str) and value and attribute in span.made:
            first, *others = value.split(", ")
            if all(other == first for other in others):
                span.made[attribute] = f"{span.made[attribute]} {first}"

    return put


def _db_instance(span: Translation, value: Any) -> None:
    database, host, port, _ = _database(str(plain(value)))
    if database:
        span.made["db.namespace"] = database
    if host:
        span.made["server.address"] = host
    if port:
        _server_port(span, port)


def _old_db_instance(span: Translation, value: Any) -> None:
    if span.tags.get(standard.DATABASE_TYPE) == "redis":
        span.made["db.redis.database_index"] = attempt(int, value)
        return
    database, host, port, user = _database(str(plain(value)))
    named = {"db.name": database, "net.peer.name": host, "net.peer.port": port, "db.user": user}
    span.made.update({name: part for name, part in named.items() if part})


@lru_cache(maxsize=1024)
def _database(instance: str) -> tuple[str, str | None, int | None, str | None]:
    """Return database, host, port and user of a database's name, or of its URL as SQLAlchemy writes it."""
    if "://" not in instance:
        return instance, None, None, None
    try:
        parts = urlsplit(instance)
        return parts.path[1:], parts.hostname, parts.port, parts.username
    except ValueError:
        return instance, None, None, None


_PROCEDURE = "sproc:"


def _statement(span: Translation, value: Any) -> None:
    text = str(plain(value))
    if text.startswith(_PROCEDURE):
        procedure = text[len(_PROCEDURE) :]
        span.made["db.stored_procedure.name"] = procedure
        span.made["db.operation.name"] = "CALL"
        span.made["db.query.summary"] = f"CALL {procedure}"
        return
    span.made["db.query.text"] = text
    if span.tags.get(standard.DATABASE_TYPE) == "redis":
        return
    operation, summary, _ = summarize(text)
    if operation:
        span.made["db.operation.name"] = operation
        span.made["db.query.summary"] = summary


def _old_statement(span: Translation, value: Any) -> None:
    span.made["db.statement"] = text = str(plain(value))
    if span.tags.get(standard.DATABASE_TYPE) != "redis":
        operation = "CALL" if text.startswith(_PROCEDURE) else summarize(text).operation
        if operation:
            span.made["db.operation"] = operation


def _db_status(span: Translation, value: Any) -> None:
    span.made["db.response.status_code"] = span.made["error.type"] = str(plain(value))


def _batch_size(span: Translation, value: Any) -> None:
    size = attempt(int, value)
    if size != 1:
        span.made["db.operation.batch.size"] = size


# Messages


def _destination(span: Translation, value: Any) -> None:
    span.made["messaging.destination.name"] = plain(value)
    system = _messaging_system(span)
    if system:
        span.made["messaging.system"] = system
    name, operation = _message_operation(span)
    if name:
        span.made["messaging.operation.name"] = name
    if operation:
        span.made["messaging.operation.type"] = operation


def _old_destination(span: Translation, value: Any) -> None:
    span.made["messaging.destination"] = plain(value)
    system = _messaging_system(span)
    if system:
        span.made["messaging.system"] = system


def _messaging_system(span: Translation) -> str | None:
    service = span.tags.get("boto3.service_name")
    if service is not None:
        return _AWS_MESSAGING.get(service)
    return "redis" if span.tags.get(standard.DATABASE_TYPE) == "redis" else None


def _message_operation(span: Translation) -> tuple[str | None, str | None]:
    """Return name and type of what a span does with messages."""
    operation = span.tags.get("aws.operation")
    if operation is not None:
        return operation, _MESSAGE_OPERATIONS.get(operation)
    if span.kind is _CONSUMER:
        return "process", "process"
    if span.kind is _PRODUCER or span.plan.operation in ("redis:PUBLISH", "redis:SPUBLISH"):
        return "publish", "send"
    return None, None


def _task_name(span: Translation, value: Any) -> None:
    span.made["celery.task_name"] = plain(value)
    span.made["messaging.system"] = "celery"
    name, operation = _message_operation(span)
    if name:
        span.made["messaging.operation.name"] = name
        span.made["messaging.operation.type"] = operation


# AWS


def _aws_service(span: Translation, value: Any) -> None:
    span.made["rpc.system.name"] = "aws-api"
    operation = span.tags.get("aws.operation")
    if operation:
        span.made["rpc.method"] = f"{value}/{operation}"
    if value == "dynamodb":
        span.made["db.system.name"] = "aws.dynamodb"
        if operation:
            span.made["db.operation.name"] = operation


def _old_aws_service(span: Translation, value: Any) -> None:
    span.made["rpc.system"] = "aws-api"
    span.made["rpc.service"] = plain(value)
    if value == "dynamodb":
        span.made["db.system"] = "dynamodb"
        if span.tags.get("aws.operation"):
            span.made["db.operation"] = span.tags["aws.operation"]


def _old_aws_operation(span: Translation, value: Any) -> None:
    span.made.setdefault("rpc.method", plain(value))


def _tables(span: Translation, value: Any) -> None:
    _old_tables(span, value)
    tables = span.made["aws.dynamodb.table_names"]
    if len(tables) == 1:
        span.made["db.collection.name"] = tables[0]


def _old_tables(span: Translation, value: Any) -> None:
    span.made["aws.dynamodb.table_names"] = tuple(str(plain(value)).split(","))


def _same(tag: str) -> Target:
    return Target(tag, tag)


#: What becomes of each tag.
TABLE: Mapping[str, Target] = {
    standard.SPAN_KIND: Target(_span_kind, _span_kind),
    standard.ERROR: Target(_error, _error),
    standard.COMPONENT: Target(_component, standard.COMPONENT),
    standard.SAMPLING_PRIORITY: _same(standard.SAMPLING_PRIORITY),
    standard.PEER_SERVICE: Target(_peer_service, "peer.service"),
    standard.PEER_HOSTNAME: Target(_host, _old_host),
    standard.PEER_HOST_IPV4: Target(_ip, _old_ip),
    PEER_HOST_IPV6: Target(_ip, _old_ip),
    standard.PEER_PORT: Target(_port, _integer("net.peer.port")),
    standard.PEER_ADDRESS: _same(standard.PEER_ADDRESS),
    standard.HTTP_METHOD: Target(_http_method, "http.method"),
    standard.HTTP_URL: Target(_http_url, _old_http_url),
    standard.HTTP_STATUS_CODE: Target(_http_status, _old_http_status),
    HTTP_RESEND_COUNT: Target(_integer("http.request.resend_count"), _integer("http.resend_count")),
    "http.queue_time": _same("http.queue_time"),
    "websocket.close_code": _same("websocket.close_code"),
    standard.DATABASE_TYPE: Target(_db_type, _old_db_type),
    standard.DATABASE_INSTANCE: Target(_db_instance, _old_db_instance),
    standard.DATABASE_STATEMENT: Target(_statement, _old_statement),
    standard.DATABASE_USER: Target(None, "db.user"),
    "db.response.status_code": Target(_db_status, "db.response.status_code"),
    "db.namespace": Target("db.namespace", "db.name"),
    "db.operation.name": Target("db.operation.name", "db.operation"),
    "db.collection.name": Target("db.collection.name", "db.sql.table"),
    "db.operation.batch.size": Target(_batch_size, "db.operation.batch.size"),
    **{
        tag: _same(tag)
        for tag in (
            "db.rows_affected",
            "db.left_out.count",
            "db.left_out.duration_ms",
            "db.n_plus_one.statement",
            "db.n_plus_one.count",
            "db.n_plus_one.duration_ms",
            "db.transaction.count",
            "db.transaction.statement_count",
            "db.transaction.duration_ms",
            "sqlalchemy.driver",
            "sqlalchemy.pool.size",
            "sqlalchemy.pool.checked_out",
            "sqlalchemy.pool.overflow",
            "sqlalchemy.pool.timeout",
        )
    },
    "sql": Target(_statement, _old_statement),
    "sql.params": _same("sql.params"),
    "sql.conn": Target(None, "sql.conn"),  # its address and database are told by tags of their own
    "sql.cursor": _same("sql.cursor"),
    "redis.key": _same("redis.key"),
    "redis.ttl": _same("redis.ttl"),
    "redis.commands": Target(_commands("db.operation.name"), _commands("db.operation")),
    "redis.command_count": Target(_batch_size, "db.redis.pipeline_length"),
    standard.MESSAGE_BUS_DESTINATION: Target(_destination, _old_destination),
    "celery.task_name": Target(_task_name, "celery.task_name"),
    "celery.task_id": Target("messaging.message.id", "messaging.message.id"),
    "celery.retries": _same("celery.retries"),
    "celery.state": _same("celery.state"),
    "celery.queue_time": _same("celery.queue_time"),
    "boto3.service_name": Target(_aws_service, _old_aws_service),
    "aws.operation": Target(None, _old_aws_operation),
    "aws.request_id": _same("aws.request_id"),
    "aws.s3.bucket": _same("aws.s3.bucket"),
    "aws.dynamodb.table": Target(_tables, _old_tables),
    "cloud.region": _same("cloud.region"),
    "faas.invoked_name": _same("faas.invoked_name"),
}

#: The schema that the attributes follow, by the conventions asked for.
SCHEMAS = {
    "stable": "https://opentelemetry.io/schemas/1.44.0",
    "old": "https://opentelemetry.io/schemas/1.11.0",
    "dup": "https://opentelemetry.io/schemas/1.44.0",
}


#: What becomes of tags in the spans of anybody but a server: the same as by their rules, at less cost.
_NAMES_ELSEWHERE: Mapping[str, Mapping[str, str]] = {
    "stable": {standard.HTTP_URL: "url.full"},
    "old": {standard.HTTP_URL: "http.url"},
    "dup": {},
}

#: Plans for tags that spans of each kind are told of after their beginning.
_LATE = {kind: Plan("", "", kind, {}, (), ()) for kind in SpanKind}

#: As many plans are remembered.
_MOST = 4096
_LONGEST = 2000  # characters of a statement that is remembered

#: Tags that have few different values; in the spans of servers there are those of any caller's.
_CONSTANT = {
    *(standard.SPAN_KIND, standard.COMPONENT, standard.HTTP_METHOD, standard.DATABASE_TYPE, standard.DATABASE_INSTANCE),
    *(standard.DATABASE_USER, "celery.task_name", "boto3.service_name", "aws.operation", "cloud.region"),
}
_CONSTANT_OF_CLIENTS = {
    *(*_CONSTANT, standard.PEER_SERVICE, standard.PEER_PORT),
    *(standard.PEER_HOSTNAME, standard.PEER_HOST_IPV4, PEER_HOST_IPV6),
    *("sqlalchemy.driver", "db.namespace", "db.operation.name", "db.collection.name"),
    *("aws.dynamodb.table", "aws.s3.bucket"),
}
#: Tags whose values may be different each time, but come again and again as a rule.
_REPEATED = {"sql", standard.DATABASE_STATEMENT, "redis.commands", "redis.command_count"}


class _Shape:
    """Spans of one name and kind that have the same tags.

    Attributes:
        constant: those of the tags that have few different values.
        values: returns the values of these.
        plans: the plans by such values.
        repeated: those of the tags whose values come again.
        repeats: returns the values of these; ``None`` if there are none.
    """

    __slots__ = ("constant", "plans", "repeated", "repeats", "values")

    def __init__(self, tags: Iterable[str], constant: Set[str]) -> None:
        self.constant = tuple(tag for tag in tags if tag in constant)
        self.values: Callable[[Mapping[str, Any]], Any] = (
            itemgetter(*self.constant) if self.constant else lambda _: None
        )
        self.plans: dict[Any, Plan] = {}
        self.repeated = tuple(tag for tag in tags if tag in _REPEATED)
        self.repeats = itemgetter(*self.repeated) if self.repeated else None


class Conventions:
    """The rules in force for one tracer.

    Args:
        semconv: ``"stable"``, ``"old"`` or ``"dup"``.
        names: ``"semconv"`` to name the spans of hooks by the conventions, ``"opentracing"`` to leave names alone.

    Raises:
        ValueError: it is none of these.
    """

    def __init__(self, semconv: str = "stable", names: str = "semconv") -> None:
        if semconv not in SCHEMAS:
            raise ValueError(f"semconv = {semconv!r}: accepted are {', '.join(map(repr, SCHEMAS))}")
        if names not in ("semconv", "opentracing"):
            raise ValueError(f"names = {names!r}: accepted are 'semconv', 'opentracing'")
        self.schema_url = SCHEMAS[semconv]
        self._names_spans = names == "semconv"
        self._has_error_type = semconv != "old"
        self._rules: dict[str, Rule | str] = {}
        self._names = _NAMES_ELSEWHERE[semconv]
        self._shapes: dict[tuple[Any, ...], _Shape] = {}
        self._remembered = 0  # plans, of all shapes
        self._narrowed: dict[tuple[Plan, Any], Plan] = {}
        self._numbers: dict[tuple[SpanKind, str, int], tuple[dict[str, Any], bool | None]] = {}
        for tag, (stable, old) in TABLE.items():
            self._rules[tag] = {"stable": stable, "old": old}.get(semconv) or _nothing
            if semconv == "dup":
                self._rules[tag] = _both(stable, old)

    def plan(self, operation: str, tags: Mapping[str, Any]) -> Plan:
        """Return the plan for a span that begins with this name and these tags."""
        try:
            key = (operation, tags.get(standard.SPAN_KIND), *tags)
            shape = self._shapes.get(key) or self._shape(key, tags)
            values = shape.values(tags)
            plan = shape.plans.get(values) or self._plan(operation, tags, shape, values)
            if shape.repeats is None:
                return plan
            narrow = (plan, shape.repeats(tags))
            return self._narrowed.get(narrow) or self._narrow(narrow, tags, shape)
        except TypeError:  # the value of a tag is not hashable
            return self._made(operation, {}, tags)

    def _shape(self, key: tuple[Any, ...], tags: Mapping[str, Any]) -> _Shape:
        kind = kind_of(tags.get(standard.SPAN_KIND))
        self._shapes[key] = shape = _Shape(tags, _CONSTANT if kind in _SERVING else _CONSTANT_OF_CLIENTS)
        return shape

    def _plan(self, operation: str, tags: Mapping[str, Any], shape: _Shape, values: Any) -> Plan:
        plan = self._made(operation, {tag: tags[tag] for tag in shape.constant}, tags)
        self._remembered += 1
        if self._remembered > _MOST:
            self._shapes.clear()
            self._narrowed.clear()
            self._remembered = 0
        shape.plans[values] = plan
        return plan

    def _narrow(self, narrow: tuple[Plan, Any], tags: Mapping[str, Any], shape: _Shape) -> Plan:
        plan = narrow[0].narrowed(tags, shape.repeated)
        if len(self._narrowed) >= _MOST:
            self._narrowed.clear()
        if all(len(str(tags[tag])) <= _LONGEST for tag in shape.repeated):
            self._narrowed[narrow] = plan
        return plan

    def _made(self, operation: str, constant: Mapping[str, Any], tags: Mapping[str, Any]) -> Plan:
        """Return the plan for spans of this name with these constant tags among all their tags."""
        kind = kind_of(tags.get(standard.SPAN_KIND)) or _INTERNAL
        name: str | None = operation
        if kind is not _INTERNAL:
            kind = _kind_of_hook(kind, tags)
            if self._names_spans:
                name = None if any(tag in tags for tag in NAMING) else span_name(operation, tags)
        others = [tag for tag in tags if tag not in constant]
        return Plan(operation, name, kind, constant, self._steps(constant, kind), self._steps(others, kind))

    def _steps(self, tags: Iterable[str], kind: SpanKind) -> _Steps:
        rules = self._rules if kind is _SERVER else {**self._rules, **self._names}
        steps = [(tag, rules.get(tag, str(tag))) for tag in tags]
        return tuple((tag, rule) for tag, rule in steps if rule is not _nothing)

    def tell(self, span: Span, tag: str, value: Any) -> None:
        """Tell a span that has begun of a tag."""
        if tag == standard.SPAN_KIND:  # too late to be more than an attribute
            span.tell({tag: plain(value)})
            return
        rule = self._rules.get(tag)
        if rule is None or isinstance(rule, str):
            span.tell({rule or str(tag): value if type(value) is str else plain(value)})
            return
        number = (span.kind, tag, value) if type(value) is int else None  # as the status of a response is
        known = None if number is None else self._numbers.get(number)
        if known is None:
            translation = Translation(_LATE[span.kind], {tag: value})
            translation.take(((tag, rule),))
            known = translation.made, translation.is_error
            if number is not None and len(self._numbers) < _MOST:
                self._numbers[number] = known
        span.tell(known[0].copy(), known[1])

    def tell_error_type(self, span: Span, name: str) -> None:
        """Tell a span the type of the error that it failed with."""
        if self._has_error_type:
            span.tell({"error.type": name})


def _kind_of_hook(kind: SpanKind, tags: Mapping[str, Any]) -> SpanKind:
    """Return the kind by the conventions: OpenTracing's hooks take a message's sender for any other client."""
    if tags.get(standard.COMPONENT) == "Celery":
        return _PRODUCER if kind is _CLIENT else _CONSUMER
    operation = tags.get("aws.operation")
    if isinstance(operation, str) and _MESSAGE_OPERATIONS.get(operation) == "send":
        return _PRODUCER
    return kind
