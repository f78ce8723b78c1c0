"""Descriptions of calls, and what their spans say, for the tests of the core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentracing import Span
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation._core.calls import Description, FlowDescription, instrument
from opentracing_instrumentation._core.patching import Patcher, trace
from opentracing_instrumentation.utils import child_span


def describe() -> Span:
    """Describe any call at all."""
    return child_span("call", {"kind": "test"})


def traced(function: Callable[..., Any], description: Callable[..., Any] = describe, **options: Any) -> Any:
    """Return ``function`` traced under the name ``call``."""
    return instrument(function, Description(description, "test", **options))


def followed(function: Callable[..., Any], description: Callable[..., Any], **options: Any) -> Any:
    """Return ``function`` traced by a description that yields the span."""
    return instrument(function, FlowDescription(description, "test", **options))


def told(tracer: MockTracer) -> list[dict[str, Any]]:
    """Return all that the finished spans say, errors by their objects."""
    return [
        {
            "operation": span.operation_name,
            "tags": span.tags,
            "errors": [entry.key_values["error.object"] for entry in span.logs],
        }
        for span in tracer.finished_spans()
    ]


#: What the span of a call says that went well.
GOOD = {"operation": "call", "tags": {"kind": "test"}, "errors": []}


def bad(error: BaseException) -> dict[str, Any]:
    """Return what the span of a call says that raised ``error``."""
    return {"operation": "call", "tags": {"kind": "test", "error": True}, "errors": [error]}


def hook(*targets: str, **options: Any) -> Patcher:
    """Return a hook that traces calls of ``targets`` under the name ``call``."""

    class Hook(Patcher):
        @trace(*targets, **options)
        def call(self) -> Span:
            return describe()

    return Hook()
