"""Publishing: one span for each task that is published, by whatever way, and its context in the message."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import opentracing
import pytest
from celery import Celery, chain, chord, group
from celery.beat import PersistentScheduler
from celery.schedules import schedule
from celery.signals import after_task_publish, before_task_publish
from kombu.exceptions import EncodeError, OperationalError
from opentracing import Format
from opentracing.mocktracer import MockTracer
from opentracing.scope_managers import ThreadLocalScopeManager

from opentracing_instrumentation.client_hooks import celery as hook
from opentracing_instrumentation.request_context import RequestContextManager, set_current_span_func
from tests.opentracing_instrumentation.told import Spans, Told, failed, unused_port

from .tasks import make_app

App = Celery


@pytest.fixture
def app() -> Iterator[App]:
    """An application whose broker keeps the messages in the memory of this process."""
    with make_app("memory://") as app:
        with app.connection_for_write() as connection:
            app.amqp.queues["celery"](connection.default_channel).declare()
            connection.default_channel.queue_purge("celery")
        yield app


def messages(app: App) -> list[Any]:
    """Take the messages out of the broker."""
    with app.connection_for_read() as connection:
        queue = app.amqp.queues["celery"](connection.default_channel)
        return list(iter(lambda: queue.get(no_ack=True), None))


def message(app: App) -> Any:
    (only,) = messages(app)
    return only


def published(name: str, task_id: str, parent: str | None = None) -> Told:
    tags = {"span.kind": "client", "component": "Celery", "celery.task_name": name, "celery.task_id": task_id}
    return {"operation": f"Celery:apply_async:{name}", "parent": parent, "tags": tags}


def without_id(span: Told) -> Told:
    return {**span, "tags": {key: value for key, value in span["tags"].items() if key != "celery.task_id"}}


WAYS: dict[str, Callable[[App, Any], Any]] = {
    "delay": lambda app, task: task.delay(1, 2),
    "apply_async": lambda app, task: task.apply_async((1, 2)),
    "positional": lambda app, task: task.apply_async((1, 2), {}, "chosen-id"),
    "keywords": lambda app, task: task.apply_async(args=(1,), kwargs={"y": 2}, task_id="chosen-id"),
    "signature": lambda app, task: task.s(1, 2).delay(),
    "immutable signature": lambda app, task: task.si(1, 2).apply_async(),
    "signature by name": lambda app, task: app.signature("shop.add", (1, 2)).delay(),
    "send_task": lambda app, task: app.send_task("shop.add", (1, 2)),
    "send_task by keywords": lambda app, task: app.send_task(name="shop.add", args=(1, 2), task_id="chosen-id"),
    "first of a chain": lambda app, task: chain(task.s(1, 2), task.s(3), app=app).apply_async().parent,
    "of a group": lambda app, task: group([task.s(1, 2)], app=app).apply_async().children[0],
    "with a countdown": lambda app, task: task.apply_async((1, 2), countdown=60),
    "with an ETA": lambda app, task: task.apply_async((1, 2), eta=datetime.now(timezone.utc) + timedelta(minutes=1)),
    "retried, apart from a run": lambda app, task: task.apply_async((1, 2), retries=1),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_publishing_is_one_span(way: str, app: App, tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_active_span("work"):
        result = WAYS[way](app, app.tasks["shop.add"])
    span, _ = spans()
    assert span == published("shop.add", result.id, "work")
    assert message(app).headers["id"] == result.id


def test_a_task_that_nobody_here_knows(app: App, spans: Spans) -> None:
    results = [app.send_task("elsewhere.task"), app.signature("elsewhere.task").delay()]
    assert spans() == [published("elsewhere.task", result.id) for result in results]


@pytest.mark.parametrize("way", ["map", "starmap", "chunks"])
def test_many_calls_in_one_task_are_one_span(way: str, app: App, spans: Spans) -> None:
    task = app.tasks["shop.add"]
    items = [(1, 2), (3, 4)]
    signature = task.chunks(items, 2) if way == "chunks" else getattr(task, way)(items)
    signature.apply_async()
    (span,) = spans()
    assert span["operation"] == f"Celery:apply_async:celery.{'map' if way == 'map' else 'starmap'}"


def test_the_beat_publishes_like_anybody(app: App, spans: Spans, tmp_path: Path) -> None:
    app.conf.beat_schedule = {
        name: {"task": name, "schedule": schedule(0.001), "args": (1, 2)} for name in ("shop.add", "elsewhere.task")
    }
    scheduler = PersistentScheduler(app, schedule_filename=str(tmp_path / "schedule"))
    told: dict[str, Any] = {}
    while len(told) < 2:
        scheduler.tick()
        told = {span["operation"]: span["parent"] for span in spans()}
    scheduler.close()
    assert told == {"Celery:apply_async:shop.add": None, "Celery:apply_async:elsewhere.task": None}


def test_a_message_carries_the_context_of_the_span_that_published_it(app: App, tracer: MockTracer) -> None:
    with tracer.start_active_span("work") as scope:
        scope.span.set_baggage_item("tenant", "blue")
        app.tasks["shop.add"].apply_async((1, 2), headers={"mine": "yes"})
    headers = message(app).headers
    span = tracer.finished_spans()[0]
    context = tracer.extract(Format.TEXT_MAP, headers["parent_span_context"])
    assert (context.trace_id, context.span_id) == (span.context.trace_id, span.context.span_id)
    assert context.baggage == {"tenant": "blue"}
    assert headers["mine"] == "yes"


def test_the_span_is_current_while_the_task_is_published(app: App, tracer: MockTracer) -> None:
    seen = []

    def look(**_: Any) -> None:
        seen.append(tracer.active_span)

    before_task_publish.connect(look)
    after_task_publish.connect(look)
    try:
        app.tasks["shop.add"].delay(1, 2)
    finally:
        before_task_publish.disconnect(look)
        after_task_publish.disconnect(look)
    assert seen == tracer.finished_spans() * 2
    assert tracer.active_span is None


def test_a_publishing_within_a_publishing_is_a_child(app: App, spans: Spans) -> None:
    def too(sender: str, **_: Any) -> None:
        if sender == "shop.add":
            app.send_task("elsewhere.task")

    before_task_publish.connect(too)
    try:
        app.tasks["shop.add"].delay(1, 2)
    finally:
        before_task_publish.disconnect(too)
    told = [(span["operation"], span["parent"]) for span in spans()]
    outer = "Celery:apply_async:shop.add"
    assert told == [("Celery:apply_async:elsewhere.task", outer), (outer, None)]


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("manager", [None, ThreadLocalScopeManager])
def test_a_broker_that_is_not_there(
    by_name: bool, manager: Any, tracer: MockTracer, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    if manager is not None:
        monkeypatch.setattr(tracer, "_scope_manager", manager())
    with make_app(f"amqp://127.0.0.1:{unused_port()}") as app, pytest.raises(OperationalError) as caught:
        app.conf.broker_transport_options = {"max_retries": 1, "interval_start": 0, "interval_step": 0}
        if by_name:
            app.send_task("shop.add", (1, 2), retry=False)
        else:
            app.tasks["shop.add"].apply_async((1, 2), retry=False)
    assert spans() == [failed(without_id(published("shop.add", "")), caught.value)]
    assert tracer.active_span is None


def test_arguments_that_do_not_fit_are_the_librarys_to_refuse(app: App, tracer: MockTracer, spans: Spans) -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument") as caught:
        app.tasks["shop.add"].delay(1)
    with pytest.raises(EncodeError) as unencodable:
        app.send_task("shop.add", (object(),))
    span = without_id(published("shop.add", ""))
    assert spans() == [failed(span, caught.value), failed(span, unencodable.value)]
    for wrong in (app.send_task, lambda: app.tasks["shop.add"].apply_async(args=(), nothing=1, args_=2)):
        with pytest.raises(TypeError):
            wrong()
    assert tracer.active_span is None


def test_a_parent_of_the_applications_own(app: App, tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_span("mine") as mine:
        set_current_span_func(lambda: mine)
        result = app.tasks["shop.add"].delay(1, 2)
    assert spans()[0] == published("shop.add", result.id, "mine")
    context = tracer.extract(Format.TEXT_MAP, message(app).headers["parent_span_context"])
    assert context.span_id == tracer.finished_spans()[0].context.span_id


def test_a_request_context_is_a_parent(app: App, tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_span("request") as request, RequestContextManager(request):
        result = app.tasks["shop.add"].delay(1, 2)
    assert spans()[0] == published("shop.add", result.id, "request")


def test_a_message_outside_of_any_span_carries_none(app: App, tracer: MockTracer) -> None:
    """As from the producer below ``send_task``."""
    with app.producer_pool.acquire(block=True) as producer:
        app.amqp.send_task_message(producer, "shop.add", app.amqp.as_task_v2("id", "shop.add", (1, 2)))
    assert "parent_span_context" not in message(app).headers
    assert tracer.finished_spans() == []


def test_a_message_below_a_span_of_the_applications_carries_that(app: App, tracer: MockTracer) -> None:
    with tracer.start_active_span("work") as scope, app.producer_pool.acquire(block=True) as producer:
        app.amqp.send_task_message(producer, "shop.add", app.amqp.as_task_v2("id", "shop.add", (1, 2)))
    context = tracer.extract(Format.TEXT_MAP, message(app).headers["parent_span_context"])
    assert context.span_id == scope.span.context.span_id


def test_without_a_tracer_a_message_is_what_it_was(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opentracing, "tracer", opentracing.Tracer())
    hook.reset_patches()
    app.tasks["shop.add"].delay(1, 2)
    hook.install_patches()
    app.tasks["shop.add"].delay(1, 2)
    app.send_task("shop.add", (1, 2))
    assert len({tuple(sorted(each.headers)) for each in messages(app)}) == 1


def test_a_tracer_that_can_not_travel_is_no_failure(app: App, tracer: MockTracer, spans: Spans) -> None:
    tracer._propagators.clear()
    result = app.tasks["shop.add"].delay(1, 2)
    assert spans() == [published("shop.add", result.id)]
    assert "parent_span_context" not in message(app).headers


def test_a_chord_publishes_its_header(app: App, tracer: MockTracer, spans: Spans) -> None:
    app.conf.result_backend = "cache+memory://"
    with tracer.start_active_span("work"):
        chord([app.tasks["shop.add"].s(n, 0) for n in range(2)], app=app)(app.tasks["shop.collect"].s())
    told = [(span["operation"], span["parent"]) for span in spans()[:-1]]
    assert told == [("Celery:apply_async:shop.add", "work")] * 2
