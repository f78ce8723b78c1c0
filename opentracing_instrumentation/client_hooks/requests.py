"""requests: one client span for each request that is sent, each hop of a redirect included.

``HTTPAdapter.send`` is what all requests go through, whatever session or function sends them, also in subclasses and in
sessions made before patching, and it is called again for each hop. Below it, urllib3 may send a request again; that
stays one span. The span ends when the response's headers are there: a body may be streamed long after.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from operator import attrgetter
from typing import Any, ClassVar

from opentracing import Span
from opentracing.ext import tags as standard

from .._core.calls import idle_http
from .._core.patching import Patcher, trace
from .._core.safety import report
from .._core.tags import HTTP_RESEND_COUNT
from ..http_client import (
    REQUEST_SETTINGS,
    REQUEST_SPANS,
    REQUEST_TAGS,
    AbstractRequestWrapper,
    before_http_request,
    host_and_port,
    without_secrets,
)
from ..request_context import current_span

ResponseHandlerHook = Callable[[Any, Span], Any]


class RequestsPatcher(Patcher):
    """Traces ``requests``."""

    library: ClassVar[str | None] = "requests"
    supports = ">=2.27"
    spans, settings = REQUEST_SPANS, REQUEST_SETTINGS
    tags: ClassVar[Mapping[str, str]] = {
        **REQUEST_TAGS,
        HTTP_RESEND_COUNT: "how often urllib3 sent the request again before this response, if it did",
    }

    #: Called as ``hook(response, span)`` before a span is finished; see :meth:`set_response_handler_hook`.
    response_handler_hook: ResponseHandlerHook | None = None

    def set_response_handler_hook(self, response_handler_hook: ResponseHandlerHook | None) -> None:
        """Have a function called with each response and its span, before the span is finished.

        Args:
            response_handler_hook: called as ``hook(response, span)``; ``None`` for no hook. What it raises is logged
                once and goes no further.
        """
        self.response_handler_hook = response_handler_hook

    def idle(self) -> bool:
        """Tell whether nobody listens: no tracer, no interceptor, no response handler."""
        return idle_http() and self.response_handler_hook is None

    @staticmethod
    def message_of(error: BaseException) -> str:
        """Return an error's message without the secrets of the URL."""
        return without_secrets(str(error))

    @trace("requests.adapters:HTTPAdapter.send")
    def send(self, adapter: Any, request: Any) -> Generator[Span, Any, None]:
        span = before_http_request(self.RequestWrapper(request), current_span)
        response = yield span
        status = getattr(response, "status_code", None)
        if status is not None:
            span.set_tag(standard.HTTP_STATUS_CODE, status)
        resent = _resend_count(response)
        if resent:
            span.set_tag(HTTP_RESEND_COUNT, resent)
        if self.response_handler_hook is not None:
            try:
                self.response_handler_hook(response, span)
            except Exception as error:
                report("the response handler hook of requests", error)

    class RequestWrapper(AbstractRequestWrapper):
        """A ``requests.PreparedRequest``."""

        def __init__(self, request: Any) -> None:
            self.request = request

        def add_header(self, key: str, value: str) -> None:
            self.request.headers[key] = value

        @property
        def _headers(self) -> Mapping[str, str]:
            return self.request.headers  # type: ignore[no-any-return]

        @property
        def host_port(self) -> tuple[str | None, int | None]:
            return host_and_port(self.request.url)

        method = property(attrgetter("request.method"))
        full_url = property(attrgetter("request.url"))


def _resend_count(response: Any) -> int:
    retries = getattr(getattr(response, "raw", None), "retries", None)  # there is none without urllib3
    history = getattr(retries, "history", None)
    return len(history) if isinstance(history, tuple) else 0


patcher: RequestsPatcher
set_patcher: Callable[[Patcher], None]
install_patches: Callable[[], None]
reset_patches: Callable[[], None]

RequestsPatcher.configure_hook_module(globals())
