"""Whatever fails on our side, the application's call has the outcome that it has without us, and it is told once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import opentracing
import pytest
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation import request_context
from opentracing_instrumentation._core import patching
from opentracing_instrumentation._core.registry import Hook
from opentracing_instrumentation.interceptors import ClientInterceptors, OpenTracingInterceptor

from .calls import CALLS


@pytest.fixture
def call(hook: Hook, service: Any) -> Callable[[], Any]:
    """One call by the hook's library."""
    if hook.name not in CALLS:
        pytest.fail(f"the hook {hook.name} has no call in tests/contract/calls.py: add one to CALLS", pytrace=False)
    return lambda: CALLS[hook.name](service)


def failing(*_: Any, **__: Any) -> Any:
    raise ArithmeticError("ours")


class FailingInterceptor(OpenTracingInterceptor):
    """An interceptor that raises."""

    process = failing


def break_descriptions(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a patcher in force whose marked methods all raise."""
    broken = type("Broken", (type(hook.patcher),), dict.fromkeys(patching._marks(type(hook.patcher)), failing))
    monkeypatch.setattr(hook.module, "patcher", hook.patcher)
    hook.module.set_patcher(broken())


def break_span(*methods: str) -> Callable[[Hook, pytest.MonkeyPatch], None]:
    def break_methods(_: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
        span_class = type(opentracing.tracer.start_span("probe"))
        for method in methods:
            monkeypatch.setattr(span_class, method, failing)

    return break_methods


def break_tracer(method: str, broken: Any = failing) -> Callable[[Hook, pytest.MonkeyPatch], None]:
    return lambda _, monkeypatch: monkeypatch.setattr(MockTracer, method, broken)


BREAKS: dict[str, Callable[[Hook, pytest.MonkeyPatch], None]] = {
    "descriptions": break_descriptions,
    "start": break_tracer("start_span"),
    "inject": break_tracer("inject"),
    "scope manager": break_tracer("scope_manager", property(failing)),
    "active span": break_tracer("active_span", property(failing)),
    "no tracer at all": lambda _, monkeypatch: monkeypatch.setattr(opentracing, "tracer", None),
    "finish": break_span("finish"),
    "exit": break_span("__exit__"),
    "tags": break_span("set_tag", "log_kv"),
    "context": break_span("context"),
    "all of the span": break_span("finish", "__exit__", "set_tag", "log_kv", "context"),
    "current span function": lambda *_: request_context.set_current_span_func(failing),
    "interceptor": lambda *_: ClientInterceptors.append(FailingInterceptor()),
}


def test_a_traced_call_has_the_same_outcome_and_ends_its_spans(
    hook: Hook, call: Callable[[], Any], tracer: MockTracer
) -> None:
    """The call of this hook in ``calls.py`` is one that the hook traces."""
    expected = call()
    assert tracer.finished_spans() == []
    hook.install()
    assert call() == expected
    assert len(tracer.finished_spans()) >= 1
    assert all(span.finish_time is not None for span in tracer.finished_spans())
    assert tracer.active_span is None
    hook.reset()
    tracer.reset()
    assert call() == expected
    assert tracer.finished_spans() == []


def test_without_a_tracer_a_call_has_the_same_outcome(
    hook: Hook, call: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenTracing's own tracer does nothing; nor do we."""
    monkeypatch.setattr(opentracing, "tracer", opentracing.Tracer())
    expected = call()
    hook.install()
    assert call() == expected


@pytest.mark.parametrize("broken", BREAKS)
def test_a_failure_of_ours_changes_nothing_and_is_told_once(
    broken: str,
    hook: Hook,
    call: Callable[[], Any],
    tracer: MockTracer,
    lenient: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Twice the same outcome, and each complaint once."""
    expected = call()
    hook.install()
    with monkeypatch.context() as patched:
        BREAKS[broken](hook, patched)
        assert [call(), call()] == [expected, expected]
        hook.reset()
    complaints = [record.getMessage() for record in caplog.records if record.name.startswith("opentracing")]
    assert sorted(set(complaints)) == sorted(complaints)
    if broken in ("descriptions", "start", "no tracer at all", "all of the span"):
        assert complaints != []
