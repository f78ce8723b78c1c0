"""Runs in this process: eager ones, and those that a worker's own code makes of a message."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from time import time
from typing import Any

import opentracing
import pytest
from celery import Celery
from celery.app.trace import build_tracer
from celery.exceptions import Ignore, Reject
from celery.signals import task_failure, task_postrun, task_prerun
from opentracing import Format
from opentracing.mocktracer import MockTracer
from opentracing.scope_managers import ThreadLocalScopeManager
from opentracing.scope_managers.contextvars import ContextVarsScopeManager

from opentracing_instrumentation import get_current_span
from opentracing_instrumentation.client_hooks import celery as hook
from tests.opentracing_instrumentation.told import Spans, Told, failed

from .tasks import make_app


@pytest.fixture
def app() -> Iterator[Celery]:
    """An application that runs its tasks at once."""
    with make_app("memory://") as app:
        app.conf.task_always_eager = True
        yield app


def define(app: Celery, function: Callable[..., Any], **options: Any) -> Any:
    """Return a task of the application, named ``task``."""
    return app.tasks[app.task(function, name="task", shared=False, **options).name]


def nothing() -> None:
    """Do nothing."""


def published(name: str, task_id: str, parent: str | None = None) -> Told:
    tags = {"span.kind": "client", "component": "Celery", "celery.task_name": name, "celery.task_id": task_id}
    return {"operation": f"Celery:apply_async:{name}", "parent": parent, "tags": tags}


def ran(name: str, task_id: str, state: str | None = "SUCCESS", **more: Any) -> Told:
    parent = more.pop("parent", f"Celery:apply_async:{name}")
    tags = {"span.kind": "server", "component": "Celery", "celery.task_name": name, "celery.task_id": task_id}
    if state is not None:
        tags["celery.state"] = state
    return {"operation": f"Celery:run:{name}", "parent": parent, "tags": {**tags, **more}}


def received(task: Any, **message: Any) -> Any:
    """Run a task as a worker does that has received a message with these headers."""
    request = {"id": "the-id", "task": task.name, "retries": 0, "delivery_info": {"routing_key": "celery"}, **message}
    return build_tracer(task.name, task, app=task.app)("the-id", (), {}, request)


def test_an_eager_task_is_published_and_run(app: Celery, tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_active_span("work"):
        result = app.tasks["shop.add"].delay(1, 2)
    assert result.get() == 3
    assert spans()[:2] == [ran("shop.add", result.id), published("shop.add", result.id, "work")]


def test_the_error_of_an_eager_task_is_that_of_its_run(app: Celery, spans: Spans) -> None:
    result = app.tasks["shop.fail"].delay("no luck")
    failed_run = failed(ran("shop.fail", result.id, "FAILURE"), result.result)
    assert spans() == [failed_run, published("shop.fail", result.id)]


def test_apply_is_a_run_only(app: Celery, tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_active_span("work"):
        result = app.tasks["shop.add"].apply((1, 2))
    assert spans()[0] == ran("shop.add", result.id, parent="work")


def test_calling_a_task_is_no_run(app: Celery, spans: Spans) -> None:
    assert app.tasks["shop.add"](1, 2) == 3
    assert spans() == []


def test_eager_retries_are_siblings(app: Celery, spans: Spans) -> None:
    result = app.tasks["shop.unlucky"].delay(2)
    assert result.get() == 2
    *runs, publishing = spans()
    assert publishing["operation"] == "Celery:apply_async:shop.unlucky"
    assert {span["parent"] for span in runs} == {publishing["operation"]}
    told = [(span["tags"].get("celery.retries"), span["tags"]["celery.state"]) for span in runs]
    assert sorted(told, key=str) == [(1, "RETRY"), (2, "SUCCESS"), (None, "RETRY")]


def test_a_retry_tells_its_reason(app: Celery, spans: Spans) -> None:
    app.tasks["shop.unlucky"].delay(1)
    (log,) = next(span for span in spans() if span["tags"].get("celery.state") == "RETRY")["logs"]
    assert log == {"event": "retry", "message": "Retry in 0s: LookupError('not yet')"}


@pytest.mark.parametrize("error", [ValueError("plain"), SystemExit(3), KeyboardInterrupt()])
def test_an_exception_that_flies_through_ends_the_run(error: BaseException, app: Celery, spans: Spans) -> None:
    """Also where another one is being handled meanwhile."""

    def raise_it() -> None:
        raise error

    task = define(app, raise_it)
    try:
        raise LookupError("outside")
    except LookupError:
        with pytest.raises(type(error)) as caught:
            task.apply(task_id="the-id", throw=True)
    assert caught.value is error
    assert spans() == [failed(ran("task", "the-id", None, parent=None), error)]


def test_an_exception_that_is_being_handled_is_not_the_runs(app: Celery, spans: Spans) -> None:
    try:
        raise LookupError("outside")
    except LookupError:
        app.tasks["shop.add"].apply((1, 2), task_id="the-id")
    assert spans() == [ran("shop.add", "the-id", parent=None)]


@pytest.mark.parametrize(("error", "state"), [(Ignore(), "IGNORED"), (Reject("no"), "REJECTED")])
def test_a_run_that_steps_back_is_no_error(error: Exception, state: str, app: Celery, spans: Spans) -> None:
    def step_back() -> None:
        raise error

    define(app, step_back).apply(task_id="the-id")
    assert spans() == [ran("task", "the-id", state, parent=None)]


def test_the_error_has_its_traceback(app: Celery, tracer: MockTracer) -> None:
    app.tasks["shop.fail"].delay("no luck")
    trace = tracer.finished_spans()[0].logs[0].key_values["stack"]
    names = []
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert names[-1] == "fail"


def test_receivers_of_other_signals_find_the_span_on_the_request(app: Celery, spans: Spans) -> None:
    def note(sender: Any, **_: Any) -> None:
        sender.request.span.set_tag("noted", True)

    task_failure.connect(note)
    try:
        result = app.tasks["shop.fail"].delay("no luck")
    finally:
        task_failure.disconnect(note)
    assert spans()[0]["tags"] == {**ran("shop.fail", result.id, "FAILURE")["tags"], "error": True, "noted": True}


def test_the_scope_is_on_the_request_during_the_run(app: Celery, tracer: MockTracer) -> None:
    def look(self: Any) -> bool:
        scope = self.request.tracing_context
        return scope.span is self.request.span is get_current_span() and scope.manager is tracer.scope_manager

    assert define(app, look, bind=True).apply().get() is True


@pytest.mark.parametrize("manager", [ContextVarsScopeManager, ThreadLocalScopeManager])
def test_scopes_that_a_task_leaves_open_are_closed(
    manager: Any, app: Celery, tracer: MockTracer, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracer, "_scope_manager", manager())
    with tracer.start_active_span("work"):
        assert app.tasks["shop.leave_open"].apply(task_id="the-id").get() is True
        assert get_current_span().operation_name == "work"
    assert tracer.active_span is None
    assert [span["operation"] for span in spans()] == ["too", "forgotten", "Celery:run:shop.leave_open", "work"]


@pytest.mark.parametrize("manager", [ContextVarsScopeManager, ThreadLocalScopeManager])
def test_a_scope_that_a_task_closes_by_itself_is_closed_once(
    manager: Any, app: Celery, tracer: MockTracer, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those around it stay open."""
    monkeypatch.setattr(tracer, "_scope_manager", manager())

    def close() -> None:
        tracer.scope_manager.active.close()

    with tracer.start_active_span("work") as scope:
        define(app, close).apply(task_id="the-id")
        assert tracer.scope_manager.active is scope
    assert spans()[0] == ran("task", "the-id", parent="work")


