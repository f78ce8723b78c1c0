"""Beginning spans below other spans, and the tags of a peer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import opentracing
from opentracing import Span, Tracer, logs
from opentracing.ext import tags as standard

from ._core.tags import peer_host_tag
from .config import CONFIG
from .request_context import current_span


def start_child_span(
    operation_name: str,
    tracer: Tracer | None = None,
    parent: Any = None,
    tags: dict[str, Any] | None = None,
) -> Span:
    """Begin a span, below ``parent`` if there is one.

    Args:
        operation_name: name of the span.
        tracer: the tracer; ``opentracing.tracer`` if ``None``.
        parent: the parent span; with ``None``, tracers take the active span.
        tags: tags to begin with. The tracer may keep this very dict.

    Returns:
        the span, not finished and not active.
    """
    return (tracer or opentracing.tracer).start_span(
        operation_name=operation_name,
        child_of=None if parent is None else parent.context,
        tags=tags,
    )


def child_span(operation_name: str, tags: dict[str, Any] | None = None) -> Span:
    """Begin a span below the one that :func:`request_context.current_span` names; as :func:`start_child_span` else."""
    parent = current_span()
    return opentracing.tracer.start_span(
        operation_name=operation_name, child_of=None if parent is None else parent.context, tags=tags
    )


def log_error(span: Span, error: BaseException, message: str) -> None:
    """Mark a span as failed and log the error as ``with span:`` does, with another message and without the error.

    Args:
        span: the span.
        error: what was raised; its own message says what a span must not.
        message: what may be said.
    """
    span.set_tag(standard.ERROR, True)
    span.log_kv(
        {
            logs.EVENT: standard.ERROR,
            logs.MESSAGE: message,
            logs.ERROR_KIND: type(error),
            logs.STACK: error.__traceback__,
        }
    )


def peer_tags(host: str | None, port: int | None) -> Mapping[str, Any]:
    """Return the tags for a peer's address. The mapping is shared: copy it, don't change it."""
    return _peer_tags(host, port, CONFIG.legacy_peer_tags)


@lru_cache(maxsize=1024)
def _peer_tags(host: str | None, port: int | None, legacy: bool) -> Mapping[str, Any]:
    tags: dict[str, Any] = {}
    if host:
        tags[standard.PEER_HOST_IPV4 if legacy else peer_host_tag(host)] = host
    if port:
        tags[standard.PEER_PORT] = port
    return tags
