"""What is counted: similar statements below one span, all of them, in bounded memory."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import opentracing
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation import n_plus_one
from opentracing_instrumentation.config import CONFIG
from opentracing_instrumentation.n_plus_one import Cause, Finding, NPlusOneError, forbid, observe

from .shop import line_of

SELECT = "SELECT name FROM customers WHERE id = {}"
MASKED = "SELECT name FROM customers WHERE id = ?"


class Span:
    """As much of a span as is needed."""

    def __init__(self) -> None:
        self.tags: dict[str, Any] = {}

    def set_tag(self, key: str, value: Any) -> None:
        self.tags[key] = value


def tags(statement: str, count: int, milliseconds: float) -> dict[str, Any]:
    return {
        "db.n_plus_one.statement": statement,
        "db.n_plus_one.count": count,
        "db.n_plus_one.duration_ms": milliseconds,
    }


def test_the_tenth_similar_statement_is_one_too_many(findings: list[Finding], warnings: list[str]) -> None:
    span = Span()
    for number in range(9):
        observe(span, SELECT.format(number), 0.001)
    assert (span.tags, findings, warnings) == ({}, [], [])
    observe(span, SELECT.format(9), 0.0025)
    line = line_of(test_the_tenth_similar_statement_is_one_too_many, 5)
    assert span.tags == tags(MASKED, 10, 11.5)
    assert findings == [Finding(MASKED, 10, pytest.approx(0.0115), line, None)]
    assert findings[0].parent is span
    assert warnings == [
        f"opentracing_instrumentation WARNING N+1: 10 similar statements in 11.5 ms at {line}: {MASKED}"
    ]


def test_further_ones_bring_the_tags_up_to_date_and_nothing_else(findings: list[Finding], warnings: list[str]) -> None:
    span = Span()
    for _ in range(50):
        observe(span, SELECT, 0.001)
    assert span.tags == tags(SELECT, 50, 50.0)
    assert (len(findings), len(warnings)) == (1, 1)


def test_the_tags_tell_of_the_statement_that_there_was_most_of(findings: list[Finding]) -> None:
    span = Span()
    for statement, times in {"SELECT a": 12, "SELECT b": 11, "SELECT c": 9}.items():
        for _ in range(times):
            observe(span, statement, 0.001)
    assert span.tags == tags("SELECT a", 12, 12.0)
    observe(span, "SELECT b", 0.001)
    assert span.tags == tags("SELECT a", 12, 12.0)
    observe(span, "SELECT b", 0.001)
    assert span.tags == tags("SELECT b", 13, 13.0)
    assert [finding.statement for finding in findings] == ["SELECT a", "SELECT b"]


def test_a_thousand_different_statements_are_none(findings: list[Finding]) -> None:
    span = Span()
    for number in range(1000):
        observe(span, f"SELECT column_{number} FROM t", 0.001)
    assert (span.tags, findings) == ({}, [])


def test_a_hundred_different_statements_are_counted_below_a_span(findings: list[Finding]) -> None:
    span = Span()
    for _ in range(10):
        for number in range(101):
            observe(span, f"SELECT column_{number} FROM t", 0.001)
    assert len(findings) == 100
    assert "SELECT column_100 FROM t" not in {finding.statement for finding in findings}


def test_each_span_is_counted_by_itself(findings: list[Finding]) -> None:
    spans = [Span() for _ in range(20)]
    for _ in range(9):
        for span in spans:
            observe(span, SELECT, 0.001)
    assert findings == []
    observe(spans[7], SELECT, 0.001)
    assert [finding.parent for finding in findings] == [spans[7]]


@given(st.lists(st.sampled_from([*"abcdefgh"]), max_size=200), st.integers(1, 150))
def test_the_findings_are_what_is_there_often_enough(letters: list[str], threshold: int) -> None:
    CONFIG.n_plus_one_threshold = threshold
    told: list[Finding] = []
    n_plus_one.set_callback(told.append)
    span = Span()
    for letter in letters:
        observe(span, f"SELECT {letter}", 0.5)
    n_plus_one.set_callback(None)
    counts = {f"SELECT {letter}": times for letter, times in Counter(letters).items() if times >= threshold}
    assert {finding.statement: finding.count for finding in told} == dict.fromkeys(counts, threshold)
    assert len(told) == len(counts)
    if counts:
        most = max(counts.values())
        assert span.tags["db.n_plus_one.count"] == counts[span.tags["db.n_plus_one.statement"]] == most
        assert span.tags["db.n_plus_one.duration_ms"] == most * 500.0


def test_a_threshold_of_0_counts_nothing(findings: list[Finding]) -> None:
    CONFIG.n_plus_one_threshold = 0
    span = Span()
    for _ in range(100):
        observe(span, SELECT, 0.001)
    assert (span.tags, findings) == ({}, [])


def test_a_threshold_that_changes_is_heeded_at_once(findings: list[Finding]) -> None:
    span = Span()
    for _ in range(5):
        observe(span, SELECT, 0.001)
    CONFIG.n_plus_one_threshold = 3
    observe(span, SELECT, 0.001)
    assert [finding.count for finding in findings] == [6]


@pytest.fixture
def interleaved() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_sixteen_threads_below_one_span_count_together(interleaved: None, findings: list[Finding]) -> None:
    span, start = Span(), threading.Barrier(16)

    def work(_: int) -> None:
        start.wait()
        for _ in range(500):
            observe(span, "SELECT a", 0.001)
            observe(span, "SELECT b", 0.001)

    with pytest.raises(NPlusOneError) as caught, forbid(everywhere=True), ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert [finding.count for finding in caught.value.findings] == [8000, 8000]
    assert 7920 < span.tags["db.n_plus_one.count"] <= 8000
    assert span.tags["db.n_plus_one.duration_ms"] == pytest.approx(span.tags["db.n_plus_one.count"])
    assert sorted(finding.statement for finding in findings) == ["SELECT a", "SELECT b"]


def test_whoever_is_last_to_tag_tells_of_all(findings: list[Finding]) -> None:
    class Slow(Span):
        """Another thread sends, and tags, while a tag is being set."""

        def set_tag(self, key: str, value: Any) -> None:
            if key == "db.n_plus_one.count" and value == 12:
                observe(self, SELECT, 0.001)
            super().set_tag(key, value)

    span = Slow()
    for _ in range(12):
        observe(span, SELECT, 0.001)
    assert span.tags == tags(SELECT, 13, 13.0)


def test_no_statement_is_lost_among_threads_up_to_the_threshold(interleaved: None, findings: list[Finding]) -> None:
    """However many there are before, the last of them makes the finding."""
    CONFIG.n_plus_one_threshold = 16 * 20
    for _ in range(50):
        span, start = Span(), threading.Barrier(16)

        def work(_: int, span: Span = span, start: threading.Barrier = start) -> None:
            start.wait()
            for _ in range(20):
                observe(span, SELECT, 0.001)

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(work, range(16)))
        assert span.tags["db.n_plus_one.count"] == 320
    assert len(findings) == 50


def test_spans_are_not_kept(findings: list[Finding]) -> None:
    gc.collect()
    spans = [Span() for _ in range(10)]
    for span in spans:
        observe(span, SELECT, 0.001)
    known = len(n_plus_one._watch.tallies)
    alive = [weakref.ref(span) for span in spans]
    spans.clear()
    del span
    gc.collect()
    assert [span() for span in alive] == [None] * 10
    assert len(n_plus_one._watch.tallies) == known - 10


def test_of_more_than_a_thousand_live_spans_the_older_are_forgotten(findings: list[Finding]) -> None:
    spans = [Span() for _ in range(5000)]
    for span in spans:
        for _ in range(9):
            observe(span, SELECT, 0.001)
        assert len(n_plus_one._watch.tallies) <= 1000
    observe(spans[-1], SELECT, 0.001)
    observe(spans[0], SELECT, 0.001)
    assert [finding.parent for finding in findings] == [spans[-1]]


def test_nothing_is_written_on_a_span(tracer: MockTracer) -> None:
    span = tracer.start_span("request")
    attributes = {*vars(span)}
    observe(span, SELECT, 0.001)
    assert {*vars(span)} == attributes


def test_a_span_without_weak_references_is_not_counted(findings: list[Finding]) -> None:
    class Strong:
        __slots__ = ()

    span = Strong()
    for _ in range(20):
        observe(span, SELECT, 0.001)
    assert findings == []


def test_the_no_op_span_is_nobodys(findings: list[Finding]) -> None:
    """All spans of OpenTracing's own tracer are one object."""
    span = opentracing.Tracer().start_span("anything")
    for _ in range(20):
        observe(span, SELECT, 0.001)
    assert findings == []