def test_a_task_in_a_task_keeps_the_order(app: Celery, tracer: MockTracer, spans: Spans) -> None:
    def outer() -> list[str]:
        seen = [get_current_span().operation_name]
        app.tasks["shop.add"].delay(1, 2)
        app.tasks["shop.fail"].apply(("x",))
        return [*seen, get_current_span().operation_name]

    assert define(app, outer).apply().get() == ["Celery:run:task"] * 2
    assert [(span["operation"], span["parent"]) for span in spans()] == [
        ("Celery:run:shop.add", "Celery:apply_async:shop.add"),
        ("Celery:apply_async:shop.add", "Celery:run:task"),
        ("Celery:run:shop.fail", "Celery:run:task"),
        ("Celery:run:task", None),
    ]
    assert tracer.active_span is None


@pytest.mark.parametrize("way", ["reset", "no tracer"])
def test_a_run_that_loses_its_hook_ends_all_the_same(
    way: str, app: Celery, tracer: MockTracer, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what comes after it is not below it."""

    def lose() -> None:
        if way == "reset":
            hook.reset_patches()
        else:
            monkeypatch.setattr(opentracing, "tracer", opentracing.Tracer())

    define(app, lose).apply(task_id="the-id")
    gc.collect()
    assert tracer.active_span is None
    assert spans() == [ran("task", "the-id", None, parent=None)]


def test_a_hook_that_comes_in_the_middle_of_a_run_waits_for_the_next(app: Celery, spans: Spans) -> None:
    hook.reset_patches()
    task = define(app, hook.install_patches)
    task.apply()
    assert spans() == []
    task.apply(task_id="the-id")
    assert spans() == [ran("task", "the-id", parent=None)]


def context_of(tracer: MockTracer, operation: str) -> dict[str, str]:
    carrier: dict[str, str] = {}
    with tracer.start_span(operation) as span:
        tracer.inject(span.context, Format.TEXT_MAP, carrier)
    return carrier


@pytest.mark.parametrize("place", ["top", "top, and other headers", "headers"])
def test_the_context_is_found_wherever_a_version_puts_it(
    place: str, app: Celery, tracer: MockTracer, spans: Spans
) -> None:
    header = {"parent_span_context": context_of(tracer, "caller")}
    message = {
        "top": header,
        "top, and other headers": {**header, "headers": {"mine": 1}},
        "headers": {"headers": {**header, "mine": 1}},
    }[place]
    received(define(app, nothing), **message)
    assert spans()[1] == ran("task", "the-id", parent="caller")


@pytest.mark.parametrize("broken", ["", {}, None])
def test_a_run_without_a_context_is_a_root_even_below_a_span(
    broken: Any, app: Celery, tracer: MockTracer, spans: Spans
) -> None:
    with tracer.start_active_span("leaked"):
        received(define(app, nothing), parent_span_context=broken)
    assert spans()[0] == ran("task", "the-id", parent=None)


@pytest.mark.parametrize("broken", [7, ["a"], "text", {"ot-tracer-traceid": "no number"}])
def test_a_broken_context_is_reported_and_the_task_runs(
    broken: Any, app: Celery, tracer: MockTracer, lenient: None, caplog: pytest.LogCaptureFixture, spans: Spans
) -> None:
    def refuse(*_: Any) -> None:
        raise opentracing.SpanContextCorruptedException("no context")

    tracer._propagators[Format.TEXT_MAP].extract = refuse
    task = define(app, nothing)
    for _ in range(2):
        assert received(task, parent_span_context=broken).info is None
    assert spans() == [ran("task", "the-id", parent=None)] * 2
    reports = [record.getMessage() for record in caplog.records if record.name == "opentracing_instrumentation"]
    assert len(reports) == 1
    assert "extracting the span context of a Celery task" in reports[0]


def test_a_tracer_that_can_not_travel_is_no_failure(app: Celery, tracer: MockTracer, spans: Spans) -> None:
    header = context_of(tracer, "caller")
    tracer._propagators.clear()
    received(define(app, nothing), parent_span_context=header)
    assert spans()[1] == ran("task", "the-id", parent=None)


@pytest.mark.parametrize(
    ("published_ago", "planned_ago", "waited"),
    [(5, None, 5), (100, 30, 30), (100, -20, 0), (10, 50, 10), (-50, None, 0)],
)
def test_queue_time_counts_from_publishing_or_from_the_planned_time(
    published_ago: float, planned_ago: float | None, waited: float, app: Celery, spans: Spans
) -> None:
    """A clock that goes wrong does not make it negative."""
    planned = datetime.now(timezone.utc) - timedelta(seconds=planned_ago or 0)
    for eta in (planned, planned.replace(tzinfo=None)):
        received(
            define(app, nothing),
            parent_span_published=time() - published_ago,
            eta=None if planned_ago is None else eta.isoformat(),
        )
    for span in spans():
        assert span["tags"].pop("celery.queue_time") == pytest.approx(waited, abs=1)
        assert span == ran("task", "the-id", parent=None)


@pytest.mark.parametrize("strange", ["yesterday", None, [1]])
def test_a_strange_time_of_publishing_is_left_out(strange: Any, app: Celery, spans: Spans) -> None:
    received(define(app, nothing), parent_span_published=strange)
    assert spans() == [ran("task", "the-id", parent=None)]


def test_threads_keep_their_runs_apart(app: Celery, tracer: MockTracer, spans: Spans) -> None:
    barrier = threading.Barrier(4)

    def meet() -> bool:
        barrier.wait(5)
        name = tracer.active_span.tags["celery.task_id"]
        barrier.wait(5)
        return bool(tracer.active_span.tags["celery.task_id"] == name)

    task = define(app, meet)
    results: list[Any] = []

    def work(number: int) -> None:
        for turn in range(5):
            with tracer.start_active_span(f"work {number}"):
                results.append(task.apply(task_id=f"{number}.{turn}").get())
        results.append(tracer.active_span is None)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 24
    told = sorted((s["tags"]["celery.task_id"], s["parent"]) for s in spans() if s["operation"] == "Celery:run:task")
    assert told == [(f"{number}.{turn}", f"work {number}") for number in range(4) for turn in range(5)]


def test_receivers_of_others_are_called_as_before(app: Celery, spans: Spans) -> None:
    """With ours, before ours and after ours; those for one sender only for that."""
    calls: list[str] = []
    add, fail = app.tasks["shop.add"], app.tasks["shop.fail"]

    def early(sender: Any, **_: Any) -> None:
        calls.append(f"early {sender.name}")

    def late(sender: Any, **_: Any) -> None:
        calls.append(f"late {sender.name}")

    hook.reset_patches()
    task_prerun.connect(early)
    hook.install_patches()
    task_postrun.connect(late, sender=add)
    try:
        add.apply((1, 2))
        fail.apply(("x",))
        task_prerun.disconnect(early)
        add.apply((1, 2))
    finally:
        task_prerun.disconnect(early)
        task_postrun.disconnect(late, sender=add)
    assert calls == ["early shop.add", "late shop.add", "early shop.fail", "late shop.add"]
    assert [span["operation"] for span in spans()] == [
        "Celery:run:shop.add",
        "Celery:run:shop.fail",
        "Celery:run:shop.add",
    ]
