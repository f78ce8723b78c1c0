"""A password, wherever a user can put it, is in no span."""

from __future__ import annotations

import contextlib
import traceback
import types
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import celery
import MySQLdb
import psycopg2
import pytest
import redis
import requests
import sqlalchemy
import tornado.httpclient
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation.client_hooks import install_all_patches
from opentracing_instrumentation.config import CONFIG

from ..opentracing_instrumentation.loopback import Loopback

SECRET = "tr0ub4dor"


@pytest.fixture
def server() -> Iterator[Loopback]:
    with Loopback() as loopback:
        yield loopback


def told(span: Any) -> Iterator[str]:
    """All that a span says, in names, tags and logs, and in the messages of the errors and tracebacks in them."""
    yield span.operation_name
    for name, value in span.tags.items():
        yield from (name, str(value), repr(value))
    for log in span.logs:
        for name, value in log.key_values.items():
            yield from (name, str(value), repr(value))
            if isinstance(value, types.TracebackType):
                yield "".join(traceback.format_tb(value))


@pytest.fixture
def spans(tracer: MockTracer) -> Iterator[Callable[[], int]]:
    """Everything is installed; afterwards no span has the secret, and there are spans."""
    install_all_patches()
    with tracer.start_active_span("request"):
        yield lambda: len(tracer.finished_spans())
    secrets = [text for span in tracer.finished_spans() for text in told(span) if SECRET in text]
    assert secrets == []


def test_of_postgresql(
    spans: Callable[[], int], service: Callable[[str], Any], tmp_path: Path, monkeypatch: Any
) -> None:
    """In keywords, DSNs, URLs, the environment, a service file, a parameter."""
    pg = service("postgresql")
    where = {"host": pg.host, "port": pg.port, "dbname": pg.database}
    attempts: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        ((), {**where, "user": pg.user, "password": SECRET}),
        ((f"host={pg.host} port={pg.port} dbname={pg.database} user={pg.user} password={SECRET}",), {}),
        ((f"host={pg.host} port={pg.port} user={pg.user} password = '{SECRET} \\' x'",), {}),
        ((f"postgresql://{pg.user}:{SECRET}@{pg.host}:{pg.port}/{pg.database}",), {}),
        ((f"postgresql://{pg.host}:{pg.port}/{pg.database}?user={pg.user}&password={SECRET}",), {}),
    ]
    for args, kwargs in attempts:
        with contextlib.suppress(psycopg2.OperationalError):
            psycopg2.connect(*args, **kwargs).close()
    (tmp_path / "services").write_text(f"[s]\nhost={pg.host}\nport={pg.port}\nuser={pg.user}\npassword={SECRET}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    with contextlib.suppress(psycopg2.OperationalError):
        psycopg2.connect("service=s").close()
    monkeypatch.setenv("PGPASSWORD", SECRET)
    with contextlib.suppress(psycopg2.OperationalError):
        psycopg2.connect(user=pg.user, **where).close()
    connection = psycopg2.connect(user=pg.user, password=pg.password, **where)
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s", (SECRET,))
        cursor.executemany("SELECT %(value)s", [{"value": SECRET}])
        with pytest.raises(psycopg2.errors.UndefinedColumn):
            cursor.execute("SELECT nothing WHERE 'x' = %s", (SECRET,))
    connection.close()
    assert spans() > len(attempts) + 3


def test_of_mysql(spans: Callable[[], int], service: Callable[[str], Any]) -> None:
    """In either keyword, by position, in a parameter."""
    my = service("mariadb")
    for keyword in "password", "passwd":
        with contextlib.suppress(MySQLdb.OperationalError):
            MySQLdb.connect(host=my.host, port=my.port, user=my.user, **{keyword: SECRET}).close()
    with contextlib.suppress(MySQLdb.OperationalError):
        MySQLdb.connect(my.host, my.user, SECRET, my.database, my.port).close()
    connection = MySQLdb.connect(host=my.host, port=my.port, user=my.user, password=my.password)
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s", (SECRET,))
        with pytest.raises(MySQLdb.ProgrammingError):
            cursor.execute("SELECT nonsense nonsense %s", (SECRET,))
    connection.close()
    assert spans() > 3


def test_of_sqlalchemy(spans: Callable[[], int], service: Callable[[str], Any]) -> None:
    """In an engine's URL, in its query, in a bound parameter, in a statement that fails."""
    pg = service("postgresql")
    url = sqlalchemy.engine.URL.create("postgresql+psycopg2", pg.user, pg.password, pg.host, pg.port, pg.database)
    for bad in url.set(password=SECRET), url.set(password=None, query={"password": SECRET}):
        with contextlib.suppress(sqlalchemy.exc.OperationalError):
            sqlalchemy.create_engine(bad).connect().close()
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("SELECT :value"), {"value": SECRET})
        with pytest.raises(sqlalchemy.exc.ProgrammingError):
            connection.execute(sqlalchemy.text("SELECT nothing WHERE 'x' = :value"), {"value": SECRET})
    engine.dispose()
    assert spans() > 3


