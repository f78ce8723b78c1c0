"""The shop: a WSGI service that takes orders, and has the inventory reserve what is ordered.

    python -m examples.shop.shop FOLDER URL-OF-THE-INVENTORY

prints its URL, and serves until its standard input ends.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIServer, make_server

import requests
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, insert, select
from sqlalchemy.engine import Engine

from opentracing_instrumentation.client_hooks import install_all_patches
from opentracing_instrumentation.middleware.wsgi import TracingMiddleware

from .tracing import init_tracer

METADATA = MetaData()
ARTICLE = Table("article", METADATA, Column("name", String, primary_key=True), Column("price", Integer, nullable=False))
ORDER = Table(
    "placed_order",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("article", String, nullable=False),
    Column("total", Integer, nullable=False),
)


class Shop:
    """POST {"article": ..., "quantity": ...}: 201 and the order, or 502 when the inventory fails."""

    def __init__(self, database: Engine, inventory: str) -> None:
        self.database = database
        self.inventory = inventory

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        wish = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        try:
            status, answer = "201 Created", self.order(wish["article"], wish["quantity"])
        except requests.RequestException as error:
            status, answer = "502 Bad Gateway", {"error": str(error)}
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]

    def order(self, article: str, quantity: int) -> dict[str, Any]:
        with self.database.begin() as connection:
            price = connection.execute(select(ARTICLE.c.price).where(ARTICLE.c.name == article)).scalar_one()
            wish = {"article": article, "quantity": quantity}
            requests.post(f"{self.inventory}/reservations", json=wish, timeout=5).raise_for_status()
            placed = connection.execute(insert(ORDER).values(article=article, total=price * quantity))
        return {"order": placed.inserted_primary_key[0], "total": price * quantity}


class ThreadingServer(ThreadingMixIn, WSGIServer):
    """A thread for each request; closing it waits for those that are at work."""


def main(folder: Path, inventory: str) -> None:
    init_tracer("shop", folder)
    install_all_patches()  # (1) what it calls becomes spans: here SQLAlchemy and requests

    database = create_engine(f"sqlite:///{folder / 'shop.db'}")
    METADATA.create_all(database)
    with database.begin() as connection:
        connection.execute(insert(ARTICLE).values(name="teapot", price=25))

    application = TracingMiddleware(Shop(database, inventory))  # (2) the requests that it answers become spans

    with make_server("127.0.0.1", 0, application, ThreadingServer) as server:
        Thread(target=server.serve_forever, args=(0.05,)).start()
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
