"""What the SDK has kept, in a few words."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan


def tree(spans: Any) -> list[Any]:
    """Return finished spans by their names: ``[root, [child, [grandchild], child]]``, in the order of their start."""
    ordered = sorted(spans, key=lambda span: span.start_time)
    known = {span.context.span_id for span in ordered}
    roots = [span for span in ordered if span.parent is None or span.parent.span_id not in known]
    return _names(roots, ordered)


def _names(siblings: list[ReadableSpan], spans: list[ReadableSpan]) -> list[Any]:
    names: list[Any] = []
    for span in siblings:
        names.append(span.name)
        children = [child for child in spans if child.parent and child.parent.span_id == span.context.span_id]
        if children:
            names.append(_names(children, spans))
    return names


def by_name(spans: Any) -> dict[str, ReadableSpan]:
    """Return finished spans by their names, which must differ."""
    named = {span.name: span for span in spans}
    assert len(named) == len(spans)
    return named