def test_of_literals_and_comments(
    spans: Callable[[], int], service: Callable[[str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A literal is in no tag if literals are masked, never in what is said of an N+1; comments know no secrets."""
    CONFIG.sql_comments, CONFIG.sql_mask_literals = "full", True
    pg, sent = service("postgresql"), list[str]()
    url = sqlalchemy.engine.URL.create("postgresql+psycopg2", pg.user, pg.password, pg.host, pg.port, pg.database)
    engine = sqlalchemy.create_engine(url.update_query_dict({"sslpassword": SECRET}))
    sqlalchemy.event.listen(engine, "do_execute", lambda cursor, statement, *_: sent.append(statement))
    with engine.connect() as connection:
        for number in range(20):
            connection.execute(sqlalchemy.text(f"SELECT '{SECRET}', {number}"))
    engine.dispose()
    comments = [statement.partition("/*")[2] for statement in sent]
    assert len([comment for comment in comments if "db_driver" in comment]) == 20
    assert SECRET not in "".join(comments)
    assert pg.password not in "".join(comments)
    assert "N+1" in caplog.text
    assert SECRET not in caplog.text
    assert spans() >= 20


def test_of_http_clients(spans: Callable[[], int], server: Loopback) -> None:
    """In user-info, query parameters and headers, of requests that work and of some that fail."""
    with_secrets = server.url.replace("//", f"//user:{SECRET}@") + f"/?token={SECRET}&page=2#access_token={SECRET}"
    headers = {"Authorization": f"Bearer {SECRET}", "Cookie": f"session={SECRET}"}
    requests.get(with_secrets, headers=headers, auth=("user", SECRET), timeout=5)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://user:{SECRET}@127.0.0.1:1/?password={SECRET}", timeout=5)
    query = f"{server.url}/?api_key={SECRET}"
    urllib.request.urlopen(urllib.request.Request(query, headers=headers), timeout=5).close()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:1/?secret={SECRET}", timeout=5)
    client = tornado.httpclient.HTTPClient()
    client.fetch(query, headers=headers, auth_username="user", auth_password=SECRET)
    with pytest.raises(OSError):
        client.fetch(f"http://user:{SECRET}@127.0.0.1:1/?signature={SECRET}")
    client.close()
    assert spans() >= 6


def test_of_redis(spans: Callable[[], int], service: Callable[[str], Any]) -> None:
    """In the URL, in AUTH and HELLO and ACL SETUSER and CONFIG SET, in values, of single commands and pipelines."""
    found = service("redis")
    with contextlib.suppress(redis.RedisError):
        redis.Redis.from_url(f"redis://:{SECRET}@{found.host}:{found.port}").ping()
    client = redis.Redis.from_url(found.url)
    for command in (
        ("AUTH", SECRET),
        ("AUTH", "user", SECRET),
        ("HELLO", 3, "AUTH", "user", SECRET),
        ("ACL", "SETUSER", "nobody", f">{SECRET}"),
        ("CONFIG", "SET", "masterauth", SECRET),
        ("MIGRATE", found.host, 1, "key", 0, 1, "AUTH", SECRET),
        ("SET", "key", SECRET),
        ("EVAL", "return ARGV[1]", 0, SECRET),
        ("NO SUCH COMMAND", SECRET),
    ):
        with contextlib.suppress(redis.RedisError):
            client.execute_command(*command)
    with contextlib.suppress(redis.RedisError):
        client.pipeline().set("key", SECRET).execute_command("AUTH", "user", SECRET).execute()
    client.config_set("masterauth", "")
    client.close()
    assert spans() > 9


def test_of_aws(spans: Callable[[], int], service: Callable[[str], Any]) -> None:
    """In keys and tokens, in parameters, in a body, in errors."""
    session = boto3.session.Session(
        aws_access_key_id=SECRET, aws_secret_access_key=SECRET, aws_session_token=SECRET, region_name="eu-west-1"
    )
    table = session.client("dynamodb", endpoint_url=service("moto").url)
    with pytest.raises(botocore.exceptions.ClientError):
        table.put_item(TableName="missing", Item={"password": {"S": SECRET}})
    storage = session.client("s3", endpoint_url=service("moto").url)
    with contextlib.suppress(storage.exceptions.BucketAlreadyOwnedByYou):
        storage.create_bucket(Bucket="secrets", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    storage.put_object(Bucket="secrets", Key="key", Body=SECRET.encode())
    storage.generate_presigned_url("get_object", {"Bucket": "secrets", "Key": "key"})
    with pytest.raises(botocore.exceptions.EndpointConnectionError):
        session.client("sqs", endpoint_url=f"http://127.0.0.1:1/?token={SECRET}").list_queues()
    assert spans() >= 4


def test_of_celery(spans: Callable[[], int], service: Callable[[str], Any]) -> None:
    """In the broker's URL, that works or not, and in arguments."""
    url = service("rabbitmq").url
    with celery.Celery(broker=url) as app:
        app.send_task("task", args=[SECRET], kwargs={"password": SECRET}, queue="secrets")
    wrong = celery.Celery(broker=f"amqp://user:{SECRET}@127.0.0.1:1//")
    with wrong, pytest.raises(Exception, match="Connection refused"):
        wrong.send_task("task", args=[SECRET], queue="secrets", retry=False)
    assert spans() == 2
