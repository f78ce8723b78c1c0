"""The names that the hook's module gives, and what they do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from celery import Celery, signals
from celery.app import trace
from celery.app.task import Task
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation import get_current_span
from opentracing_instrumentation.client_hooks import celery as hook
from opentracing_instrumentation.client_hooks.celery import CeleryPatcher
from tests.opentracing_instrumentation.told import Spans, failed

from .tasks import make_app

RUN = {"component": "Celery", "span.kind": "server", "celery.task_name": "shop.add"}


@pytest.fixture
def app() -> Iterator[Celery]:
    with make_app("memory://") as app:
        yield app


def operations(spans: Spans) -> list[str]:
    return [span["operation"] for span in spans()]


def test_the_original_method_is_at_hand_patched_or_not() -> None:
    patched = hook._task_apply_async
    assert Task.apply_async is not patched
    hook.reset_patches()
    assert Task.apply_async is patched is hook._task_apply_async


def test_the_original_method_and_no_handler_are_as_no_hook(app: Celery, spans: Spans) -> None:
    signals.before_task_publish.disconnect(hook.before_task_publish_handler)
    with mock.patch("celery.app.task.Task.apply_async", new=hook._task_apply_async):
        app.tasks["shop.add"].delay(1, 2)
    signals.before_task_publish.connect(hook.before_task_publish_handler)
    assert spans() == []


def test_the_traced_method_is_at_hand_installed_or_not(app: Celery, spans: Spans) -> None:
    for _ in range(2):
        hook.task_apply_async_wrapper(app.tasks["shop.add"], (1,), {"y": 2}, task_id="the-id")
        hook.reset_patches()
    assert operations(spans) == ["Celery:apply_async:shop.add"] * 2


def test_there_are_no_other_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'task_apply_sync'"):
        hook.task_apply_sync  # noqa: B018 - it raises


def test_the_handlers_trace_a_run_by_themselves(app: Celery, tracer: MockTracer, spans: Spans) -> None:
    """For receivers and patchers of the application's own."""
    task = app.tasks["shop.add"]
    for end in ("success", "failure", "current", "twice"):
        task.push_request(id="the-id", delivery_info={"is_eager": True})
        hook.task_prerun_handler(task=task, task_id="the-id")
        assert get_current_span() is task.request.span
        if end == "failure":
            error = ValueError("no luck")
            hook.task_failure_handler(sender=task, exception=error, traceback=None)
        elif end == "current":
            hook.finish_current_span(task)
        else:
            hook.task_success_handler(sender=task)
        if end == "twice":
            hook.finish_current_span(task)
            hook.task_postrun_handler(task=task, state="SUCCESS")
        task.pop_request()
        assert tracer.active_span is None
    plain = {"operation": "Celery:run:shop.add", "parent": None, "tags": {**RUN, "celery.task_id": "the-id"}}
    assert spans() == [plain, failed(plain, error), plain, plain]


def test_the_handlers_that_end_a_run_do_nothing_without_one(app: Celery) -> None:
    task = app.tasks["shop.add"]
    hook.task_success_handler(sender=task)
    hook.task_failure_handler(sender=task, exception=ValueError(), traceback=None)
    hook.task_postrun_handler(task=task, state="SUCCESS")
    hook.finish_current_span(task)


def test_the_common_tags(app: Celery, tracer: MockTracer) -> None:
    span = tracer.start_span("any")
    hook.set_common_tags(span, app.tasks["shop.add"], "client")
    assert span.tags == {**RUN, "span.kind": "client"}


def test_reset_leaves_signals_as_they_were() -> None:
    for signal in (signals.before_task_publish, signals.task_prerun, signals.task_postrun):
        assert len(signal.receivers) == 1
    hook.reset_patches()
    for signal in (signals.before_task_publish, signals.task_prerun, signals.task_postrun):
        assert signal.receivers == []
        assert "_live_receivers" not in vars(signal)


def test_a_handler_of_runs_can_be_disconnected_by_its_name(app: Celery, spans: Spans) -> None:
    """And connected again, also for one task only."""
    add, process = app.tasks["shop.add"], app.tasks["shop.process"]
    signals.task_prerun.disconnect(hook.task_prerun_handler)
    add.apply((1, 2))
    assert spans() == []
    signals.task_prerun.connect(hook.task_prerun_handler, sender=add)
    add.apply((1, 2))
    process.apply()
    signals.task_prerun.disconnect(hook.task_prerun_handler, sender=add)
    add.apply((1, 2))
    assert operations(spans) == ["Celery:run:shop.add"]


