"""MySQLdb: a statement on a cursor of the driver's, above a connection that takes it and has no result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

from .cases import Hook
from .measure import Call

STATEMENT = "DELETE FROM sessions WHERE expired"


class Connection:
    """What a cursor needs of a connection, with nothing behind it."""

    host, port, user, database, encoding = "192.0.2.17", 3306, "tester", "shop", "utf8"

    def cursor(self) -> Any:
        from MySQLdb.cursors import Cursor

        return Cursor(self)

    def get_host_info(self) -> str:
        return f"{self.host} via TCP/IP"

    def query(self, _: bytes) -> None:
        pass

    def next_result(self) -> int:
        return -1

    def store_result(self) -> None:
        return None

    def affected_rows(self) -> int:
        return 0

    warning_count = insert_id = affected_rows


class MySQLdb(Hook):
    """``execute``."""

    name, ratio, idle = "mysqldb", 0.2, 1
    hook, instrumentor = "mysqldb", "mysqlclient:MySQLClientInstrumentor"

    def __init__(self, stack: ExitStack) -> None:
        self._connection = Connection()
        self.call = self._calling(self._connection)

    def _calling(self, connection: Any) -> Call:
        cursor = connection.cursor()
        return lambda: cursor.execute(STATEMENT)

    @contextmanager
    def theirs(self, provider: TracerProvider) -> Iterator[Call]:
        from opentelemetry.instrumentation.mysqlclient import MySQLClientInstrumentor

        traced = MySQLClientInstrumentor.instrument_connection(self._connection, tracer_provider=provider)
        yield self._calling(traced)
