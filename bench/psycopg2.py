"""psycopg2: a statement for no rows, of which the driver has nothing to send, on a connection through a real socket."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Thread
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

from .cases import Hook
from .measure import Call

STATEMENT = "INSERT INTO articles (id, name, stock) VALUES (%s, %s, %s)"


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", 4 + len(body)) + body


#: What a server says to whom it lets in: authenticated, three settings that psycopg2 asks for, ready for a query.
GREETING = b"".join(
    [
        _message(b"R", struct.pack("!i", 0)),
        _message(b"S", b"client_encoding\0UTF8\0"),
        _message(b"S", b"DateStyle\0ISO, MDY\0"),
        _message(b"S", b"standard_conforming_strings\0on\0"),
        _message(b"Z", b"I"),
    ]
)


def _greet(server: socket.socket, clients: list[socket.socket]) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:  # closed: the case is over
            return
        clients.append(client)
        client.recv(4096)
        client.sendall(GREETING)


def _listen(stack: ExitStack) -> int:
    """Start a server that greets, and says nothing more; return its port."""
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    clients: list[socket.socket] = []
    Thread(target=_greet, args=(server, clients), daemon=True).start()

    def close() -> None:
        server.shutdown(socket.SHUT_RDWR)
        for client in clients:
            client.close()

    stack.callback(close)
    return int(server.getsockname()[1])


class Psycopg2(Hook):
    """``executemany`` without rows: in C from end to end, except for what traces it."""

    name, ratio, idle = "psycopg2", 0.2, 1
    hook, instrumentor = "psycopg2", "psycopg2:Psycopg2Instrumentor"

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._dsn = f"host=127.0.0.1 port={_listen(stack)} user=tester dbname=shop sslmode=disable gssencmode=disable"
        self.call = self._calling()
        with super().ours():
            self._traced = self._calling()

    def _calling(self) -> Call:
        import psycopg2

        connection = psycopg2.connect(self._dsn)
        self._stack.callback(connection.close)
        cursor = connection.cursor()
        return lambda: cursor.executemany(STATEMENT, ())

    @contextmanager
    def ours(self) -> Iterator[Call]:
        with super().ours():
            yield self._traced

    @contextmanager
    def theirs(self, provider: TracerProvider) -> Iterator[Call]:
        with super().theirs(provider):
            if not hasattr(self, "_theirs"):
                self._theirs: Any = self._calling()
            yield self._theirs
