"""Finished spans of every kind as one: opentracing's MockSpan, basictracer's BasicSpan, OpenTelemetry's ReadableSpan,
and the mappings that `to_json` gives, become a `SpanRecord`, the only kind that the rest of the command line knows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class SpanRecord:
    """One finished span, whichever tracer made it.

    Arguments: the ids as hexadecimal text; `parent_id` is None for a root; `kind` as in the tag `span.kind`;
    `start` in seconds since the epoch and `duration` in seconds; `tags` whose values JSON can hold;
    `error`, what went wrong in one line, or None.
    """

    trace_id: str
    span_id: str
    parent_id: str | None = None
    name: str = ""
    service: str | None = None
    kind: str | None = None
    start: float = 0.0
    duration: float = 0.0
    tags: Mapping[str, Scalar] = field(default_factory=dict)
    error: str | None = None

    @classmethod
    def of(cls, span: Any, service: str | None = None) -> SpanRecord:
        """The record of a span, or of a mapping with the names of the fields above; other keys are ignored.

        `service` names the service where the span itself does not; an OpenTelemetry resource does.
        Raises TypeError for what is no span.
        """
        if isinstance(span, SpanRecord):
            record = span
        elif isinstance(span, Mapping):
            record = _of_mapping(span)
        elif hasattr(span, "operation_name"):
            record = _of_opentracing(span)
        elif hasattr(span, "attributes"):
            record = _of_opentelemetry(span)
        else:
            raise TypeError(f"not a finished span: {type(span).__name__}")
        return record if record.service else replace(record, service=service)

    @property
    def end(self) -> float:
        """When the span finished, in seconds since the epoch."""
        return self.start + self.duration


def to_json(spans: Iterable[Any]) -> str:
    """The spans as a JSON list of objects, one per span, with the fields of `SpanRecord`."""
    return json.dumps([asdict(SpanRecord.of(span)) for span in spans], indent=2)


def from_json(text: str) -> list[SpanRecord]:
    """The spans that `to_json` wrote. Raises ValueError where the text is not JSON."""
    return [SpanRecord.of(span) for span in json.loads(text)]


def _of_mapping(span: Mapping[str, Any]) -> SpanRecord:
    known: dict[str, Any] = {each.name: span[each.name] for each in fields(SpanRecord) if each.name in span}
    known["start"] = _seconds(known.get("start"))
    known["duration"] = max(0.0, _seconds(known.get("duration")))
    for name in ("trace_id", "span_id", "name"):
        known[name] = _string(known.get(name, ""))
    for name in ("parent_id", "service", "kind", "error"):
        known[name] = None if known.get(name) is None else _string(known[name])
    known["tags"] = _scalars(known.get("tags") or {})
    return SpanRecord(**known)


def _of_opentracing(span: Any) -> SpanRecord:
    tags = _scalars(span.tags or {})
    duration = span.duration if hasattr(span, "duration") else span.finish_time - span.start_time
    return SpanRecord(
        trace_id=_identifier(span.context.trace_id, 16) or "",
        span_id=_identifier(span.context.span_id, 16) or "",
        parent_id=_identifier(span.parent_id, 16),
        name=_string(span.operation_name),
        kind=_string(tags["span.kind"]) if "span.kind" in tags else None,
        start=_seconds(span.start_time),
        duration=max(0.0, _seconds(duration)),
        tags=tags,
        error=_logged_error(tags, [log.key_values for log in span.logs]),
    )


def _of_opentelemetry(span: Any) -> SpanRecord:
    service = span.resource.attributes.get("service.name")
    return SpanRecord(
        trace_id=_identifier(span.context.trace_id, 32) or "",
        span_id=_identifier(span.context.span_id, 16) or "",
        parent_id=_identifier(span.parent.span_id, 16) if span.parent else None,
        name=_string(span.name),
        service=None if service is None else _string(service),
        kind=span.kind.name.lower(),
        start=_seconds((span.start_time or 0) / 1e9),
        duration=max(0.0, _seconds(((span.end_time or 0) - (span.start_time or 0)) / 1e9)),
        tags=_scalars(span.attributes or {}),
        error=_status_error(span.status, [event.attributes or {} for event in span.events]),
    )


def _logged_error(tags: Mapping[str, Scalar], logs: Sequence[Mapping[str, Any]]) -> str | None:
    """The error by OpenTracing's conventions: the tag `error`, and a log that tells which."""
    tag = tags.get("error")
    if not tag or tag == "false":
        return None
    for log in reversed(logs):
        cause = next((log[key] for key in ("error.object", "payload", "message") if log.get(key)), None)
        if cause is not None:
            kind = type(cause) if isinstance(cause, BaseException) else log.get("error.kind")
            return _error_line(getattr(kind, "__name__", kind), log.get("message") or cause)
    return "error" if tag in (True, "true") else _string(tag)


def _status_error(status: Any, events: Sequence[Mapping[str, Any]]) -> str | None:
    """The error by OpenTelemetry's conventions: the status, and an exception event that tells which."""
    if status.status_code.name != "ERROR":
        return None
    for event in reversed(events):
        if "exception.type" in event:
            return _error_line(event["exception.type"], event.get("exception.message"))
    return _string(status.description or "error")


def _error_line(kind: object, message: object) -> str:
    parts = [_string(part) for part in (kind, message) if part is not None]
    return ": ".join(filter(None, parts)) or "error"


def _identifier(value: Any, digits: int) -> str | None:
    if isinstance(value, int):
        return f"{value:0{digits}x}" if value else None
    return None if value is None else _string(value)


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0.0


def _scalars(tags: Mapping[Any, Any]) -> dict[str, Scalar]:
    return {_string(key): _scalar(value) for key, value in tags.items()}


def _scalar(value: object) -> Scalar:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and value.bit_length() <= 64:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return _string(value)


def _string(value: object) -> str:
    try:
        return str(value)
    except Exception:  # a value's own __str__ may do anything
        return f"<{type(value).__name__}>"
