"""How programs use a tracer: the situations of OpenTracing's own test bed, with threads and with asyncio.

Each is told in the words of this package; what counts is that every span has its right parent and ends once.
"""

from __future__ import annotations

import asyncio
import queue
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from opentracing import Format

from opentracing_instrumentation import client_hooks
from opentracing_instrumentation.config import CONFIG
from opentracing_instrumentation.otel import Span, Tracer

from .spans import by_name, tree

Kept = InMemorySpanExporter


class TestReplacedSpan:
    """A task is given a span, and makes another one current in its place."""

    def work(self, tracer: Tracer, span: Span) -> None:
        with tracer.scope_manager.activate(span, True), tracer.start_active_span("task", ignore_active_span=True):
            tracer.start_span("subtask").finish()

    def check(self, tracer: Tracer, exporter: Kept) -> None:
        assert tracer.active_span is None
        assert tree(exporter.get_finished_spans()) == ["initial", "task", ["subtask"]]

    def test_in_a_thread(self, tracer: Tracer, exporter: Kept) -> None:
        """The initial span ends with its scope; the other trace stays apart."""
        with ThreadPoolExecutor(1) as pool:
            pool.submit(self.work, tracer, tracer.start_span("initial")).result()
        self.check(tracer, exporter)

    def test_in_a_task(self, tracer: Tracer, exporter: Kept) -> None:
        """The same."""

        async def main() -> None:
            span = tracer.start_span("initial")
            await asyncio.ensure_future(asyncio.to_thread(self.work, tracer, span))

        asyncio.run(main())
        self.check(tracer, exporter)


class TestClientAndServer:
    """A message carries the context from a client to a server that runs elsewhere."""

    def send(self, tracer: Tracer, put: Callable[[Any], Any]) -> None:
        message: dict[str, str] = {}
        with tracer.start_active_span("send", tags={"span.kind": "client"}) as scope:
            tracer.inject(scope.span.context, Format.TEXT_MAP, message)
            put(message)

    def receive(self, tracer: Tracer, message: dict[str, str]) -> None:
        parent = tracer.extract(Format.TEXT_MAP, message)
        with tracer.start_active_span("receive", child_of=parent, tags={"span.kind": "server"}):
            pass

    def check(self, exporter: Kept) -> None:
        spans = by_name(exporter.get_finished_spans())
        assert spans["receive"].parent.span_id == spans["send"].context.span_id
        assert (spans["send"].kind, spans["receive"].kind) == (SpanKind.CLIENT, SpanKind.SERVER)

    def test_threads(self, tracer: Tracer, exporter: Kept) -> None:
        """The server waits in a thread."""
        messages: queue.Queue[Any] = queue.Queue()
        server = threading.Thread(target=lambda: self.receive(tracer, messages.get()))
        server.start()
        self.send(tracer, messages.put)
        server.join()
        self.check(exporter)

    def test_tasks(self, tracer: Tracer, exporter: Kept) -> None:
        """The server waits in a task."""

        async def main() -> None:
            messages: asyncio.Queue[Any] = asyncio.Queue()

            async def serve() -> None:
                self.receive(tracer, await messages.get())

            server = asyncio.ensure_future(serve())
            self.send(tracer, messages.put_nowait)
            await server

        asyncio.run(main())
        self.check(exporter)


class Handler:
    """One handler for all requests of a client: their spans are roots, or children of one that it was given."""

    def __init__(self, tracer: Tracer, parent: Span | None = None) -> None:
        self.tracer = tracer
        self.parent = parent
        self.spans: dict[str, Span] = {}

    def before(self, request: str) -> None:
        self.spans[request] = self.tracer.start_span(request, child_of=self.parent, ignore_active_span=True)

    def after(self, request: str) -> None:
        self.spans.pop(request).finish()


