"""``urllib.request``: one client span for each HTTP request, each hop of a redirect included.

``http_open`` and ``https_open`` are what every opener calls, also ``build_opener().open``, a custom opener, and
``urlopen`` with a context of its own; nobody's global opener is touched. Handlers that bring connections of their own
(for proxies, say) override them and call ``do_open``, which is therefore traced too, unless it runs inside the others.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextvars import ContextVar
from operator import attrgetter
from typing import Any, ClassVar, cast
from wsgiref.headers import Headers

from opentracing import Span
from opentracing.ext import tags as standard

from .._core.calls import idle_http
from .._core.patching import CallPatch, Patch, Patcher, trace
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
from ._singleton import singleton

#: Whether the request that is being sent has its span already.
_traced: ContextVar[bool] = ContextVar("opentracing_instrumentation.urllib2", default=False)


class UrllibPatcher(Patcher):
    """Traces ``urllib.request``."""

    library: ClassVar[str | None] = "urllib"
    supports = "part of Python"
    spans, tags, settings = REQUEST_SPANS, REQUEST_TAGS, REQUEST_SETTINGS
    idle = staticmethod(idle_http)

    @staticmethod
    def message_of(error: BaseException) -> str:
        """Return an error's message without the secrets of the URL."""
        return without_secrets(str(error))

    def patches(self) -> Iterable[Patch]:
        """Return the patches of this hook."""
        yield from super().patches()
        yield CallPatch(
            "urllib.request:AbstractHTTPHandler.do_open",
            self.send,
            idle=lambda: _traced.get() or self.idle(),
            message_of=self.message_of,
        )

    @trace("urllib.request:HTTPHandler.http_open", "urllib.request:HTTPSHandler.https_open")
    def send(self, handler: Any, req: Any) -> Generator[Span, Any, None]:
        span = before_http_request(RequestWrapper(req), current_span)
        token = _traced.set(True)
        try:
            response = yield span
        finally:
            _traced.reset(token)
        status = getattr(response, "code", None)
        if status is not None:
            span.set_tag(standard.HTTP_STATUS_CODE, status)


class RequestWrapper(AbstractRequestWrapper):
    """A ``urllib.request.Request``."""

    def __init__(self, request: Any) -> None:
        self.request = request

    def add_header(self, key: str, value: str) -> None:
        self.request.add_header(key, value)

    @property
    def _headers(self) -> Mapping[str, str]:
        return cast(Mapping[str, str], Headers(list(self.request.header_items())))

    @property
    def host_port(self) -> tuple[str | None, int | None]:
        return host_and_port(self.full_url)

    @property
    def method(self) -> str:
        return self.request.get_method()  # type: ignore[no-any-return]

    full_url = property(attrgetter("request.full_url"))


patcher: UrllibPatcher
set_patcher: Callable[[Patcher], None]
install_patches: Any
reset_patches: Callable[[], None]

UrllibPatcher.configure_hook_module(globals(), run_once=singleton)
