"""The function that gives hooks their parent span, under the names by which hooks outside of this package import it."""

from __future__ import annotations

from ..request_context import current_span as current_span_func
from ..request_context import set_current_span_func

__all__ = ["current_span_func", "set_current_span_func"]