def test_a_worker_that_looked_up_how_to_send_a_signal_before_is_traced(app: Celery, spans: Spans) -> None:
    """As extensions do that run tasks by code of their own."""
    task, told = app.tasks["shop.add"], []
    hook.reset_patches()
    sends = signals.task_prerun.send, trace.send_prerun
    hook.install_patches()
    for send in (*sends, signals.task_prerun.send, trace.send_prerun):
        task.push_request(id="the-id", delivery_info={})
        told.append([response for _, response in send(task, task_id="the-id", task=task, args=(), kwargs={})])
        trace.send_postrun(sender=task, task_id="the-id", task=task, state="SUCCESS")
        task.pop_request()
    assert operations(spans) == ["Celery:run:shop.add"] * 4
    assert told == [[None], [None], [None], []]
    hook.reset_patches()
    assert trace.send_prerun is sends[1]
    assert trace.send_prerun(task, task_id="the-id", task=task, args=(), kwargs={}) == []


def test_reset_spares_what_others_put_upon_a_signal(app: Celery, spans: Spans) -> None:
    signal: Any = signals.task_prerun
    ours = signal._live_receivers
    calls = []
    signal._live_receivers = lambda sender: calls.append(sender) or ours(sender)
    try:
        hook.reset_patches()
        app.tasks["shop.add"].apply((1, 2))
        signals.task_prerun.connect(lambda **_: None, sender=object(), weak=False)
        app.tasks["shop.add"].apply((1, 2))
    finally:
        signals.task_prerun.receivers.clear()
        del signal._live_receivers
    assert len(calls) == 1
    assert spans() == []


def test_a_patcher_of_the_applications_own(app: Celery, spans: Spans) -> None:
    class Patcher(CeleryPatcher):
        def apply_async(self, task: Any) -> Any:
            for span in super().apply_async(task):
                span.set_tag("mine", True)
                yield span

        def send_task(self, app: Any, name: str) -> Any:
            return None
            yield

    original = hook.patcher
    hook.set_patcher(Patcher())
    try:
        app.tasks["shop.add"].delay(1, 2)
        app.send_task("shop.add")
    finally:
        hook.reset_patches()
        hook.set_patcher(original)
    (span,) = spans()
    assert span["tags"]["mine"] is True


def test_apps_made_at_any_time_are_traced(app: Celery, spans: Spans) -> None:
    """The ``send_task`` that an application has looked up before is not."""
    hook.reset_patches()
    app.tasks["shop.add"].delay(1, 2)
    delay, by_name = app.tasks["shop.add"].delay, app.send_task
    hook.install_patches()
    delay(1, 2)
    with make_app("memory://") as younger:
        younger.send_task("shop.add", (1, 2))
    hook.reset_patches()
    delay(1, 2)
    by_name("shop.add", (1, 2))
    assert operations(spans) == ["Celery:apply_async:shop.add"] * 2


def test_a_method_taken_while_patched_follows_the_hook(app: Celery, spans: Spans) -> None:
    by_name, delay = app.send_task, app.tasks["shop.add"].delay
    for _ in range(2):
        hook.reset_patches()
        by_name("shop.add", (1, 2))
        delay(1, 2)
        assert spans() == []
    hook.install_patches()
    by_name("shop.add", (1, 2))
    delay(1, 2)
    assert operations(spans) == ["Celery:apply_async:shop.add"] * 2


def test_our_failures_are_ours(
    app: Celery, tracer: MockTracer, lenient: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*_: Any, **__: Any) -> Any:
        raise ArithmeticError("ours")

    app.conf.task_always_eager = True
    for broken in ("start_span", "scope_manager"):
        with monkeypatch.context() as patched:
            patched.setattr(MockTracer, broken, property(failing))
            for _ in range(2):
                assert app.tasks["shop.add"].delay(1, 2).get() == 3
    messages = [record.getMessage() for record in caplog.records if record.name == "opentracing_instrumentation"]
    assert len(messages) == len(set(messages)) > 1