def test_the_cause_is_asked_for_once_at_the_finding(findings: list[Finding], warnings: list[str]) -> None:
    asked: list[Any] = []

    def explain(context: Any) -> Cause:
        asked.append(context)
        return Cause("Order.customer", "selectinload(Order.customer)")

    span = Span()
    for number in range(30):
        observe(span, SELECT, 0.001, explain, number)
    assert asked == [9]
    assert findings[0].cause == ("Order.customer", "selectinload(Order.customer)", "lazy load")
    assert warnings[0].endswith(f": {SELECT} (lazy load of Order.customer; selectinload(Order.customer) avoids it)")


def test_a_long_statement_is_shortened_in_the_log_alone(findings: list[Finding], warnings: list[str]) -> None:
    statement = f"SELECT {', '.join(f'column_{number}' for number in range(100))}"
    span = Span()
    for _ in range(10):
        observe(span, statement, 0.001)
    assert span.tags["db.n_plus_one.statement"] == findings[0].statement == statement
    assert warnings[0].endswith(f": {statement[:199]}…")


# Failures of others


class Failure(Exception):
    """What the tests' functions raise."""


def fail(*_: Any) -> Any:
    raise Failure


@pytest.fixture
def span() -> Span:
    return Span()


def counted(span: Any) -> None:
    for _ in range(11):
        observe(span, SELECT, 0.001, None)


