"""Functions of the user's that are shown the calls of a hook, as OpenTelemetry's instrumentors call them.

A hook says what a call means by its describing methods. In their place come such that do what those do and, before and
after the call, show it; so whatever the hook does is left to the hook.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, NamedTuple

from opentelemetry.trace import INVALID_SPAN

from .._core.safety import report
from .span import Span

_Call = Mapping[str, Any]


class Follower(NamedTuple):
    """What is to be shown of calls, and to whom.

    Attributes:
        name: for reports.
        before: called as ``before(span, *request(call))`` once the span has begun, or ``None``.
        after: called as ``after(span, *response(call, result))`` before it ends, or ``None``.
        request: see ``before``; the call is its arguments by name.
        response: see ``after``; where there is an error, its ``response`` is the result, or ``None``.
        is_excluded: tells whether a call is left untraced, or ``None``.

    The span is OpenTelemetry's; an invalid one if ``opentracing.tracer`` is not of :class:`otel.Tracer`.
    """

    name: str
    before: Callable[..., Any] | None
    after: Callable[..., Any] | None
    request: Callable[[_Call], tuple[Any, ...]]
    response: Callable[[_Call, Any], tuple[Any, ...]]
    is_excluded: Callable[[_Call], bool] | None

    def excludes(self, call: _Call) -> bool:
        """Tell whether a call is left untraced."""
        try:
            return self.is_excluded is not None and self.is_excluded(call)
        except Exception as error:
            report(f"{self.name}: excluded_urls", error)
            return False

    def began(self, handle: Any, call: _Call) -> None:
        """Show that the span of a call has begun."""
        if self.before is not None:
            try:
                self.before(_otel_span(handle), *self.request(call))
            except Exception as error:
                report(f"{self.name}: the function for requests", error)

    def ends(self, handle: Any, call: _Call, result: Any) -> None:
        """Show that it is about to end."""
        if self.after is not None:
            try:
                self.after(_otel_span(handle), *self.response(call, result))
            except Exception as error:
                report(f"{self.name}: the function for responses", error)


def _otel_span(handle: Any) -> Any:
    """Return the span of what a description gives: a span, or what stands for one and has it."""
    span = handle if isinstance(handle, Span) else getattr(handle, "_span", None)
    return span.unwrap() if isinstance(span, Span) else INVALID_SPAN


def follow(patcher: Any, methods: Iterable[str], follower: Follower) -> None:
    """Have the calls of a hook shown, in place of what was asked for before.

    Args:
        patcher: the hook's; if it is installed, it stays so.
        methods: the describing methods whose calls are meant.
        follower: what is shown to whom.
    """
    kind = type(patcher)
    patcher.describe_by({name: _followed(getattr(kind, name).__get__(patcher), follower) for name in methods})


def unfollow(patcher: Any) -> None:
    """Undo :func:`follow`; nothing if that was not done."""
    patcher.describe_by({})


def _followed(describe: Callable[..., Any], follower: Follower) -> Callable[..., Any]:
    """Return a description like ``describe``, whose calls are shown."""
    signature, is_flow = inspect.signature(describe), inspect.isgeneratorfunction(describe)

    @functools.wraps(describe)
    def described(*args: Any, **kwargs: Any) -> Generator[Any, Any, None]:
        call = signature.bind(*args, **kwargs).arguments
        if follower.excludes(call):
            return
        steps: Any = describe(*args, **kwargs) if is_flow else _steps(describe(*args, **kwargs))
        handle = next(steps, None)
        if handle is None:
            return
        follower.began(handle, call)
        try:
            result = yield handle
        except BaseException as error:
            follower.ends(handle, call, getattr(error, "response", None))
            try:
                steps.throw(error)
            except StopIteration:
                return
        else:
            follower.ends(handle, call, result)
            try:
                steps.send(result)
            except StopIteration:
                return

    return described


def _steps(handle: Any) -> Generator[Any, Any, None]:
    """Describe a call by the handle of its span, as a description that yields it."""
    if handle is not None:
        yield handle


def excluding(patterns: Any, variable: str) -> Callable[[str], bool] | None:
    """Return what tells whether a URL is excluded, or ``None`` if none is.

    Args:
        patterns: regular expressions with commas between, each searched for in the URL; ``None`` for those of
            ``OTEL_PYTHON_<variable>_EXCLUDED_URLS``, else of ``OTEL_PYTHON_EXCLUDED_URLS``.
        variable: see there.

    Raises:
        ValueError: they are none.
    """
    source = "excluded_urls"
    if patterns is None:
        names = (f"OTEL_PYTHON_{variable}_EXCLUDED_URLS", "OTEL_PYTHON_EXCLUDED_URLS")
        source, patterns = next(((name, os.environ[name]) for name in names if name in os.environ), (source, ""))
    try:
        parts = [part.strip() for part in patterns.split(",")]
        pattern = re.compile("|".join(filter(None, parts)))
    except (AttributeError, re.error) as error:
        raise ValueError(
            f"{source}={patterns!r}: accepted are regular expressions with commas between ({error})"
        ) from error
    return (lambda url: pattern.search(url) is not None) if pattern.pattern else None