class TestCommonHandler:
    """Requests that are under way at the same time share a handler, which keeps no span current."""

    def test_threads(self, tracer: Tracer, exporter: Kept) -> None:
        """None of them is the parent of another, whichever is current where they begin."""
        handler = Handler(tracer)
        barrier = threading.Barrier(3, timeout=20)

        def request(name: str) -> None:
            handler.before(name)
            barrier.wait()
            handler.after(name)

        with tracer.start_active_span("unrelated"), ThreadPoolExecutor(3) as pool:
            list(pool.map(request, ["one", "two", "three"]))
        spans = exporter.get_finished_spans()
        assert {span.name: span.parent for span in spans} == dict.fromkeys(["one", "two", "three", "unrelated"])

    def test_tasks(self, tracer: Tracer, exporter: Kept) -> None:
        """The same, below one parent that all of them are given."""

        async def main() -> None:
            with tracer.start_active_span("parent") as scope:
                handler = Handler(tracer, scope.span)

            async def request(name: str) -> None:
                handler.before(name)
                await asyncio.sleep(0.001)
                handler.after(name)

            await asyncio.gather(*map(request, ["one", "two", "three"]))

        asyncio.run(main())
        assert tree(exporter.get_finished_spans()) == ["parent", ["one", "two", "three"]]


class TestLateFinish:
    """A parent ends before the work that was begun below it."""

    def test_threads(self, tracer: Tracer, exporter: Kept) -> None:
        """Threads are given the span, and make it current without ending it."""
        parent = tracer.start_span("parent")
        go = threading.Event()

        def work(name: str) -> None:
            with tracer.scope_manager.activate(parent, False):
                go.wait(20)
                tracer.start_active_span(name).close()

        with ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(work, name) for name in ("one", "two")]
            parent.finish()
            go.set()
            for future in futures:
                future.result()
        assert exporter.get_finished_spans()[0].name == "parent"
        name, children = tree(exporter.get_finished_spans())
        assert (name, sorted(children)) == ("parent", ["one", "two"])

    def test_tasks(self, tracer: Tracer, exporter: Kept) -> None:
        """Tasks inherit it."""

        async def main() -> None:
            async def work(name: str) -> None:
                await asyncio.sleep(0.001)
                tracer.start_active_span(name).close()

            with tracer.start_active_span("parent"):
                tasks = [asyncio.ensure_future(work(name)) for name in ("one", "two")]
            await asyncio.gather(*tasks)

        asyncio.run(main())
        assert tree(exporter.get_finished_spans()) == ["parent", ["one", "two"]]


def test_a_listener_for_each_request(tracer: Tracer, exporter: Kept) -> None:
    """A callback that was given the span ends it in whatever thread the response comes."""

    def request(respond: Callable[[Callable[[str], None]], Any]) -> None:
        span = tracer.start_span("request", tags={"span.kind": "client"})

        def done(response: str) -> None:
            span.set_tag("response", response).finish()

        respond(done)

    with ThreadPoolExecutor(1) as pool:
        request(lambda listener: pool.submit(listener, "yes").result())
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.kind, dict(span.attributes)) == ("request", SpanKind.CLIENT, {"response": "yes"})


class TestManyCallbacks:
    """A parent ends when the last of its callbacks has run."""

    def test_threads(self, tracer: Tracer, exporter: Kept) -> None:
        """Each runs in a thread with the parent current."""
        with tracer.start_active_span("parent") as scope, ThreadPoolExecutor(3) as pool:

            def work(name: str) -> None:
                with tracer.scope_manager.activate(scope.span, False), tracer.start_active_span(name):
                    pass

            list(pool.map(work, "abc"))
        name, children = tree(exporter.get_finished_spans())
        assert (name, sorted(children)) == ("parent", ["a", "b", "c"])

    def test_callbacks_of_an_event_loop(self, tracer: Tracer, exporter: Kept) -> None:
        """They inherit it."""

        async def main() -> None:
            loop = asyncio.get_running_loop()
            done = [loop.create_future() for _ in range(3)]

            def callback(number: int) -> None:
                with tracer.start_active_span(f"callback {number}"):
                    done[number].set_result(None)

            with tracer.start_active_span("parent"):
                for number in range(3):
                    loop.call_later(0.001 * number, callback, number)
                await asyncio.gather(*done)

        asyncio.run(main())
        assert tree(exporter.get_finished_spans()) == ["parent", ["callback 0", "callback 1", "callback 2"]]


