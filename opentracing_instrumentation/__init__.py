"""Tracing of client libraries, for services on the OpenTracing API."""

from __future__ import annotations

from .local_span import traced_function
from .request_context import get_current_span, span_in_context, span_in_stack_context

__all__ = ["get_current_span", "span_in_context", "span_in_stack_context", "traced_function"]
