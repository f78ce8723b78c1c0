"""Tasks that real workers run: one trace from the caller to the end of the last task, in every pool."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from celery import chain, chord, group

from opentracing_instrumentation.client_hooks import celery as hook

from .workers import PATIENCE, Worker, published, run

Workers = Callable[..., Worker]

POOLS = {
    "prefork": ("--pool=prefork", "--concurrency=2"),
    "threads": ("--pool=threads", "--concurrency=4"),
    "gevent": ("--pool", "gevent", "--concurrency=4"),
    "solo": ("--pool=solo",),
}

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=[(broker, pool) for broker in ("redis", "rabbitmq") for pool in POOLS], ids="-".join)
def any_worker(request: pytest.FixtureRequest, workers: Workers) -> Worker:
    """Each broker with each pool."""
    broker, pool = request.param
    return workers(broker, *POOLS[pool])


@pytest.fixture(params=["redis", "rabbitmq"])
def worker(request: pytest.FixtureRequest, workers: Workers) -> Worker:
    """Each broker with the pool that is Celery's default."""
    return workers(request.param, *POOLS["prefork"])


def test_a_run_is_below_the_span_that_published_it(any_worker: Worker) -> None:
    with any_worker.trace() as trace:
        result = any_worker.send("add", 1, 2)
    assert any_worker.get(result) == 3
    assert trace.spans(2) == [published("shop.add", result.id), run("shop.add", result.id)]


def test_a_run_that_fails_tells_its_error(any_worker: Worker) -> None:
    with any_worker.trace() as trace:
        result = any_worker.send("fail", "no luck")
    with pytest.raises(ValueError, match="no luck"):
        any_worker.get(result)
    failed = run("shop.fail", result.id, "FAILURE", error="ValueError: no luck")
    assert trace.spans(2) == [published("shop.fail", result.id), failed]


def test_baggage_travels(any_worker: Worker) -> None:
    with any_worker.trace(baggage={"tenant": "blue"}):
        result = any_worker.send("baggage", "tenant")
    assert any_worker.get(result) == "blue"


def test_runs_at_the_same_time_keep_their_parents(any_worker: Worker) -> None:
    traces = []
    for number in range(6):
        with any_worker.trace() as trace:
            traces.append((trace, any_worker.send("nest", number, 0.05)))
    for trace, result in traces:
        any_worker.get(result)
        told = trace.spans(4)
        assert told[:2] == [published("shop.nest", result.id), run("shop.nest", result.id)]
        inner_id = told[2]["tags"]["celery.task_id"]
        inner = [published("shop.add", inner_id, parent="Celery:run:shop.nest"), run("shop.add", inner_id)]
        assert told[2:] == inner


@pytest.mark.parametrize("before", ["add", "leave_open", "ignored", "rejected", "fail"])
def test_a_task_without_a_context_is_a_root_whatever_ran_before(any_worker: Worker, before: str) -> None:
    """Also where a task has left scopes of its own open."""
    arguments = {"add": (1, 2), "fail": ("x",)}.get(before, ())
    with any_worker.trace():
        earlier = any_worker.send(before, *arguments)
    any_worker.runs(earlier.id)
    hook.reset_patches()
    for _ in range(3):
        result = any_worker.send("add", 1, 2)
        any_worker.get(result)
        assert any_worker.runs(result.id) == [run("shop.add", result.id, parent=None)]


def test_retries_are_siblings(worker: Worker) -> None:
    with worker.trace() as trace:
        result = worker.send("unlucky", 2)
    assert worker.get(result) == 2
    name, own_run = "shop.unlucky", "Celery:run:shop.unlucky"
    assert trace.spans(6) == [
        published(name, result.id),
        run(name, result.id, "RETRY"),
        published(name, result.id, parent=own_run),
        run(name, result.id, "RETRY", **{"celery.retries": 1}),
        published(name, result.id, parent=own_run),
        run(name, result.id, **{"celery.retries": 2}),
    ]
    assert len({span["parent"] for span in worker.runs(result.id, 3)}) == 1