class TestNestedCallbacks:
    """Each callback starts the next, and the last one ends the span that all of them tell of themselves."""

    def test_threads(self, tracer: Tracer, exporter: Kept) -> None:
        """The span goes from thread to thread."""
        with ThreadPoolExecutor(3) as pool:

            def step(number: int, span: Span) -> Any:
                with tracer.scope_manager.activate(span, number == 3):
                    tracer.active_span.set_tag(f"step {number}", "done")
                return None if number == 3 else pool.submit(step, number + 1, span).result()

            step(1, tracer.start_span("chain"))
        (span,) = exporter.get_finished_spans()
        assert dict(span.attributes) == {"step 1": "done", "step 2": "done", "step 3": "done"}
        assert tracer.active_span is None

    def test_callbacks_of_an_event_loop(self, tracer: Tracer, exporter: Kept) -> None:
        """It is inherited, and the last callback, in a copy of the context, ends its scope."""

        async def main() -> None:
            loop = asyncio.get_running_loop()
            over = loop.create_future()
            scope = tracer.start_active_span("chain")

            def step(number: int) -> None:
                tracer.active_span.set_tag(f"step {number}", "done")
                if number < 3:
                    loop.call_soon(step, number + 1)
                else:
                    scope.close()
                    over.set_result(tracer.active_span)

            loop.call_soon(step, 1)
            assert await over is None
            assert tracer.active_span is None

        asyncio.run(main())
        (span,) = exporter.get_finished_spans()
        assert dict(span.attributes) == {"step 1": "done", "step 2": "done", "step 3": "done"}


class TestSubtasks:
    """A current span is the parent of what a subtask does."""

    def test_thread(self, tracer: Tracer, exporter: Kept) -> None:
        """A thread inherits nothing: it is given the span."""

        def subtask(span: Span) -> None:
            assert tracer.active_span is None
            with tracer.scope_manager.activate(span, False), tracer.start_active_span("child"):
                pass

        with tracer.start_active_span("parent") as scope, ThreadPoolExecutor(1) as pool:
            pool.submit(subtask, scope.span).result()
        assert tree(exporter.get_finished_spans()) == ["parent", ["child"]]

    def test_coroutine(self, tracer: Tracer, exporter: Kept) -> None:
        """A coroutine, a task and a thread of the event loop's inherit it."""

        async def subtask(name: str) -> None:
            await asyncio.sleep(0)
            tracer.start_active_span(name).close()

        async def main() -> None:
            with tracer.start_active_span("parent"):
                await subtask("awaited")
                await asyncio.ensure_future(subtask("task"))
                await asyncio.to_thread(lambda: tracer.start_active_span("thread").close())

        asyncio.run(main())
        assert tree(exporter.get_finished_spans()) == ["parent", ["awaited", "task", "thread"]]


OPERATIONS = 10_000


class Interleaving:
    """Operations of a few nested spans, native ones and ours in a random order, and inside of them a hook's span."""

    def __init__(self, tracer: Tracer, provider: TracerProvider) -> None:
        self.tracer = tracer
        self.native = provider.get_tracer("native")
        self.engine = sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.pool.NullPool)
        CONFIG.sql_trace_connects = False  # a span of each operation's is enough

    def query(self, number: int) -> None:
        """Do what a hook traces: SQLAlchemy's."""
        with self.engine.connect() as connection:
            assert connection.exec_driver_sql(f"SELECT {number}").scalar() == number

    def scopes(self, number: int) -> list[tuple[str, Any]]:
        """Return the spans of an operation, to be begun one inside the other: names and context managers."""
        chooser = random.Random(number)
        depth = chooser.randint(1, 4)
        names = [f"{number}.{level}" for level in range(depth)]
        return [
            (name, self.native.start_as_current_span if chooser.random() < 0.5 else self.tracer.start_active_span)
            for name in names
        ]


