"""Spans by their names."""

from __future__ import annotations

from tests.opentracing_instrumentation.told import Spans, Told


def names(spans: Spans) -> list[tuple[str, str | None]]:
    """The name of each finished span and of its parent, in the order of their ends."""
    return [(told["operation"], told["parent"]) for told in spans()]


def named(spans: Spans, name: str) -> list[Told]:
    """The finished spans of a name."""
    return [told for told in spans() if told["operation"] == name]