def test_a_task_that_gives_up_retrying_fails(worker: Worker) -> None:
    with worker.trace() as trace:
        result = worker.send("unlucky", 9)
    with pytest.raises(LookupError, match="not yet"):
        worker.get(result)
    last = trace.spans(6)[-1]
    assert last == run("shop.unlucky", result.id, "FAILURE", error="LookupError: not yet", **{"celery.retries": 2})


def test_retries_of_a_task_without_a_context_are_one_trace(worker: Worker) -> None:
    hook.reset_patches()
    result = worker.send("unlucky", 2)
    worker.get(result)
    told = worker.spans(lambda span: span.tags.get("celery.task_id") == result.id, 5)
    publishing, running = "Celery:apply_async:shop.unlucky", "Celery:run:shop.unlucky"
    assert [(span["name"], span["parent"]) for span in told] == [
        (running, None),
        (publishing, running),
        (running, publishing),
        (publishing, running),
        (running, publishing),
    ]


@pytest.mark.parametrize(("task", "state"), [("ignored", "IGNORED"), ("rejected", "REJECTED")])
def test_a_task_that_steps_back_ends_its_run(worker: Worker, task: str, state: str) -> None:
    with worker.trace() as trace:
        result = worker.send(task)
    assert trace.spans(2) == [published(f"shop.{task}", result.id), run(f"shop.{task}", result.id, state)]


def test_a_replaced_task_runs_below_the_one_that_it_replaces(worker: Worker) -> None:
    with worker.trace() as trace:
        result = worker.send("replaced", 1)
    assert worker.get(result) == 2
    assert trace.spans(4) == [
        published("shop.replaced", result.id),
        run("shop.replaced", result.id, "IGNORED"),
        published("shop.add", result.id, parent="Celery:run:shop.replaced"),
        run("shop.add", result.id),
    ]


def test_a_revoked_task_has_no_run(worker: Worker) -> None:
    task_id = f"revoked-{time.time()}"
    worker.app.control.revoke(task_id)
    time.sleep(0.3)
    with worker.trace() as trace:
        worker.send("add", 1, 2, task_id=task_id)
        last = worker.send("add", 1, 2)
    worker.get(last)
    told = trace.spans(3)
    assert [span["tags"]["celery.task_id"] for span in told] == [task_id, last.id, last.id]


def test_a_soft_time_limit_that_is_handled_is_no_error(worker: Worker) -> None:
    with worker.trace() as trace:
        result = worker.send("sleep", 30, soft_time_limit=1)
    assert worker.get(result) == "cut short"
    assert trace.spans(2)[1] == run("shop.sleep", result.id)


def test_a_soft_time_limit_is_an_error(worker: Worker) -> None:
    with worker.trace() as trace:
        result = worker.send("oversleep", 30, soft_time_limit=1)
    told = trace.spans(2)[1]
    assert told == run("shop.oversleep", result.id, "FAILURE", error="SoftTimeLimitExceeded: SoftTimeLimitExceeded()")


def test_a_hard_time_limit_ends_the_run(worker: Worker) -> None:
    with worker.trace() as trace:
        result = worker.send("oversleep", 30, time_limit=1)
    published_, told = trace.spans(2)
    assert published_ == published("shop.oversleep", result.id)
    assert told == run("shop.oversleep", result.id, None, error=told["error"])
    assert told["error"].startswith("SystemExit")


def test_a_run_whose_process_was_killed_is_told_by_its_parent(worker: Worker, tmp_path: Path) -> None:
    with worker.trace() as trace:
        result = worker.send("die", str(tmp_path / "once"))
    publishing, told = trace.spans(2)
    assert publishing == published("shop.die", result.id)
    assert told == run("shop.die", result.id, "FAILURE", error=told["error"])
    assert told["error"].startswith("WorkerLostError: Worker exited prematurely: signal 9 (SIGKILL)")


def test_a_task_that_is_delivered_again_runs_beside_the_lost_run(worker: Worker, tmp_path: Path) -> None:
    with worker.trace() as trace:
        result = worker.send("die_late", str(tmp_path / "once"))
    assert worker.get(result) == "survived"
    _, lost, second = trace.spans(3)
    assert lost == run("shop.die_late", result.id, "FAILURE", error=lost["error"])
    assert second == run("shop.die_late", result.id)