@pytest.fixture
def hook() -> Iterator[None]:
    """SQLAlchemy's hook is installed."""
    client_hooks.sqlalchemy.install_patches()
    yield
    client_hooks.sqlalchemy.reset_patches()


def check_interleaving(exporter: Kept, root: str) -> None:
    """All operations are in one trace, and each span is below the right one."""
    finished = exporter.get_finished_spans()
    spans = by_name([span for span in finished if span.name != "SELECT"])
    ids = {span.context.span_id: name for name, span in spans.items()}
    queries = [span for span in finished if span.name == "SELECT"]
    assert len(queries) == OPERATIONS
    for query in queries:
        number = query.attributes["db.query.text"].removeprefix("SELECT ")
        above = ids[query.parent.span_id]
        assert above.startswith(f"{number}.")
        assert f"{number}.{int(above.partition('.')[2]) + 1}" not in spans
    assert {span.context.trace_id for span in spans.values()} == {spans[root].context.trace_id}
    wrong = []
    for name, span in spans.items():
        if name == root:
            continue
        number, _, level = name.partition(".")
        expected = root if level == "0" else f"{number}.{int(level) - 1}"
        if ids[span.parent.span_id] != expected:
            wrong.append((name, ids[span.parent.span_id]))
    assert wrong == []
    assert len({name.partition(".")[0] for name in spans if name != root}) == OPERATIONS


@pytest.mark.usefixtures("hook")
def test_10_000_operations_in_threads(tracer: Tracer, provider: TracerProvider, exporter: Kept) -> None:
    """Eight threads, each given the root."""
    interleaving = Interleaving(tracer, provider)

    def nest(number: int, scopes: list[tuple[str, Any]]) -> None:
        if scopes:
            (name, begin), *rest = scopes
            with begin(name):
                nest(number, rest)
        else:
            interleaving.query(number)

    with tracer.start_active_span("root") as root, ThreadPoolExecutor(8) as pool:

        def work(first: int) -> None:
            with tracer.scope_manager.activate(root.span, False):
                for number in range(first, OPERATIONS, 8):
                    nest(number, interleaving.scopes(number))

        list(pool.map(work, range(8)))
    check_interleaving(exporter, "root")


@pytest.mark.usefixtures("hook")
def test_10_000_operations_in_tasks(tracer: Tracer, provider: TracerProvider, exporter: Kept) -> None:
    """A hundred tasks at a time, each waiting inside of each span."""
    interleaving = Interleaving(tracer, provider)

    async def nest(number: int, scopes: list[tuple[str, Any]]) -> None:
        await asyncio.sleep(0)
        if scopes:
            (name, begin), *rest = scopes
            with begin(name):
                await nest(number, rest)
        else:
            interleaving.query(number)

    async def main() -> None:
        with tracer.start_active_span("root"):
            for first in range(0, OPERATIONS, 100):
                await asyncio.gather(
                    *(nest(first + number, interleaving.scopes(first + number)) for number in range(100))
                )

    asyncio.run(main())
    check_interleaving(exporter, "root")


@pytest.mark.usefixtures("hook")
def test_10_000_operations_in_greenlets(tracer: Tracer, provider: TracerProvider, exporter: Kept) -> None:
    """The same with gevent's greenlets."""
    import gevent

    interleaving = Interleaving(tracer, provider)

    def nest(number: int, scopes: list[tuple[str, Any]]) -> None:
        gevent.sleep(0)
        if scopes:
            (name, begin), *rest = scopes
            with begin(name):
                nest(number, rest)
        else:
            interleaving.query(number)

    with tracer.start_active_span("root") as root:

        def work(number: int) -> None:
            with tracer.scope_manager.activate(root.span, False):
                nest(number, interleaving.scopes(number))

        for first in range(0, OPERATIONS, 100):
            gevent.joinall([gevent.spawn(work, first + number) for number in range(100)], raise_error=True)
    check_interleaving(exporter, "root")
