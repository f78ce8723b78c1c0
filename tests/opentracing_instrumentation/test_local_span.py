"""func_span, start_child_span, and the singleton of hooks outside of this package."""

from __future__ import annotations

import threading
from typing import Any

import opentracing
import pytest
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation import get_current_span
from opentracing_instrumentation.client_hooks import set_current_span_func
from opentracing_instrumentation.client_hooks._singleton import CALLED, NOT_CALLED, singleton
from opentracing_instrumentation.local_span import func_span
from opentracing_instrumentation.utils import child_span, peer_tags, start_child_span

from .told import Spans


def test_func_span_is_a_span_that_is_not_made_current(tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_active_span("work") as scope, func_span("parse", tags={"rows": 3}) as span:
        assert span.operation_name == "parse"
        assert get_current_span() is scope.span
    assert spans() == [
        {"operation": "parse", "parent": "work", "tags": {"rows": 3}},
        {"operation": "work", "parent": None, "tags": {}},
    ]


def test_func_span_is_named_by_the_text_of_what_it_is_given(spans: Spans) -> None:
    with func_span(("parse", 1)):
        pass
    assert spans() == [{"operation": "('parse', 1)", "parent": None, "tags": {}}]


def test_func_span_without_a_parent_is_a_root_unless_one_is_required(tracer: MockTracer, spans: Spans) -> None:
    with func_span("parse", require_active_trace=True) as span:
        assert span is None
    assert spans() == []
    with tracer.start_active_span("work"), func_span("parse", require_active_trace=True) as span:
        assert span is not None
    assert [told["operation"] for told in spans()] == ["parse", "work"]


def test_an_error_in_a_func_span_is_told_and_raised_on(spans: Spans) -> None:
    error = ValueError("oh")
    with pytest.raises(ValueError, match="oh") as caught, func_span("parse"):
        raise error
    assert caught.value is error
    log = {"event": "error", "message": "oh", "error.object": error, "error.kind": ValueError}
    assert spans() == [{"operation": "parse", "parent": None, "tags": {"error": True}, "logs": [log]}]


def test_start_child_span_begins_a_span_by_the_arguments_that_tests_assert(
    tracer: MockTracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []
    parent = tracer.start_span("parent")
    monkeypatch.setattr(tracer, "start_span", lambda **kwargs: begun.append(kwargs))
    start_child_span("a")
    start_child_span("b", parent=parent, tags={"x": 1})
    assert begun == [
        {"operation_name": "a", "child_of": None, "tags": None},
        {"operation_name": "b", "child_of": parent.context, "tags": {"x": 1}},
    ]


def test_start_child_span_takes_a_tracer_of_the_users_own(tracer: MockTracer) -> None:
    other = MockTracer()
    with start_child_span("a", other):
        pass
    assert [len(known.finished_spans()) for known in (other, tracer)] == [1, 0]


def test_child_span_begins_below_the_span_that_the_users_function_names(tracer: MockTracer, spans: Spans) -> None:
    with tracer.start_span("mine") as mine:
        set_current_span_func(lambda: mine)
        with child_span("call", {"a": 1}):
            pass
    assert spans()[0] == {"operation": "call", "parent": "mine", "tags": {"a": 1}}


@pytest.mark.parametrize(
    ("host", "port", "tags"),
    [
        ("db.example", 5432, {"peer.hostname": "db.example", "peer.port": 5432}),
        ("10.0.0.1", 5432, {"peer.ipv4": "10.0.0.1", "peer.port": 5432}),
        ("::1", None, {"peer.ipv6": "::1"}),
        ("[fe80::1%eth0]", None, {"peer.ipv6": "[fe80::1%eth0]"}),
        (None, None, {}),
        ("", 0, {}),
    ],
)
def test_the_tags_of_a_peer_tell_names_from_addresses(host: Any, port: Any, tags: dict[str, Any]) -> None:
    assert dict(peer_tags(host, port)) == tags


def test_with_the_default_tracer_every_span_is_the_no_op_span() -> None:
    with func_span("parse") as span:
        assert span is opentracing.tracer.start_span()


def test_a_singleton_runs_once_until_it_is_reset() -> None:
    runs: list[int] = []

    @singleton
    def install(number: int) -> str:
        """Install."""
        runs.append(number)
        return "installed"

    assert (install.__name__, install.__doc__, install.__call_state__) == ("install", "Install.", NOT_CALLED)
    assert [install(1), install(2)] == ["installed", None]
    assert install.__call_state__ == CALLED
    install.reset()
    assert install(3) == "installed"
    assert getattr(install, "__original_func")(4) == "installed"
    assert runs == [1, 3, 4]


def test_a_run_that_raises_does_not_count() -> None:
    runs: list[int] = []

    @singleton
    def install() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise OSError

    with pytest.raises(OSError):
        install()
    install()
    install()
    assert runs == [1, 1]


def test_a_singleton_may_call_itself() -> None:
    runs: list[int] = []

    @singleton
    def install(again: bool) -> None:
        runs.append(1)
        if again:
            install(False)

    install(True)
    install(True)
    assert runs == [1, 1]


def test_threads_that_call_a_singleton_at_once_run_it_once() -> None:
    runs: list[int] = []
    started = threading.Barrier(8)

    @singleton
    def install() -> None:
        runs.append(1)

    def work() -> None:
        started.wait(5)
        install()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert runs == [1]
