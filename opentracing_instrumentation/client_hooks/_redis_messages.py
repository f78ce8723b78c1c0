"""The envelope in which a published Redis message carries a span context, since such a message has no headers.

A line is put in front of the message: a mark that no text begins with, and the context as JSON. Who listens must know
of it, so either side has to ask for it; see ``RedisPatcher``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

import opentracing
from opentracing import Format, Span, UnsupportedFormatException

from .._core.safety import report
from ..utils import child_span

_MARK = b"\x00ot1 "


class Envelope(bytes):
    """A message with a span context in front of it, and the span of its publication, which has begun already."""

    span: Span


def seal(span: Any, message: bytes) -> bytes:
    """Return a message with the context of a span in front of it; as it is if there is no span, or no way to travel."""
    carrier: dict[str, str] = {}
    try:
        if span is not None:
            opentracing.tracer.inject(span.context, Format.TEXT_MAP, carrier)
    except UnsupportedFormatException:  # a tracer may well have none
        pass
    if not carrier:
        return message
    return _MARK + json.dumps(carrier, separators=(",", ":")).encode() + b"\n" + message


def unseal(data: Any) -> tuple[Mapping[str, str], Any]:
    """Return the injected context and the message, of what a listener received: bytes, or text by ``decode_responses``.

    What has no context in front comes back as it is, with an empty carrier.
    """
    mark: Any = _MARK
    line_end: Any = b"\n"
    if isinstance(data, str):
        mark, line_end = _MARK.decode(), "\n"
    if not isinstance(data, bytes | str) or not data.startswith(mark):
        return {}, data
    head, _, message = data[len(mark) :].partition(line_end)
    try:
        carrier = json.loads(head)
    except ValueError:
        return {}, data
    return (carrier, message) if isinstance(carrier, dict) else ({}, data)


def continued(operation: str, carrier: Mapping[str, str], tags: dict[str, Any]) -> Span:
    """Begin a span below the one whose context is in the carrier, else below the current one."""
    context = None
    try:
        if carrier:
            context = opentracing.tracer.extract(Format.TEXT_MAP, carrier)
    except UnsupportedFormatException:
        pass
    except Exception as error:
        report("extracting the span context from a Redis message", error)
    if context is None:
        return child_span(operation, tags)
    return opentracing.tracer.start_span(operation_name=operation, child_of=context, tags=tags)


@lru_cache(maxsize=1024)
def matches(channel: str, patterns: Sequence[str]) -> bool:
    """Tell whether one of the patterns, as in :mod:`fnmatch`, fits a channel. They have to be a tuple."""
    return any(fnmatchcase(channel, pattern) for pattern in patterns)
