"""The inventory: a Tornado service that reserves articles, as long as they are in stock.

    python -m examples.shop.inventory FOLDER

prints its URL, and serves until its standard input ends.
"""

import asyncio
import sys
from pathlib import Path

from sqlalchemy import CheckConstraint, Column, Integer, MetaData, String, Table, create_engine, insert, update
from sqlalchemy.engine import Engine
from tornado.escape import json_decode
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from opentracing_instrumentation.client_hooks import install_all_patches
from opentracing_instrumentation.middleware.tornado import trace_application

from .tracing import init_tracer

METADATA = MetaData()
STOCK = Table(
    "stock",
    METADATA,
    Column("article", String, primary_key=True),
    Column("quantity", Integer, CheckConstraint("quantity >= 0", name="in_stock"), nullable=False),
)
RESERVATION = Table(
    "reservation",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("article", String, nullable=False),
    Column("quantity", Integer, nullable=False),
)


class Reservations(RequestHandler):
    """POST {"article": ..., "quantity": ...}: 201, or 500 when there are not so many."""

    def initialize(self, database: Engine) -> None:
        self.database = database

    async def post(self) -> None:
        wish = json_decode(self.request.body)
        await asyncio.to_thread(self.reserve, wish["article"], wish["quantity"])
        self.set_status(201)

    def reserve(self, article: str, quantity: int) -> None:
        """Runs in a thread; its statements are children of the request all the same."""
        with self.database.begin() as connection:
            connection.execute(insert(RESERVATION).values(article=article, quantity=quantity))
            connection.execute(
                update(STOCK).where(STOCK.c.article == article).values(quantity=STOCK.c.quantity - quantity)
            )


async def main(folder: Path) -> None:
    init_tracer("inventory", folder)
    install_all_patches()  # (1) what it calls becomes spans: here SQLAlchemy

    database = create_engine(f"sqlite:///{folder / 'inventory.db'}")
    METADATA.create_all(database)
    with database.begin() as connection:
        connection.execute(insert(STOCK).values(article="teapot", quantity=10))

    application = Application([("/reservations", Reservations, {"database": database})])
    trace_application(application)  # (2) the requests that it answers become spans

    sockets = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(application)
    server.add_sockets(sockets)
    print(f"http://127.0.0.1:{sockets[0].getsockname()[1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.stop()
    await server.close_all_connections()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
