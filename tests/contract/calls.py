"""One real call by each hook's library, for the tests that every hook has to pass.

A call takes the function that finds a server (the fixture ``service``), makes one call as an application would, and
returns what came of it in a form that can be compared. It looks its library's names up when it is called.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Find = Callable[[str], Any]


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@functools.cache
def _url() -> str:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/path"


def _requests(find: Find) -> Any:
    import requests

    with requests.Session() as session:
        response = session.get(_url(), timeout=10)
    return response.status_code, response.text


def _urllib2(find: Find) -> Any:
    import urllib.request

    with urllib.request.urlopen(_url(), timeout=10) as response:
        return response.status, response.read()


def _tornado_http(find: Find) -> Any:
    from tornado.httpclient import AsyncHTTPClient

    async def fetch() -> Any:
        client = AsyncHTTPClient(force_instance=True)
        try:
            response = await client.fetch(_url(), request_timeout=10)
            return response.code, response.body
        finally:
            client.close()

    return asyncio.run(fetch())


def _sqlalchemy(find: Find) -> Any:
    import sqlalchemy

    engine = sqlalchemy.create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            return connection.execute(sqlalchemy.text("SELECT 1, 'two'")).fetchall()
    finally:
        engine.dispose()


def _psycopg2(find: Find) -> Any:
    import psycopg2

    server = find("postgresql")
    connection = psycopg2.connect(
        host=server.host, port=server.port, user=server.user, password=server.password, dbname=server.database
    )
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1, 'two'")
            return cursor.fetchall()
    finally:
        connection.close()


def _mysqldb(find: Find) -> Any:
    import MySQLdb

    server = find("mariadb")
    connection = MySQLdb.connect(
        host=server.host, port=server.port, user=server.user, password=server.password, database=server.database
    )
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1, 'two'")
            return cursor.fetchall()
    finally:
        connection.close()


def _strict_redis(find: Find) -> Any:
    import redis

    server = find("redis")
    with redis.Redis(host=server.host, port=server.port, password=server.password or None) as client:
        return client.echo("text")


def _work(argument: str) -> None:
    """Be published."""


def _celery(find: Find) -> Any:
    import celery

    with celery.Celery("contract", broker="memory://", set_as_current=False) as app:
        task = app.task(_work, name="contract.task", shared=False)
        return task.apply_async(["argument"], task_id="the-id").id


def _boto3(find: Find) -> Any:
    import boto3

    server = find("moto")
    client = boto3.client(
        "dynamodb",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id=server.user,
        aws_secret_access_key=server.password,
    )
    try:
        client.describe_table(TableName="of-the-contract")
    except client.exceptions.ResourceNotFoundException as error:
        return error.response["Error"]
    finally:
        client.close()


#: By the names of the hooks.
CALLS: dict[str, Callable[[Find], Any]] = {
    "requests": _requests,
    "urllib2": _urllib2,
    "tornado_http": _tornado_http,
    "sqlalchemy": _sqlalchemy,
    "psycopg2": _psycopg2,
    "mysqldb": _mysqldb,
    "strict_redis": _strict_redis,
    "celery": _celery,
    "boto3": _boto3,
}
