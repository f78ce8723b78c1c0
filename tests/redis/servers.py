"""Redis servers of a test's own, which it may kill, fill up, or join to a cluster."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.opentracing_instrumentation.told import unused_port

HOST = "127.0.0.1"
PATIENCE = 20  # seconds


class Server:
    """A server on a port and a unix socket. It keeps nothing: when it starts again, it is empty."""

    def __init__(self, folder: Path, options: Sequence[str] = ()) -> None:
        self.port = unused_port()
        self.path = str(folder / "socket")
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.fail("no redis-server: make services-up installs it", pytrace=False)
        settings = f"--bind {HOST} --port {self.port} --unixsocket {self.path} --dir {self._folder} --appendonly no"
        command = [program, *settings.split(), "--save", "", *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        eventually(self._answers)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Let the server answer nobody during a block."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def ask(self, *command: object) -> Any:
        """Have one command executed, past everything that is traced; return the raw reply."""
        return ask(redis.Connection(HOST, self.port), *command)

    def _answers(self) -> bool:
        try:
            return bool(self.ask("PING"))
        except redis.ConnectionError:
            return False


def ask(connection: redis.Connection, *command: object) -> Any:
    """Have one command executed on a connection, which is closed then; return the raw reply."""
    try:
        connection.connect()
        connection.send_command(*command)
        return connection.read_response()
    finally:
        connection.disconnect()


@contextmanager
def server(*options: str) -> Iterator[Server]:
    """A server during a block."""
    with tempfile.TemporaryDirectory(prefix="redis-", dir="/tmp") as folder:  # the path of a unix socket is short
        made = Server(Path(folder), options)
        try:
            made.start()
            yield made
        finally:
            made.kill()


@contextmanager
def cluster() -> Iterator[list[Server]]:
    """Three servers that share the slots of a cluster, during a block."""
    with ExitStack() as stack:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "5000")
        buses = [unused_port() for _ in range(3)]
        nodes = [stack.enter_context(server(*options, "--cluster-port", str(bus))) for bus in buses]
        for index, node in enumerate(nodes):
            node.ask("CLUSTER ADDSLOTSRANGE", index * 5461, 16383 if index == 2 else index * 5461 + 5460)
            node.ask("CLUSTER SET-CONFIG-EPOCH", index + 1)
            node.ask("CLUSTER MEET", HOST, nodes[0].port, buses[0])
        eventually(lambda: all(_is_complete(node) for node in nodes))
        yield nodes


def _is_complete(node: Server) -> bool:
    info = node.ask("CLUSTER INFO")
    return b"cluster_state:ok" in info and b"cluster_known_nodes:3" in info and len(node.ask("CLUSTER SLOTS")) == 3


@contextmanager
def sentinel(master: Server) -> Iterator[int]:
    """The port of a Sentinel that watches a server under the name ``orders``, during a block."""
    with tempfile.TemporaryDirectory(prefix="sentinel-", dir="/tmp") as folder:
        port = unused_port()
        settings = Path(folder, "sentinel.conf")
        settings.write_text(f"bind {HOST}\nport {port}\nsentinel monitor orders {HOST} {master.port} 1\n")
        program = shutil.which("redis-server")
        assert program is not None
        process = subprocess.Popen([program, settings, "--sentinel"], stdout=subprocess.DEVNULL)
        try:
            eventually(lambda: _listens(port))
            yield port
        finally:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def eventually(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    limit = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < limit, "it took too long"
        time.sleep(0.02)
