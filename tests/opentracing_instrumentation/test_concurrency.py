"""Threads, tasks and greenlets: every span has the parent of the one that makes the call."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from pathlib import Path

import sqlalchemy as sa
from opentracing.mocktracer import MockTracer
from sqlalchemy.pool import StaticPool

from opentracing_instrumentation import traced_function
from opentracing_instrumentation.client_hooks import sqlalchemy as hook

from .told import Spans


@traced_function
def step(name: str) -> str:
    return leaf(name)


@traced_function
def leaf(name: str) -> str:
    return name


@traced_function
async def async_step(name: str) -> str:
    await asyncio.sleep(0)
    return await async_leaf(name)


@traced_function
async def async_leaf(name: str) -> str:
    await asyncio.sleep(0)
    return leaf(name)


def test_eight_threads_of_a_thousand_calls(tracer: MockTracer) -> None:
    def work(name: str) -> None:
        with tracer.start_active_span(name):
            for _ in range(1000):
                assert step(name) == name

    threads = [threading.Thread(target=work, args=(f"thread {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert families(tracer) == Counter({("step", "leaf"): 8000, ("thread", "step"): 8000, (None, "thread"): 8})


def test_a_thousand_tasks(tracer: MockTracer) -> None:
    async def work(name: str) -> None:
        with tracer.start_active_span(name):
            assert await async_step(name) == name

    async def main() -> None:
        await asyncio.gather(*(work(f"task {number}") for number in range(1000)))

    asyncio.run(main())
    assert families(tracer) == Counter(
        {
            ("async_leaf", "leaf"): 1000,
            ("async_step", "async_leaf"): 1000,
            ("task", "async_step"): 1000,
            (None, "task"): 1000,
        }
    )


def families(tracer: MockTracer) -> Counter[tuple[str | None, str]]:
    """How many spans there are of each kind of parent and child; each in the trace of its parent."""
    spans = {span.context.span_id: span for span in tracer.finished_spans()}
    found: Counter[tuple[str | None, str]] = Counter()
    for span in spans.values():
        parent = spans.get(span.parent_id)
        assert parent is None or parent.context.trace_id == span.context.trace_id
        found[(parent and parent.operation_name.split()[0], span.operation_name.split()[0])] += 1
    return found


def test_a_statement_made_by_many_threads_on_one_connection_keeps_its_parents(
    tmp_path: Path, tracer: MockTracer, spans: Spans
) -> None:
    hook.install_patches()
    engine = sa.create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    lock = threading.Lock()

    def work(name: str) -> None:
        with tracer.start_active_span(name):
            for _ in range(50):
                with lock, engine.connect() as connection:
                    connection.execute(sa.text(f"SELECT '{name}'"))

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.dispose()
    statements = [span for span in spans() if span["operation"] == "SQL SELECT"]
    told = Counter((span["tags"]["db.statement"], span["parent"]) for span in statements)
    assert told == Counter({(f"SELECT 't{number}'", f"t{number}"): 50 for number in range(8)})


GEVENT = """
    from gevent import monkey
    monkey.patch_all()
    import gevent, opentracing, random
    from opentracing.mocktracer import MockTracer
    from opentracing.scope_managers.{module} import {manager}
    from opentracing_instrumentation import traced_function
    from opentracing_instrumentation.client_hooks import install_all_patches, urllib2
    from tests.opentracing_instrumentation.loopback import Loopback
    import urllib.request

    opentracing.tracer = tracer = MockTracer({manager}())
    install_all_patches()

    @traced_function
    def step(url):
        gevent.sleep(random.random() / 100)
        with urllib.request.urlopen(url) as response:
            return response.read()

    def work(number, url):
        with tracer.start_active_span("greenlet %d" % number):
            for _ in range(3):
                assert step("%s/%d" % (url, number)) == b"ok"

    with Loopback() as server:
        gevent.joinall([gevent.spawn(work, number, server.url) for number in range(20)], raise_error=True)
    spans = {{span.context.span_id: span for span in tracer.finished_spans()}}
    calls = [span for span in spans.values() if span.operation_name == "GET"]
    for call in calls:
        step = spans[call.parent_id]
        greenlet = spans[step.parent_id]
        assert (step.operation_name, greenlet.parent_id) == ("step", None)
        assert greenlet.operation_name.split()[1] == call.tags["http.url"].rpartition("/")[2]
    print(len(calls), len(spans))
"""


def _run_gevent(module: str, manager: str) -> str:
    program = textwrap.dedent(GEVENT).format(module=module, manager=manager)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=50, cwd=root
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_greenlets_keep_their_parents_with_gevents_scope_manager() -> None:
    assert _run_gevent("gevent", "GeventScopeManager") == "60 140"


def test_greenlets_keep_their_parents_with_context_variables() -> None:
    assert _run_gevent("contextvars", "ContextVarsScopeManager") == "60 140"
