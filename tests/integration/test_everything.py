"""All hooks in one process, threads and asyncio mixed: each call is a span, finished, under the root that made it."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import itertools
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import celery
import MySQLdb
import opentracing
import psycopg2
import pytest
import redis
import redis.asyncio
import requests
import sqlalchemy
from opentracing.mocktracer import MockTracer
from sqlalchemy.ext.asyncio import create_async_engine
from tornado.httpclient import AsyncHTTPClient

from opentracing_instrumentation import span_in_context
from opentracing_instrumentation.client_hooks import install_all_patches
from opentracing_instrumentation.config import CONFIG

ROOTS, CALLS, THREADS = 200, 100, 8
IN_THREADS = 150  # the other roots are tasks


class Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


class Clients:
    """A thread's clients of all libraries, and a call of each with the name of its span."""

    def __init__(self, service: Callable[[str], Any], url: str) -> None:
        pg, my, moto = service("postgresql"), service("mariadb"), service("moto")
        self.redis = redis.Redis.from_url(service("redis").url)
        self.pg = psycopg2.connect(host=pg.host, port=pg.port, user=pg.user, password=pg.password, dbname=pg.database)
        self.pg.autocommit = True
        self.my = MySQLdb.connect(host=my.host, port=my.port, user=my.user, password=my.password, database=my.database)
        self.engine = sqlalchemy.create_engine("sqlite://")
        self.sqlite = self.engine.connect()
        self.session = requests.Session()
        self.session.trust_env = False
        self.aws = boto3.session.Session(
            aws_access_key_id="key", aws_secret_access_key="secret", region_name="eu-west-1"
        ).client("sqs", endpoint_url=moto.url)
        self.app = celery.Celery(broker=service("rabbitmq").url)
        self.url = url

    def calls(self) -> list[tuple[str, Callable[[], Any]]]:
        return [
            ("redis:SET", lambda: self.redis.set("key", 1)),
            ("redis:GET", lambda: self.redis.get("key")),
            ("redis:PIPELINE", lambda: self.redis.pipeline(transaction=False).get("key").execute()),
            ("psycopg2:SELECT", lambda: self.pg.cursor().execute("SELECT 1")),
            ("MySQLdb:SELECT", lambda: self.my.cursor().execute("SELECT 1")),
            ("SQL SELECT", lambda: self.sqlite.execute(sqlalchemy.text("SELECT 1"))),
            ("GET", lambda: self.session.get(self.url)),
            ("GET", lambda: urllib.request.urlopen(self.url).close()),
            ("boto3:client:sqs:list_queues", self.aws.list_queues),
            ("Celery:apply_async:shop.order", lambda: self.app.send_task("shop.order", queue="soak")),
        ]

    def close(self) -> None:
        self.redis.close()
        self.pg.close()
        self.my.close()
        self.sqlite.close()
        self.engine.dispose()
        self.session.close()
        self.aws.close()
        self.app.close()


def in_threads(tracer: MockTracer, service: Callable[[str], Any], url: str, roots: list[Any]) -> None:
    """Serve the roots by a few threads, each with clients of its own."""
    waiting = collections.deque(roots)

    def work() -> None:
        clients = Clients(service, url)
        try:
            while waiting:
                with span_in_context(waiting.popleft()):
                    for _, call in itertools.islice(itertools.cycle(clients.calls()), CALLS):
                        call()
        except IndexError:  # another thread took the last one
            pass
        finally:
            clients.close()

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(work) for _ in range(THREADS)]:
            done.result()


async def in_tasks(service: Callable[[str], Any], url: str, database: Path, roots: list[Any]) -> None:
    """Serve the roots by tasks that share the clients."""
    shared = redis.asyncio.Redis.from_url(service("redis").url)
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{database}", poolclass=sqlalchemy.pool.AsyncAdaptedQueuePool, pool_size=20
    )
    http = AsyncHTTPClient(force_instance=True, max_clients=20)

    async def serve(root: Any) -> None:
        with span_in_context(root):
            async with engine.connect() as connection:
                for _ in range(CALLS // 4):
                    await shared.get("key")
                    await asyncio.gather(shared.set("key", 1), http.fetch(url))
                    await connection.execute(sqlalchemy.text("SELECT 1"))

    await asyncio.gather(*map(serve, roots))
    http.close()
    await getattr(shared, "aclose", shared.close)()  # its name since redis-py 5.0.1
    await engine.dispose()


@pytest.mark.timeout(300)
def test_each_of_20_000_calls_is_a_span_under_its_root(
    tracer: MockTracer, service: Callable[[str], Any], url: str, tmp_path: Path
) -> None:
    """Nothing is missing, nothing is under another root, nothing is left open, nothing is unexpected."""
    CONFIG.sql_trace_connects = False  # how often depends on the machine's load
    install_all_patches()
    roots = [tracer.start_span("root", ignore_active_span=True) for _ in range(ROOTS)]
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        tasks = beside.submit(lambda: asyncio.run(in_tasks(service, url, tmp_path / "database", roots[IN_THREADS:])))
        in_threads(tracer, service, url, roots[:IN_THREADS])
        tasks.result()

    spans = [span for span in tracer.finished_spans() if span.parent_id is not None]
    names: dict[int, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for span in spans:
        names[span.parent_id][span.operation_name] += 1
    threaded = collections.Counter(
        {"redis:SET": 10, "redis:GET": 10, "redis:PIPELINE": 10, "GET": 20, "SQL SELECT": 10}
    )
    threaded |= collections.Counter({"psycopg2:SELECT": 10, "MySQLdb:SELECT": 10, "boto3:client:sqs:list_queues": 10})
    threaded |= collections.Counter({"Celery:apply_async:shop.order": 10})
    tasked = collections.Counter({"redis:GET": 25, "redis:SET": 25, "GET": 25, "SQL SELECT": 25})
    expected = {root.context.span_id: threaded for root in roots[:IN_THREADS]}
    expected |= {root.context.span_id: tasked for root in roots[IN_THREADS:]}
    assert dict(names) == expected
    assert len(spans) == ROOTS * CALLS
    assert opentracing.tracer.active_span is None
