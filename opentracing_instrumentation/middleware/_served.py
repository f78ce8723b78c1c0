"""The span of a request that is being served: begun, made current, told of and ended, and none of that ever fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import opentracing
from opentracing import Scope, ScopeManager, Span, Tracer
from opentracing.ext import tags as standard
from opentracing.scope_managers import ThreadLocalScopeManager

from .._core.calls import Description
from .._core.safety import report
from ..http_server import AbstractRequestWrapper, before_request

#: The code with which either side closed a websocket (RFC 6455, section 7.4).
WEBSOCKET_CLOSE_CODE = "websocket.close_code"

_PLACE = "the span of an incoming request"
#: How scopes are left and spans end: as for any other call.
_ending = Description(before_request, _PLACE)


class ServedRequest:
    """One request and its span. Not thread-safe, but its methods may be called by one thread after another."""

    #: The status code of the response, once it is known, and the code with which a websocket was closed.
    status: int | None = None
    close_code: int | None = None

    _manager: ScopeManager
    _span: Span
    _open = False
    _error: BaseException | None = None

    #: Undo :meth:`enter` or :meth:`enter_task`, whose result it takes.
    leave = staticmethod(_ending.leave)

    def begin(self, wrap: Callable[[Any], AbstractRequestWrapper], request: Any, tracer: Tracer | None) -> bool:
        """Begin the span; tell whether that worked, else the request is served untraced.

        Args:
            wrap: makes the request wrapper.
            request: what to wrap.
            tracer: begins the span, and makes it current; ``opentracing.tracer`` if ``None``.
        """
        try:
            if tracer is None:
                tracer = opentracing.tracer
            self._manager = tracer.scope_manager
            self._span = before_request(wrap(request), tracer)
        except Exception as error:
            report(_PLACE, error)
            return False
        self._open = True
        return True

    def enter(self) -> Scope | None:
        """Make the span current; to be undone by :meth:`leave` before anything else of the thread or task runs."""
        try:
            return self._manager.activate(self._span, False)
        except Exception as error:
            report(f"{_PLACE}: activation", error)
            return None

    def enter_task(self) -> Scope | None:
        """Make the span current until the task calls :meth:`leave`, if the scope manager can tell tasks apart."""
        kind = type(self._manager)
        if kind is ThreadLocalScopeManager or kind.__name__ == "GeventScopeManager":
            reason = f"{kind.__name__} mixes up the spans of tasks: give the tracer a ContextVarsScopeManager"
            report(f"{_PLACE}: activation", RuntimeError(reason))
            return None
        return self.enter()

    def fail(self, error: BaseException | None) -> None:
        """Mark the span as failed and log the error on it, once."""
        if error is None or error is self._error or not self._open:
            return
        self._error = error
        try:
            Span._on_error(self._span, type(error), error, error.__traceback__)
        except Exception as failure:
            report(f"{_PLACE}: error", failure)

    def finish(self) -> None:
        """End the span, once, with the status code; one of 500 and above is an error."""
        if not self._open:
            return
        self._open = False
        try:
            self._tag_outcome()
        except Exception as error:
            report(f"{_PLACE}: tags", error)
        self._error = None
        _ending.succeed(self._span, None)

    def _tag_outcome(self) -> None:
        if self.status is not None:
            status = int(self.status)
            self._span.set_tag(standard.HTTP_STATUS_CODE, status)
            if status >= 500 and self._error is None:
                self._span.set_tag(standard.ERROR, True)
        if self.close_code is not None:
            self._span.set_tag(WEBSOCKET_CLOSE_CODE, int(self.close_code))