def test_a_callback_that_raises_is_reported(lenient: None, span: Span, warnings: list[str]) -> None:
    n_plus_one.set_callback(fail)
    try:
        counted(span)
    finally:
        n_plus_one.set_callback(None)
    assert span.tags["db.n_plus_one.count"] == 11
    assert [line.split(":")[0].split(" ", 1)[1] for line in warnings] == [
        "WARNING N+1",
        "ERROR the function given to n_plus_one.set_callback failed; the call itself goes on (reported once)",
    ]


def test_a_cause_that_can_not_be_told_is_none(lenient: None, span: Span, findings: list[Finding]) -> None:
    for _ in range(11):
        observe(span, SELECT, 0.001, fail, None)
    assert [(finding.count, finding.cause) for finding in findings] == [(10, None)]


def test_a_span_that_takes_no_tags_costs_the_tags_alone(lenient: None, span: Any, findings: list[Finding]) -> None:
    span.set_tag = fail
    counted(span)
    assert len(findings) == 1


def test_a_statement_that_is_no_text_is_reported_as_our_failure(
    lenient: None, span: Any, findings: list[Finding], warnings: list[str]
) -> None:
    for _ in range(11):
        observe(span, None, 0.001)  # type: ignore[arg-type]
    assert findings == []
    assert len(warnings) == 1


def test_a_destructor_that_sends_a_statement_is_counted(span: Span, findings: list[Finding]) -> None:
    """The garbage collector may run anywhere, also where our lock is held."""
    with n_plus_one._lock:
        counted(span)
    assert span.tags["db.n_plus_one.count"] == 11


FORKING = """
import logging, os, threading
from opentracing_instrumentation._core import safety
from opentracing_instrumentation.n_plus_one import observe

logging.disable(logging.CRITICAL)  # the lock of a log file is Python's affair
safety.strict = True

class Span:
    def set_tag(self, key, value):
        pass

def work():
    while True:
        observe(span, "SELECT 1", 0.001)

span = Span()
threading.Thread(target=work, daemon=True).start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        try:
            for _ in range(11):
                observe(span, "SELECT 2", 0.001)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_process_does_not_inherit_the_lock() -> None:
    with tempfile.TemporaryFile() as output:
        subprocess.run([sys.executable, "-c", FORKING], check=True, timeout=30, stdout=output, stderr=output)


def test_statements_are_not_looked_at_before_they_could_be_too_many(
    tracer: MockTracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To tell what is similar about a statement costs more than to count it."""
    looked_at: list[str] = []
    similar_to = n_plus_one._similar_to
    monkeypatch.setattr(n_plus_one, "_similar_to", lambda text: looked_at.append(text) or similar_to(text))
    span = tracer.start_span("work")
    for number in range(9):
        n_plus_one.observe(span, f"SELECT {number}", 0.001)
    assert looked_at == []
    n_plus_one.observe(span, "SELECT 9", 0.001)
    assert span.tags["db.n_plus_one.count"] == 10
    assert looked_at == [f"SELECT {number}" for number in range(10)]


def test_a_hundred_are_told_exactly_and_more_to_one_in_a_hundred() -> None:
    span = Span()
    for number in range(1, 10_000):
        observe(span, SELECT.format(number), 0.001)
        told = span.tags.get("db.n_plus_one.count", number)
        assert told == number if number <= 128 else number * 0.99 < told <= number


def test_with_a_high_threshold_no_more_statements_are_kept_than_are_counted() -> None:
    CONFIG.n_plus_one_threshold = 1_000_000
    span = Span()
    for number in range(1000):
        observe(span, SELECT.format(number), 0.001)
    tally = n_plus_one._watch.tallies.get(span)
    assert tally is not None
    assert (list(tally), tally._first) == ([MASKED], None)
