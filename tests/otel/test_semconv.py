"""Tags as attributes and names of OpenTelemetry's conventions, for all that hooks and middleware tell."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any

import opentelemetry.semconv._incubating.attributes as incubating
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.semconv import attributes
from opentelemetry.trace import StatusCode
from opentracing.ext import tags as standard

from opentracing_instrumentation._core.statements import summarize
from opentracing_instrumentation.client_hooks import hooks
from opentracing_instrumentation.middleware._served import WEBSOCKET_CLOSE_CODE
from opentracing_instrumentation.otel import Tracer
from opentracing_instrumentation.otel.semconv import _MOST, TABLE

#: What middleware tells of a request.
SERVED = {
    *(standard.SPAN_KIND, standard.HTTP_URL, standard.HTTP_METHOD, standard.HTTP_STATUS_CODE, standard.ERROR),
    *(standard.PEER_HOST_IPV4, standard.PEER_HOSTNAME, "peer.ipv6", standard.PEER_SERVICE, standard.PEER_PORT),
    WEBSOCKET_CLOSE_CODE,
}
#: Attributes of no convention: tags that are handed on by their own names.
OWN = {
    *("component", "peer.address", "sampling.priority", "span.kind", "websocket.close_code", "http.queue_time"),
    *("sql.params", "sql.conn", "sql.cursor", "redis.key", "redis.ttl", "redis.commands"),
    *("celery.task_name", "celery.retries", "celery.state", "celery.queue_time"),
}
#: Attributes of conventions that were in force once, and that the package of conventions never had.
FORMER = {"http.resend_count", "net.peer.ip", "messaging.destination", "db.redis.pipeline_length"}


@cache
def tracer_by(semconv: str) -> Tracer:
    """Return a tracer for these conventions."""
    return Tracer(TracerProvider(shutdown_on_exit=False), semconv=semconv)


def told(semconv: str, operation: str, tags: dict[str, Any], later: dict[str, Any] | None = None) -> Any:
    """Return name, kind, attributes and status of a span with these tags."""
    return told_by(tracer_by(semconv), operation, tags, later)


def told_by(tracer: Tracer, operation: str, tags: dict[str, Any], later: dict[str, Any] | None = None) -> Any:
    """Return the same of a span of this tracer's."""
    span = tracer.start_span(operation, tags=dict(tags))
    for tag, value in (later or {}).items():
        span.set_tag(tag, value)
    made = span.unwrap()
    return made.name, made.kind.name, dict(made.attributes), made.status.status_code


def test_every_tag_of_every_hook_has_its_line() -> None:
    """A hook that learns a new tag has to say what OpenTelemetry makes of it."""
    declared = {tag: hook.name for hook in hooks() if hook.distribution is None for tag in hook.patcher.tags}
    assert len(declared) > 20
    assert {tag: name for tag, name in declared.items() if tag not in TABLE} == {}
    assert SERVED - set(TABLE) == set()
    assert {value for name, value in vars(standard).items() if name.isupper() and "." in value} - set(TABLE) == set()


CLIENT = {"span.kind": "client"}
PEER = {"peer.hostname": "db.example", "peer.port": 5432}