def test_a_process_that_is_recycled_has_ended_its_runs(workers: Workers) -> None:
    worker = workers("redis", "--pool=prefork", "--concurrency=1", "--max-tasks-per-child=1")
    with worker.trace() as trace:
        results = [worker.send("process") for _ in range(2)]
    assert len({worker.get(result) for result in results}) == 2
    runs = [span for span in trace.spans(4) if span["tags"]["span.kind"] == "server"]
    assert runs == [run("shop.process", result.id) for result in results]


def test_a_chain_is_one_descent(worker: Worker) -> None:
    task = worker.app.tasks["shop.add"]
    with worker.trace() as trace:
        result = chain(task.s(1, 2), task.s(3), app=worker.app).apply_async()
    assert worker.get(result) == 6
    assert trace.spans(4) == [
        published("shop.add", result.parent.id),
        run("shop.add", result.parent.id),
        published("shop.add", result.id, parent="Celery:run:shop.add"),
        run("shop.add", result.id),
    ]


def test_a_group_is_published_side_by_side(worker: Worker) -> None:
    task = worker.app.tasks["shop.add"]
    with worker.trace() as trace:
        result = group([task.s(number, 0) for number in range(3)], app=worker.app).apply_async()
    assert worker.get(result) == [0, 1, 2]
    told = trace.spans(6)
    for child in result.children:
        own = [span for span in told if span["tags"]["celery.task_id"] == child.id]
        assert own == [published("shop.add", child.id), run("shop.add", child.id)]


def test_the_body_of_a_chord_is_below_the_last_of_its_header(worker: Worker) -> None:
    tasks = worker.app.tasks
    with worker.trace() as trace:
        header = [tasks["shop.add"].s(number, 0) for number in range(3)]
        result = chord(header, app=worker.app)(tasks["shop.collect"].s())
    assert worker.get(result) == 3
    told = [span for span in trace.spans(8) if span["tags"]["celery.task_id"] == result.id]
    assert told == [
        published("shop.collect", result.id, parent="Celery:run:shop.add"),
        run("shop.collect", result.id),
    ]


@pytest.mark.parametrize("kind", ["countdown", "aware", "naive"])
def test_waiting_for_the_planned_time_is_not_queueing(workers: Workers, kind: str) -> None:
    worker = workers("redis", *POOLS["prefork"])
    at = datetime.now(timezone.utc) + timedelta(seconds=1.5)
    options = {"countdown": {"countdown": 1.5}, "aware": {"eta": at}, "naive": {"eta": at.replace(tzinfo=None)}}[kind]
    with worker.trace():
        result = worker.send("add", 1, 2, **options)
    worker.get(result)
    assert worker.queue_time(result.id) < 1.2


def test_time_in_the_queue_is_measured(workers: Workers) -> None:
    worker = workers("redis", *POOLS["solo"])
    with worker.trace():
        worker.send("sleep", 0.5)
        result = worker.send("add", 1, 2)
    worker.get(result)
    assert 0.4 < worker.queue_time(result.id) < PATIENCE


@pytest.mark.parametrize("headers", [None, {"tenant": "blue"}])
def test_the_first_version_of_the_protocol_carries_the_context(worker: Worker, headers: dict[str, str] | None) -> None:
    worker.app.conf.task_protocol = 1
    del worker.app.amqp
    try:
        with worker.trace() as trace:
            result = worker.send("add", 1, 2, headers=headers)
        assert worker.get(result) == 3
    finally:
        worker.app.conf.task_protocol = 2
        del worker.app.amqp
    assert trace.spans(2) == [published("shop.add", result.id), run("shop.add", result.id)]


def test_a_task_that_only_the_worker_knows(worker: Worker) -> None:
    with worker.trace() as trace:
        by_name = worker.app.send_task("shop.add", (1, 2))
        by_signature = worker.app.signature("shop.add", (3, 4)).apply_async()
    assert [worker.get(by_name), worker.get(by_signature)] == [3, 7]
    told = trace.spans(4)
    for result in by_name, by_signature:
        own = [span for span in told if span["tags"]["celery.task_id"] == result.id]
        assert own == [published("shop.add", result.id), run("shop.add", result.id)]
