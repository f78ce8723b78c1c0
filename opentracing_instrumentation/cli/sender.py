"""The way of spans from a traced process to the collector that draws them: lines of JSON through a Unix socket.

A line is written when a span begins and when it ends, at once and by one call, so that whatever becomes of the process
later, killed or forked, loses nothing that has happened. This module is imported before the program begins, and so
before anybody makes sockets and locks cooperative: what it uses are the real ones.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from threading import RLock
from typing import Any

from .records import SpanRecord
from .tracer import Span

#: Seconds that the traced program waits at most for a collector which does not read, or for its last lines.
PATIENCE = 5.0
#: The message of a process that wants to end, to which the collector answers by closing the connection.
LEAVING = {"leaving": True}


class Sender:
    """Tells the collector of spans, in this process and in those forked from it. Never raises. Thread-safe."""

    def __init__(self, path: str, service: Callable[[], str]) -> None:
        """Take the path of the collector's socket, and what names the service when the first span ends."""
        self._path = path
        self._service = service
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        """Begin anew: a connection belongs to one process, and the lock may be held by a thread that is not here."""
        self._lock = RLock()
        self._connection: socket | None = None
        self._given_up = False

    def began(self, span: Span) -> None:
        """Tell that a span begins."""
        context = span.context
        self._send({"began": context.span_id, "trace_id": context.trace_id})

    def ended(self, span: Span) -> None:
        """Tell all about a span that has ended."""
        self._send(asdict(SpanRecord.of(span, self._service())))

    def close(self) -> None:
        """Wait until the collector has drawn what it has got, and gets from other threads meanwhile; send no more."""
        with self._lock:
            if self._connection is not None:
                self._send(LEAVING)
            connection = self._connection
        if connection is not None:
            try:
                connection.recv(1)
            except OSError:  # it is gone, or busy
                pass
        self._give_up()

    def _send(self, message: Mapping[str, Any]) -> None:
        line = json.dumps(message).encode("ascii") + b"\n"
        with self._lock:
            if self._given_up:
                return
            try:
                if self._connection is None:
                    self._connection = socket(AF_UNIX, SOCK_STREAM)
                    self._connection.settimeout(PATIENCE)
                    self._connection.connect(self._path)
                self._connection.sendall(line)
            except OSError:  # the collector has ended before this process, or nobody reads what it writes
                self._give_up()

    def _give_up(self) -> None:
        with self._lock:
            connection, self._connection, self._given_up = self._connection, None, True
        if connection is not None:
            connection.close()


def program_name() -> str:
    """The name of this program, by its first argument: of a package run with ``-m`` that of the package."""
    path = Path((getattr(sys, "argv", None) or [""])[0])
    name = path.parent.name if path.stem == "__main__" else path.stem
    return name if name not in ("", "-c", "-m", "-") else "python"
