"""A cancelled fetch ends its span at once, whatever comes of the request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation.client_hooks import tornado_http
from tests.opentracing_instrumentation.loopback import Loopback
from tests.opentracing_instrumentation.told import Spans

from .conftest import Kind
from .told import cancelled, fetched, split_queue_time, without_object


async def until_seen(server: Loopback, count: int = 1) -> None:
    """Wait until the server has got as many requests."""
    while len(server.seen) < count:  # the test itself has a time-out
        await asyncio.sleep(0.002)


async def let_answer(server: Loopback, client: Any) -> None:
    """Let the server answer what hangs, and the client take notice: it sends one more request after it."""
    server.over.set()
    await client.fetch(server.url + "/last")
    await asyncio.sleep(0.02)


def test_a_cancelled_fetch_ends_its_span_once(kind: Kind, server: Loopback, tracer: MockTracer, spans: Spans) -> None:
    async def work(client: Any) -> None:
        future = client.fetch(server.url + "/hang")
        await until_seen(server)
        future.cancel()
        await asyncio.sleep(0)
        assert [without_object(span) for span in spans()] == [cancelled(fetched(server, "/hang", None))]
        await let_answer(server, client)

    kind.run(work)
    assert [span["tags"]["http.url"] for span in spans()] == [server.url + "/hang", server.url + "/last"]
    assert tracer.finished_spans()[0].tags.keys() & {"http.status_code"} == set()


def test_a_timeout_of_asyncio_ends_the_span(kind: Kind, server: Loopback, spans: Spans) -> None:
    async def work(client: Any) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.fetch(server.url + "/hang"), 0.1)
        assert [without_object(span) for span in spans()] == [cancelled(fetched(server, "/hang", None))]

    kind.run(work)


def test_a_cancelled_task_cancels_its_fetch(kind: Kind, server: Loopback, tracer: MockTracer, spans: Spans) -> None:
    async def serve(client: Any) -> None:
        with tracer.start_active_span("work"):
            await client.fetch(server.url + "/hang")

    async def work(client: Any) -> None:
        task = asyncio.ensure_future(serve(client))
        await until_seen(server)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)

    kind.run(work)
    by_operation = {span["operation"]: span for span in spans()}
    assert without_object(by_operation["GET"]) == cancelled(fetched(server, "/hang", None, parent="work"))
    assert by_operation["work"]["tags"]["error"] is True


def test_a_fetch_that_is_cancelled_while_it_waits_tells_how_long(kind: Kind, server: Loopback, spans: Spans) -> None:
    async def work(client: Any) -> None:
        first = asyncio.ensure_future(client.fetch(server.url + "/hang", raise_error=False))
        await until_seen(server)
        second = asyncio.ensure_future(client.fetch(server.url + "/x"))
        await asyncio.sleep(0.05)
        second.cancel()
        await asyncio.wait([second])
        span, waited = split_queue_time(without_object(spans()[0]))
        assert span == cancelled(fetched(server, "/x", None))
        assert 0.04 < waited < 5
        await let_answer(server, client)
        await asyncio.wait([first])

    kind.run(work, max_clients=1)
    assert [seen.path for seen in server.seen] == ["/hang", "/x", "/last"]  # Tornado sends it all the same
    assert len(spans()) == 3


def test_the_future_keeps_nothing_of_ours_when_it_is_done(kind: Kind, server: Loopback, spans: Spans) -> None:
    async def work(client: Any) -> None:
        future = client.fetch(server.url + "/x")
        callbacks = future._callbacks
        assert len(callbacks) == 1
        await future
        assert not future._callbacks

    kind.run(work)


def test_a_fetch_in_flight_ends_its_span_after_a_reset(kind: Kind, server: Loopback, spans: Spans) -> None:
    async def work(client: Any) -> None:
        answered = client.fetch(server.url + "/x")
        given_up = client.fetch(server.url + "/hang")
        await until_seen(server, 2)
        tornado_http.reset_patchers()
        await answered
        given_up.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    kind.run(work)
    answered, given_up = spans()
    assert answered == fetched(server, "/x")
    assert without_object(given_up) == cancelled(fetched(server, "/hang", None))


def test_a_tracer_that_breaks_at_the_end_does_not_break_the_loop(
    kind: Kind,
    server: Loopback,
    tracer: MockTracer,
    lenient: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work(client: Any) -> None:
        future = client.fetch(server.url + "/hang")
        await until_seen(server)
        monkeypatch.setattr(tracer, "_append_finished_span", lambda span: 1 / 0)
        future.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    kind.run(work)
    ours = [record.getMessage() for record in caplog.records if record.name == "opentracing_instrumentation"]
    assert ours == ["the end of a cancelled fetch failed; the call itself goes on (reported once)"]
    tornados = {record.getMessage() for record in caplog.records if record.name != "opentracing_instrumentation"}
    assert tornados == {"Exception after Future was cancelled"}