#: By hook: name and tags of a span, what is told later, and what that is by the conventions of today and by the old.
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], Any, Any]] = {
    "HTTP client": (
        "GET:orders",
        {
            **CLIENT,
            "http.method": "GET",
            "http.url": "https://shop.example/a?b=c",
            "peer.hostname": "shop.example",
            "peer.port": 443,
            "peer.service": "shop",
        },
        {"http.status_code": 404, "http.resend_count": 2},
        (
            "GET orders",
            "CLIENT",
            {
                "http.request.method": "GET",
                "url.full": "https://shop.example/a?b=c",
                "server.address": "shop.example",
                "server.port": 443,
                "service.peer.name": "shop",
                "http.response.status_code": 404,
                "http.request.resend_count": 2,
                "error.type": "404",
            },
            StatusCode.ERROR,
        ),
        (
            "GET orders",
            "CLIENT",
            {
                "http.method": "GET",
                "http.url": "https://shop.example/a?b=c",
                "net.peer.name": "shop.example",
                "net.peer.port": 443,
                "peer.service": "shop",
                "http.status_code": 404,
                "http.resend_count": 2,
            },
            StatusCode.ERROR,
        ),
    ),
    "HTTP server": (
        "POST",
        {
            "span.kind": "server",
            "http.method": "POST",
            "http.url": "http://[::1]:8080/a%20b?c=d",
            "peer.ipv6": "::2",
            "peer.port": "4711",
        },
        {"http.status_code": 404},
        (
            "POST",
            "SERVER",
            {
                "http.request.method": "POST",
                "url.scheme": "http",
                "url.path": "/a%20b",
                "url.query": "c=d",
                "server.address": "::1",
                "server.port": 8080,
                "client.address": "::2",
                "client.port": 4711,
                "http.response.status_code": 404,
            },
            StatusCode.UNSET,
        ),
        (
            "POST",
            "SERVER",
            {
                "http.method": "POST",
                "http.url": "http://[::1]:8080/a%20b?c=d",
                "http.target": "/a%20b?c=d",
                "http.scheme": "http",
                "http.host": "[::1]:8080",
                "net.peer.ip": "::2",
                "net.peer.port": 4711,
                "http.status_code": 404,
            },
            StatusCode.UNSET,
        ),
    ),
    "SQLAlchemy": (
        "SQL SELECT",
        {
            **CLIENT,
            "component": "sqlalchemy",
            "db.type": "mssql",
            "db.instance": "mssql+pyodbc://me:***@db.example:1433/shop?driver=x",
            "db.statement": "SELECT * FROM orders o JOIN items i ON i.id = o.id",
        },
        {},
        (
            "SELECT orders items",
            "CLIENT",
            {
                "db.system.name": "microsoft.sql_server",
                "db.namespace": "shop",
                "server.address": "db.example",
                "db.query.text": "SELECT * FROM orders o JOIN items i ON i.id = o.id",
                "db.operation.name": "SELECT",
                "db.query.summary": "SELECT orders items",
            },
            StatusCode.UNSET,
        ),
        (
            "SELECT orders items",
            "CLIENT",
            {
                "component": "sqlalchemy",
                "db.system": "mssql",
                "db.name": "shop",
                "net.peer.name": "db.example",
                "net.peer.port": 1433,
                "db.user": "me",
                "db.statement": "SELECT * FROM orders o JOIN items i ON i.id = o.id",
                "db.operation": "SELECT",
            },
            StatusCode.UNSET,
        ),
    ),
    "driver": (
        "psycopg2:INSERT",
        {
            **CLIENT,
            **PEER,
            "component": "psycopg2",
            "db.type": "postgresql",
            "db.instance": "shop",
            "db.user": "me",
            "sql": "INSERT INTO orders VALUES (%s)",
            "sql.conn": ((), {"host": "db.example"}),
        },
        {"db.response.status_code": "23505", "error": True},
        (
            "INSERT orders",
            "CLIENT",
            {
                "server.address": "db.example",
                "db.system.name": "postgresql",
                "db.namespace": "shop",
                "db.query.text": "INSERT INTO orders VALUES (%s)",
                "db.operation.name": "INSERT",
                "db.query.summary": "INSERT orders",
                "db.response.status_code": "23505",
                "error.type": "23505",
            },
            StatusCode.ERROR,
        ),
        (
            "INSERT orders",
            "CLIENT",
            {
                "net.peer.name": "db.example",
                "net.peer.port": 5432,
                "component": "psycopg2",
                "db.system": "postgresql",
                "db.name": "shop",
                "db.user": "me",
                "db.statement": "INSERT INTO orders VALUES (%s)",
                "db.operation": "INSERT",
                "sql.conn": "((), {'host': 'db.example'})",
                "db.response.status_code": "23505",
            },
            StatusCode.ERROR,
        ),
    ),
    "driver's procedure": (
        "MySQLdb:",
        {**CLIENT, "sql": "sproc:refund"},
        {},
        (
            "CALL refund",
            "CLIENT",
            {
                "db.stored_procedure.name": "refund",
                "db.operation.name": "CALL",
                "db.query.summary": "CALL refund",
            },
            StatusCode.UNSET,
        ),
        ("CALL refund", "CLIENT", {"db.statement": "sproc:refund", "db.operation": "CALL"}, StatusCode.UNSET),
    ),
    "driver's commit": (
        "psycopg2:commit",
        {**CLIENT, "db.type": "postgresql"},
        {},
        ("COMMIT", "CLIENT", {"db.system.name": "postgresql", "db.operation.name": "COMMIT"}, StatusCode.UNSET),
        ("COMMIT", "CLIENT", {"db.system": "postgresql", "db.operation": "COMMIT"}, StatusCode.UNSET),
    ),
    "Redis": (
        "redis:GET",
        {
            **CLIENT,
            "peer.service": "redis",
            "db.type": "redis",
            "db.instance": "2",
            "peer.ipv4": "192.0.2.1",
            "redis.key": "k",
        },
        {},
        (
            "GET",
            "CLIENT",
            {
                "db.system.name": "redis",
                "db.operation.name": "GET",
                "db.namespace": "2",
                "server.address": "192.0.2.1",
                "redis.key": "k",
            },
            StatusCode.UNSET,
        ),
        (
            "GET",
            "CLIENT",
            {
                "peer.service": "redis",
                "db.system": "redis",
                "db.operation": "GET",
                "db.redis.database_index": 2,
                "net.peer.name": "192.0.2.1",
                "redis.key": "k",
            },
            StatusCode.UNSET,
        ),
    ),
    "Redis pipeline": (
        "redis:MULTI",
        {**CLIENT, "db.type": "redis", "redis.commands": "SET, SET", "redis.command_count": 2},
        {},
        (
            "MULTI SET",
            "CLIENT",
            {
                "db.system.name": "redis",
                "db.operation.name": "MULTI SET",
                "redis.commands": "SET, SET",
                "db.operation.batch.size": 2,
            },
            StatusCode.UNSET,
        ),
        (
            "MULTI SET",
            "CLIENT",
            {
                "db.system": "redis",
                "db.operation": "MULTI SET",
                "redis.commands": "SET, SET",
                "db.redis.pipeline_length": 2,
            },
            StatusCode.UNSET,
        ),
    ),
    "Redis message": (
        "redis:MESSAGE",
        {"span.kind": "consumer", "db.type": "redis", "message_bus.destination": "news"},
        {},
        (
            "process news",
            "CONSUMER",
            {
                "db.system.name": "redis",
                "db.operation.name": "MESSAGE",
                "messaging.destination.name": "news",
                "messaging.system": "redis",
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
            },
            StatusCode.UNSET,
        ),
        (
            "process news",
            "CONSUMER",
            {
                "db.system": "redis",
                "db.operation": "MESSAGE",
                "messaging.destination": "news",
                "messaging.system": "redis",
            },
            StatusCode.UNSET,
        ),
    ),
    "Celery, published": (
        "Celery:apply_async:shop.pay",
        {**CLIENT, "component": "Celery", "celery.task_name": "shop.pay"},
        {"celery.task_id": "1f"},
        (
            "publish shop.pay",
            "PRODUCER",
            {
                "celery.task_name": "shop.pay",
                "messaging.system": "celery",
                "messaging.operation.name": "publish",
                "messaging.operation.type": "send",
                "messaging.message.id": "1f",
            },
            StatusCode.UNSET,
        ),
        (
            "publish shop.pay",
            "PRODUCER",
            {"component": "Celery", "celery.task_name": "shop.pay", "messaging.message.id": "1f"},
            StatusCode.UNSET,
        ),
    ),
    "Celery, run": (
        "Celery:run:shop.pay",
        {"span.kind": "server", "component": "Celery", "celery.task_name": "shop.pay", "celery.queue_time": 0.5},
        {"celery.state": "SUCCESS"},
        (
            "process shop.pay",
            "CONSUMER",
            {
                "celery.task_name": "shop.pay",
                "messaging.system": "celery",
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "celery.queue_time": 0.5,
                "celery.state": "SUCCESS",
            },
            StatusCode.UNSET,
        ),
        (
            "process shop.pay",
            "CONSUMER",
            {
                "component": "Celery",
                "celery.task_name": "shop.pay",
                "celery.queue_time": 0.5,
                "celery.state": "SUCCESS",
            },
            StatusCode.UNSET,
        ),
    ),
    "DynamoDB": (
        "boto3:client:dynamodb:put_item",
        {
            **CLIENT,
            "component": "boto3",
            "boto3.service_name": "dynamodb",
            "aws.operation": "PutItem",
            "cloud.region": "eu-west-1",
            "aws.dynamodb.table": "orders",
            "peer.hostname": "dynamodb.example",
        },
        {"http.status_code": 200, "aws.request_id": "R"},
        (
            "DynamoDB.PutItem",
            "CLIENT",
            {
                "rpc.system.name": "aws-api",
                "rpc.method": "dynamodb/PutItem",
                "db.system.name": "aws.dynamodb",
                "db.operation.name": "PutItem",
                "cloud.region": "eu-west-1",
                "aws.dynamodb.table_names": ("orders",),
                "db.collection.name": "orders",
                "server.address": "dynamodb.example",
                "http.response.status_code": 200,
                "aws.request_id": "R",
            },
            StatusCode.UNSET,
        ),
        (
            "DynamoDB.PutItem",
            "CLIENT",
            {
                "component": "boto3",
                "rpc.system": "aws-api",
                "rpc.service": "dynamodb",
                "rpc.method": "PutItem",
                "db.system": "dynamodb",
                "db.operation": "PutItem",
                "cloud.region": "eu-west-1",
                "aws.dynamodb.table_names": ("orders",),
                "net.peer.name": "dynamodb.example",
                "http.status_code": 200,
                "aws.request_id": "R",
            },
            StatusCode.UNSET,
        ),
    ),
    "SQS": (
        "boto3:client:sqs:send_message",
        {
            **CLIENT,
            "boto3.service_name": "sqs",
            "aws.operation": "SendMessage",
            "message_bus.destination": "orders",
        },
        {},
        (
            "send orders",
            "PRODUCER",
            {
                "rpc.system.name": "aws-api",
                "rpc.method": "sqs/SendMessage",
                "messaging.destination.name": "orders",
                "messaging.system": "aws_sqs",
                "messaging.operation.name": "SendMessage",
                "messaging.operation.type": "send",
            },
            StatusCode.UNSET,
        ),
        (
            "send orders",
            "PRODUCER",
            {
                "rpc.system": "aws-api",
                "rpc.service": "sqs",
                "rpc.method": "SendMessage",
                "messaging.destination": "orders",
                "messaging.system": "aws_sqs",
            },
            StatusCode.UNSET,
        ),
    ),
    "S3 transfer": (
        "boto3:client:s3:upload_file",
        {**CLIENT, "boto3.service_name": "s3", "aws.s3.bucket": "b"},
        {},
        ("S3.upload_file", "CLIENT", {"rpc.system.name": "aws-api", "aws.s3.bucket": "b"}, StatusCode.UNSET),
        (
            "S3.upload_file",
            "CLIENT",
            {"rpc.system": "aws-api", "rpc.service": "s3", "aws.s3.bucket": "b"},
            StatusCode.UNSET,
        ),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_spans_of_hooks(case: str) -> None:
    """Name, kind, attributes and status, by the conventions of today, the old ones, and both."""
    operation, tags, later, stable, old = CASES[case]
    assert told("stable", operation, tags, later) == stable
    assert told("old", operation, tags, later) == old
    assert told("dup", operation, tags, later) == (*stable[:2], {**old[2], **stable[2]}, stable[3])


@pytest.mark.parametrize("case", CASES)
def test_names_that_are_left_alone(case: str) -> None:
    """With ``names="opentracing"`` the hooks' own names stay."""
    operation, tags, *_ = CASES[case]
    tracer = Tracer(TracerProvider(shutdown_on_exit=False), names="opentracing")
    assert tracer.start_span(operation, tags=dict(tags)).unwrap().name == operation


@pytest.mark.parametrize(
    ("operation", "tags"),
    [
        ("get orders", {**CLIENT, "http.method": "GET"}),
        ("handle: it", {"span.kind": "server", "http.method": "GET"}),
        ("report", {**CLIENT, "db.statement": "SELECT 1"}),
        ("SQL", {**CLIENT}),
        ("a:b", {**CLIENT}),
        ("redis:GET", {}),
        ("", {**CLIENT}),
    ],
)
def test_names_of_other_peoples_spans_stay(operation: str, tags: dict[str, Any]) -> None:
    """Only names in the form of a hook's, with the tags of a hook, are changed."""
    assert told("stable", operation, tags)[0] == operation


def conventions() -> set[str]:
    """Return all attribute names of the installed package of conventions."""
    names = set()
    for package in (attributes, incubating):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            found = vars(importlib.import_module(module.name))
            names |= {value for name, value in found.items() if name.isupper() and isinstance(value, str)}
    return names


def test_attributes_are_those_of_the_conventions() -> None:
    """No attribute has an invented name; those of today's conventions are not deprecated ones."""
    known = conventions()
    if "db.system.name" not in known:
        pytest.skip("the installed package of conventions is older than those of the databases")
    stable = {name for *_, stable, _ in CASES.values() for name in stable[2]}
    old = {name for *_, old in CASES.values() for name in old[2]}
    assert stable - known - OWN == set()
    assert old - known - OWN - FORMER == set()
    deprecated = {"http.method", "http.url", "http.status_code", "db.system", "db.statement", "db.name", "peer.service"}
    assert stable & deprecated == set()
    assert "http.method" in old


def test_what_is_remembered_is_bounded() -> None:
    """Neither names nor values that never come again fill the memory; the same tags have the same attributes anew."""
    tracer = Tracer(TracerProvider(shutdown_on_exit=False))
    first = {"peer.hostname": "db0.example", **CLIENT}
    expected = dict(tracer.start_span("GET", tags=first).unwrap().attributes)
    for number in range(_MOST + 10):
        tracer.start_span("GET", tags={**first, "peer.hostname": f"db{number}.example"})
        tracer.start_span(f"GET:{number}", tags=dict(CLIENT))
        tracer.start_span("SQL SELECT", tags={"db.statement": f"SELECT {number}", "db.type": "sqlite", **CLIENT})
    long = tracer.start_span(
        "SQL SELECT", tags={"db.statement": f"SELECT '{'x' * 5000}'", "db.type": "sqlite", **CLIENT}
    )
    assert long.unwrap().attributes["db.operation.name"] == "SELECT"
    assert 0 < len(tracer.conventions._narrowed) <= _MOST
    assert max(len(statement) for _, statement in tracer.conventions._narrowed) < 5000
    shapes = tracer.conventions._shapes.values()
    assert sum(len(shape.plans) for shape in shapes) <= _MOST
    assert len(shapes) <= _MOST
    assert dict(tracer.start_span("GET", tags=first).unwrap().attributes) == expected


def test_the_same_tags_with_other_values() -> None:
    """What is remembered of one span is not told of another that differs in a value, or in its kind alone."""
    for kind, address in ("client", "server.address"), ("server", "client.address"), ("client", "server.address"):
        for host in "a.example", "b.example":
            attributes = told("stable", "x:y", {"span.kind": kind, "peer.hostname": host, "db.type": "mysql"})[2]
            assert attributes[address] == host
    assert told("stable", "x:y", {**CLIENT, "db.type": "redis"})[2]["db.system.name"] == "redis"


def test_statements_that_come_again() -> None:
    """A statement has its own name and attributes each time, whatever else its span is told."""
    tracer = Tracer(TracerProvider(shutdown_on_exit=False))
    for statement, name in (
        ("SELECT a FROM t", "SELECT t"),
        ("DELETE FROM t", "DELETE t"),
        ("SELECT a FROM t", "SELECT t"),
    ):
        for rows in 1, 2:
            tags = {**CLIENT, "db.type": "sqlite", "db.statement": statement, "db.rows_affected": rows}
            span = tracer.start_span("SQL", tags=tags).unwrap()
            assert (span.name, span.attributes["db.query.text"]) == (name, statement)
            assert span.attributes["db.query.summary"] == name
            assert span.attributes["db.rows_affected"] == rows


_VALUES = st.one_of(
    st.integers(0, 3), st.sampled_from(["a", "b", "SELECT 1", "SELECT x FROM t", "sproc:p", "GET, GET", ""])
)
_TAGS = st.dictionaries(st.sampled_from(sorted(set(TABLE) - {"sampling.priority", "span.kind"})), _VALUES, max_size=6)


@given(
    semconv=st.sampled_from(["stable", "old", "dup"]),
    operation=st.sampled_from(
        ["GET", "SQL", "x:y", "redis:GET", "redis:PIPELINE", "Celery:run:t", "boto3:client:s3:x"]
    ),
    kind=st.sampled_from(["client", "server", "consumer", "producer"]),
    tags=_TAGS,
    later=_TAGS,
)
def test_what_is_remembered_makes_no_difference(
    semconv: str, operation: str, kind: str, tags: dict[str, Any], later: dict[str, Any]
) -> None:
    """A tracer that has seen any number of spans before tells of one what a new tracer tells of it."""
    given_tags = {"span.kind": kind, **tags}
    new = Tracer(TracerProvider(shutdown_on_exit=False), semconv=semconv)
    assert told(semconv, operation, given_tags, later) == told_by(new, operation, given_tags, later)


def test_a_status_that_comes_again() -> None:
    """What a status means depends on the span's kind, not on who asked first."""
    for _ in range(2):
        for kind, is_error in ("client", True), ("server", False):
            _, _, attributes, status = told("stable", "GET", {"span.kind": kind}, {"http.status_code": 404})
            assert attributes["http.response.status_code"] == 404
            assert (attributes.get("error.type") == "404", status is StatusCode.ERROR) == (is_error, is_error)


def test_values_of_any_type_for_tags_with_a_rule() -> None:
    """A tag of the table whose value makes no sense is told as it is, and nothing raises."""
    for semconv in ("stable", "old", "dup"):
        for value in (None, "x", -1, b"\xff", [1], {"a": 1}, object, "", 2**70, "://", "a://[", True):
            for kind in ("client", "server", "consumer"):
                for tag in set(TABLE) - {"sampling.priority"}:
                    for operation in ("redis:GET", "boto3:client:sqs:send_message", "SQL", "a:b", "GET:x"):
                        told(semconv, operation, {"db.type": "redis", "span.kind": kind, tag: value})
                    told(semconv, "x:y", {"span.kind": kind}, {tag: value})


@pytest.mark.parametrize(
    ("method", "attributes"),
    [
        ("get", {"http.request.method": "GET", "http.request.method_original": "get"}),
        ("BREW", {"http.request.method": "_OTHER", "http.request.method_original": "BREW"}),
    ],
)
def test_methods(method: str, attributes: dict[str, str]) -> None:
    """Only known methods, in capitals, are told as such."""
    assert told("stable", "span", {**CLIENT, "http.method": method})[2] == attributes


@pytest.mark.parametrize(
    ("statement", "summary"),
    [
        ("SELECT 1", "SELECT"),
        ("select * from orders o join order_items i on o.id = i.id", "SELECT orders order_items"),
        ("SELECT a FROM t, s.u x, v WHERE a IN (1, 2)", "SELECT t s.u v"),
        ("INSERT INTO a.b (x) VALUES (%s) ON CONFLICT (x) DO UPDATE SET x = 1", "INSERT a.b"),
        ("INSERT INTO x SELECT a FROM y", "INSERT x SELECT y"),
        ("UPDATE t SET a = 'SELECT b FROM secret' WHERE b IS DISTINCT FROM c", "UPDATE t"),
        ('DELETE FROM "my table"', 'DELETE "my table"'),
        ("WITH c AS (SELECT 1 FROM t) SELECT * FROM c", "SELECT t SELECT"),
        ("SELECT extract(year FROM created) FROM events FOR UPDATE", "SELECT events"),
        ("CREATE TABLE IF NOT EXISTS t (a int)", "CREATE TABLE t"),
        ("DROP INDEX i", "DROP INDEX i"),
        ("/* c */ -- d\nPRAGMA foreign_keys", "PRAGMA"),
        ("BEGIN", "BEGIN"),
        ("CALL refund(1)", "CALL refund"),
        ("SELECT $$ FROM x $$ FROM y", "SELECT y"),
        (r"INSERT INTO t VALUES ('it\'s SELECT a FROM secret", "INSERT t"),
        ("INSERT INTO t VALUES ('SELECT a FROM secret", "INSERT t"),
        ("", ""),
        ("-- nothing", ""),
        ("((", ""),
        (")))", ""),
    ],
)
def test_summaries_of_statements(statement: str, summary: str) -> None:
    """They have the operations and the tables, and never a value."""
    assert summarize(statement).text == summary


def test_a_summary_is_short() -> None:
    """At most 255 characters, cut between names; only the beginning of a long statement is read."""
    statement = "SELECT * FROM " + ", ".join(f"table_{number:03}" for number in range(50))
    text = summarize(statement).text
    assert len(text) <= 255
    assert text.endswith("table_023")
    assert summarize("SELECT * FROM t WHERE a = '" + "x" * 10_000_000).text == "SELECT t"
