"""The process that gathers the spans of a program and of its children, and draws each trace when it is finished.

It is a process of its own, so that the program takes the place of `opentracing-instrument run`: with its process id,
exit code, signals and streams. It ends with the last process that it listens to.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .records import SpanRecord
from .sender import LEAVING

#: Seconds without news of a trace after which it counts as finished: none of its spans is open; or in spite of that.
QUIET = 0.25
STUCK = 30.0
#: Seconds that the program waits at most for its children's spans when it ends.
LAST = 1.0

Draw = Callable[[Iterable[SpanRecord]], None]


@dataclass
class _Trace:
    """What is known of a trace: its finished spans, and those that are open, with the connection that told so."""

    finished: list[SpanRecord] = field(default_factory=list)
    open: dict[str, int] = field(default_factory=dict)
    news: float = 0.0

    def due(self) -> float:
        """The moment from which on it counts as finished."""
        return self.news + (STUCK if self.open else QUIET)


class Traces:
    """The traces that are not drawn yet."""

    def __init__(self, draw: Draw, clock: Callable[[], float] = time.monotonic) -> None:
        self._draw = draw
        self._clock = clock
        self._traces: dict[str, _Trace] = {}

    def tell(self, source: int, message: dict[str, Any]) -> None:
        """Take a line of `sender.Sender`, which came from the connection of this number."""
        trace = self._traces.setdefault(str(message["trace_id"]), _Trace())
        trace.news = self._clock()
        if "began" in message:
            trace.open[str(message["began"])] = source
        else:
            trace.open.pop(str(message["span_id"]), None)
            trace.finished.append(SpanRecord.of(message))

    def lost(self, source: int) -> None:
        """Take leave of a process: what it has not ended, it never will."""
        for trace in self._traces.values():
            trace.open = {span: owner for span, owner in trace.open.items() if owner != source}

    def any_open(self) -> bool:
        """Tell whether a span has begun that has not ended."""
        return any(trace.open for trace in self._traces.values())

    def seconds_until_due(self) -> float | None:
        """How long there is nothing to draw, if there comes no news; None for ever."""
        if not self._traces:
            return None
        return max(0.0, min(trace.due() for trace in self._traces.values()) - self._clock())

    def draw_due(self, everything: bool = False) -> None:
        """Draw what is finished, or everything, the earliest first."""
        now = self._clock()
        due = [name for name, trace in self._traces.items() if everything or trace.due() <= now]
        spans = [span for name in due for span in self._traces.pop(name).finished]
        if spans:
            self._draw(spans)


class Collector:
    """Serves a listening socket until the program has ended and with it all who are connected.

    `program` is a file descriptor that reads as ended when the program and all that it has forked are gone.
    """

    def __init__(self, listener: socket.socket, program: int, draw: Draw) -> None:
        self._traces = Traces(draw)
        self._listener = listener
        self._program = program
        self._running = True
        self._peers: set[_Peer] = set()
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(program, selectors.EVENT_READ, self._program_ended)

    def serve(self) -> None:
        """Gather and draw, to the end."""
        while self._running or self._peers:
            self._step(self._traces.seconds_until_due())
            self._traces.draw_due()
            for peer in [peer for peer in self._peers if peer.leaving]:
                self._release(peer)
        self._traces.draw_due(everything=True)

    def _step(self, timeout: float | None) -> bool:
        """Take in what has come, waiting for it at most so many seconds. Tells whether something has."""
        ready = self._selector.select(timeout)
        for key, _ in ready:
            key.data()
        return bool(ready)

    def _release(self, peer: _Peer) -> None:
        """Draw everything, with what threads and children have just sent or are about to, before the peer may end."""
        deadline = time.monotonic() + LAST
        while self._step(QUIET if self._traces.any_open() else 0) and time.monotonic() < deadline:
            pass
        self._traces.draw_due(everything=True)
        self._leave(peer)

    def _program_ended(self) -> None:
        self._selector.unregister(self._program)
        self._running = False

    def _accept(self) -> None:
        peer = _Peer(self._listener.accept()[0])
        self._peers.add(peer)
        self._selector.register(peer.connection, selectors.EVENT_READ, lambda: self._read(peer))

    def _read(self, peer: _Peer) -> None:
        messages = peer.read()
        if messages is None:
            self._leave(peer)
            return
        for message in messages:
            self._traces.tell(peer.connection.fileno(), message)

    def _leave(self, peer: _Peer) -> None:
        if peer in self._peers:  # it may have ended while it was waited for
            self._peers.discard(peer)
            self._selector.unregister(peer.connection)
            self._traces.lost(peer.connection.fileno())
            peer.connection.close()


class _Peer:
    """One process that sends. One that is `leaving` waits until it has been drawn."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.leaving = False
        self._rest = b""

    def read(self) -> list[dict[str, Any]] | None:
        """The messages about spans that have come; None at the end."""
        try:
            received = self.connection.recv(1 << 16)
        except OSError:
            received = b""
        if not received:
            return None
        *lines, self._rest = (self._rest + received).split(b"\n")
        messages = [json.loads(line) for line in lines]
        self.leaving = self.leaving or LEAVING in messages
        return [message for message in messages if message != LEAVING]


def start(draw: Draw) -> str:
    """Start the collector of the program that takes the place of this process.

    Args:
        draw: called in the collector's process with the spans of finished traces.

    Returns:
        the path of its socket.

    Raises:
        OSError: there can be no such socket.

    An inheritable file descriptor stays open in this process, by which the collector sees the end of it.
    """
    folder = Path(tempfile.mkdtemp(prefix="opentracing-"))
    path = str(folder / "spans")
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(128)
    except OSError:
        shutil.rmtree(folder)
        raise
    ended, program = os.pipe()
    os.set_inheritable(program, True)
    intermediate = os.fork()
    if not intermediate:
        os.close(program)
        _serve_apart(Collector(listener, ended, draw), folder)
    os.waitpid(intermediate, 0)  # the collector is nobody's child that the program could be surprised by
    os.close(ended)
    listener.close()
    return path


def _serve_apart(collector: Collector, folder: Path) -> None:
    """Serve in a process that has nothing of the program's but its standard error, and never return."""
    try:
        os.setsid()  # an interrupt from the terminal is for the program
        if os.fork():
            os._exit(0)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        try:
            collector.serve()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            sys.stderr.flush()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)
