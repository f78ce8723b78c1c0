"""What every test has: a recording tracer, and nothing left behind for the next test."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import hypothesis
import opentracing
import pytest
from opentracing.mocktracer import MockTracer
from opentracing.scope_managers.contextvars import ContextVarsScopeManager

from opentracing_instrumentation import request_context
from opentracing_instrumentation._core import safety
from opentracing_instrumentation.client_hooks import reset_all_patches
from opentracing_instrumentation.config import CONFIG, SETTINGS
from opentracing_instrumentation.interceptors import ClientInterceptors

pytest_plugins = ["tests.services"]

# How long an example takes says more about the machine than about us.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Failures of ours raise; patches, settings, interceptors, the parent function and the tracer are put back."""
    monkeypatch.setattr(safety, "strict", True)
    monkeypatch.setattr(opentracing, "tracer", opentracing.tracer)
    settings = {name: copy.copy(getattr(CONFIG, name)) for name in SETTINGS}
    CONFIG.sql_checkout_threshold = 60  # a busy machine makes waits of a millisecond out of nothing
    yield
    reset_all_patches()
    for name, value in settings.items():
        setattr(CONFIG, name, value)
    ClientInterceptors.clear()
    request_context.set_current_span_func(request_context.get_current_span)
    safety.forget_reports()


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures of ours are reported, as in a service."""
    monkeypatch.setattr(safety, "strict", False)


@pytest.fixture
def tracer(monkeypatch: pytest.MonkeyPatch) -> MockTracer:
    """The tracer in force: OpenTracing's own recording one, its current span in a context variable."""
    recording = MockTracer(ContextVarsScopeManager())
    monkeypatch.setattr(opentracing, "tracer", recording)
    return recording
