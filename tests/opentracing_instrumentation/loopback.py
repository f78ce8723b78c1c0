"""An HTTP server on 127.0.0.1 for the tests of clients: it redirects, fails, hangs, resets and streams on demand."""

from __future__ import annotations

import socket
import struct
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Seen(NamedTuple):
    """A request as the server received it; the headers' names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Loopback(ThreadingHTTPServer):
    """Answers by the path's first word; ``seen`` holds the requests in the order of their arrival.

    ``/status/404`` with that status; ``/redirect/2`` with a redirect to ``/redirect/1`` and so on to ``/``;
    ``/flaky/2`` with 503 twice, then 200; ``/reset`` by resetting the connection; ``/hang`` not before the test is
    over; ``/stream`` in chunks; anything else, also a proxy's absolute URL, with 200 and ``ok``.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.forget()
        self.port = self.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def forget(self) -> None:
        """Be as new, and let go of what hangs."""
        if hasattr(self, "over"):
            self.over.set()
        self.seen: list[Seen] = []
        self.answered: Counter[str] = Counter()
        self.over = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what the tests are about."""

    def __enter__(self) -> Loopback:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.forget()
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Loopback
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def handle_one_request(self) -> None:
        super().handle_one_request()
        self.close_connection = True  # a thread for each request: none waits for the next one of a kept connection

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append(Seen(self.command, self.path, headers, self._body()))
        self.server.answered[self.path] += 1
        word, _, argument = self.path.partition("?")[0].removeprefix("/").partition("/")
        getattr(self, f"_{word}", self._ok)(argument)

    do_POST = do_PUT = do_HEAD = do_DELETE = do_GET

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _ok(self, argument: str) -> None:
        self._answer(200, b"ok")

    def _status(self, argument: str) -> None:
        self._answer(int(argument))

    def _redirect(self, argument: str) -> None:
        left = int(argument) - 1
        self._answer(302, Location=f"/redirect/{left}" if left else "/")

    def _flaky(self, argument: str) -> None:
        self._answer(503 if self.server.answered[self.path] <= int(argument) else 200, b"ok")

    def _reset(self, argument: str) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.wfile.close()
        self.connection.close()

    def _hang(self, argument: str) -> None:
        self.server.over.wait(10)

    def _stream(self, argument: str) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        for chunk in (b"one", b"two", b"three"):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")
