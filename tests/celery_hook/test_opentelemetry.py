"""Where OpenTelemetry records no span: none of ours is begun in vain, and the context travels all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from time import time
from typing import Any

import opentracing
import pytest
from celery import Celery
from celery.app.trace import build_tracer
from celery.signals import before_task_publish
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider

from opentracing_instrumentation import get_current_span
from opentracing_instrumentation.otel import Span, SpanContext, Tracer
from opentracing_instrumentation.request_context import RequestContextManager, current_span, set_current_span_func
from tests.otel.conftest import empty_context  # noqa: F401 - the fixture
from tests.otel.test_idle import CountingSampler

from .tasks import make_app
from .test_publishing import message, messages

REMOTE = trace.SpanContext(7, 8, is_remote=True, trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED))
TRACEPARENT = "00-00000000000000000000000000000007-0000000000000008-01"
OURS = {"parent_span_context", "parent_span_published"}


@pytest.fixture
def dropping(monkeypatch: pytest.MonkeyPatch) -> Tracer:
    """A tracer, in force, on an SDK that drops all spans."""
    tracer = Tracer(TracerProvider(CountingSampler(), shutdown_on_exit=False))
    monkeypatch.setattr(opentracing, "tracer", tracer)
    return tracer


@pytest.fixture
def without_sdk(monkeypatch: pytest.MonkeyPatch) -> Tracer:
    """A tracer, in force, on a provider that records nothing."""
    tracer = Tracer(trace.NoOpTracerProvider())
    monkeypatch.setattr(opentracing, "tracer", tracer)
    return tracer


@pytest.fixture
def app() -> Iterator[Celery]:
    """An application whose broker keeps the messages in the memory of this process."""
    with make_app("memory://") as app:
        with app.connection_for_write() as connection:
            app.amqp.queues["celery"](connection.default_channel).declare()
        messages(app)
        yield app


def traceparent(span_context: SpanContext) -> str:
    identity = span_context.unwrap()
    return f"00-{identity.trace_id:032x}-{identity.span_id:016x}-{identity.trace_flags:02x}"


WAYS: dict[str, Callable[[Celery], Any]] = {
    "by the task": lambda app: app.tasks["shop.add"].delay(1, 2),
    "by its name": lambda app: app.send_task("shop.add", (1, 2)),
}


@pytest.mark.parametrize("way", WAYS)
def test_publishing_below_a_span_that_is_sampled_out(way: str, app: Celery, dropping: Tracer) -> None:
    """That one's context travels, and the time. No sampler is asked."""
    current: list[Any] = []

    def look(**_: Any) -> None:
        current.append(get_current_span())

    with dropping.start_active_span("dropped") as scope:
        scope.span.set_baggage_item("tenant", "blue")
        CountingSampler.asked = 0
        before_task_publish.connect(look)
        try:
            WAYS[way](app)
        finally:
            before_task_publish.disconnect(look)
        WAYS[way](app)
        assert (current, CountingSampler.asked) == ([scope.span], 0)
        assert not scope.span.context.unwrap().trace_flags.sampled
        told = {"traceparent": traceparent(scope.span.context), "baggage": "tenant=blue"}
    sent = [each.headers for each in messages(app)]
    assert [headers["parent_span_context"] for headers in sent] == [told] * 2
    assert [headers["parent_span_published"] for headers in sent] == [pytest.approx(time(), abs=60)] * 2


def native(tracer: Tracer, _: Span) -> AbstractContextManager[Any]:
    return tracer.unwrap().start_as_current_span("dropped")


def request_context(_: Tracer, span: Span) -> AbstractContextManager[Any]:
    return RequestContextManager(span)


def current_span_func(tracer: Tracer, span: Span) -> AbstractContextManager[Any]:
    set_current_span_func(lambda: span)
    return tracer.start_active_span("another")  # type: ignore[no-any-return]


@pytest.mark.parametrize("parent", [native, request_context, current_span_func])
def test_the_parent_may_be_another_than_the_active_span_of_ours(parent: Any, app: Celery, dropping: Tracer) -> None:
    """It is always the parent's context that travels."""
    with dropping.start_active_span("around"), parent(dropping, dropping.start_span("dropped")):
        WAYS["by the task"](app)
        assert message(app).headers["parent_span_context"] == {"traceparent": traceparent(current_span().context)}


@pytest.mark.parametrize("way", WAYS)
def test_without_an_sdk_a_message_is_what_it_was(way: str, app: Celery, without_sdk: Tracer) -> None:
    """Unless there is a context that came from elsewhere."""
    with without_sdk.start_active_span("nothing"):
        WAYS[way](app)
    assert OURS.isdisjoint(message(app).headers)
    with trace.use_span(trace.NonRecordingSpan(REMOTE)):
        WAYS[way](app)
    assert message(app).headers["parent_span_context"] == {"traceparent": TRACEPARENT}


def test_where_opentelemetry_is_suppressed(app: Celery, dropping: Tracer) -> None:
    """Nothing is published with a context, and nothing is run below a span."""
    with dropping.start_active_span("dropped"), suppress_instrumentation():
        CountingSampler.asked = 0
        for publish in WAYS.values():
            publish(app)
        app.tasks["shop.add"].apply((1, 2))
    assert CountingSampler.asked == 0
    assert [OURS.isdisjoint(each.headers) for each in messages(app)] == [True, True]


def relay(app: Celery, publish: Callable[[Celery], Any]) -> None:
    """Run a task that publishes another, as a worker does that has received a message with a context."""

    def work() -> None:
        publish(app)

    task = app.tasks[app.task(work, name="task", shared=False).name]
    headers = {"parent_span_context": {"traceparent": TRACEPARENT}, "parent_span_published": 1.0}
    build_tracer("task", task, app=app)("the-id", (), {}, {"id": "the-id", "delivery_info": {}, **headers})


def test_a_context_travels_through_a_run_without_an_sdk(
    app: Celery, without_sdk: Tracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No tag is worked out for its span."""
    begun: list[Any] = []
    start_span = without_sdk.start_span

    def noting(**arguments: Any) -> Span:
        begun.append((arguments["operation_name"], arguments["tags"]))
        return start_span(**arguments)

    monkeypatch.setattr(without_sdk, "start_span", noting)
    relay(app, WAYS["by its name"])
    assert begun[0] == ("Celery:run:task", None)
    assert message(app).headers["parent_span_context"] == {"traceparent": TRACEPARENT}
    assert get_current_span() is None


def test_a_run_that_is_sampled_out(app: Celery, dropping: Tracer) -> None:
    """Whether it is, is the sampler's to say; what the task publishes is in the same trace."""
    CountingSampler.asked = 0
    relay(app, WAYS["by the task"])
    assert CountingSampler.asked == 1
    _, trace_id, _, flags = message(app).headers["parent_span_context"]["traceparent"].split("-")
    assert (int(trace_id, 16), int(flags, 16) & trace.TraceFlags.SAMPLED) == (REMOTE.trace_id, 0)
