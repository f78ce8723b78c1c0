"""Tornado's HTTP clients: one client span for each request, of the simple client and of the one on libcurl.

``fetch_impl`` is what ``fetch`` calls, on clients from before patching and in subclasses, too. The simple client calls
``fetch`` again for each hop of a redirect: each hop is a span then, which lasts until the last response. libcurl
follows redirects by itself: all hops are one span then. That a fetch is cancelled is told to nobody but the future that
its caller holds; the future is found in the callback that fills it.

``_handle_request`` and ``_curl_setup_request`` begin a request when its turn has come. One that had to wait, because
``max_clients`` others were on their way, is begun by the end of one of these, in the context of that one's caller. They
are patched to begin it in the context of its own caller, so that its redirects and callbacks find the right parent.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Generator, Iterable, Mapping
from contextvars import Context, copy_context
from copy import copy
from time import monotonic
from typing import Any, ClassVar, cast
from weakref import WeakKeyDictionary

from opentracing import Span, logs
from opentracing.ext import tags as standard

from .._core.calls import FlowDescription, instrument
from .._core.patching import AttributePatch, Patch, Patcher, trace
from .._core.safety import report
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

#: How long a request waited for others to end, in seconds.
QUEUE_TIME = "http.queue_time"


class TornadoPatcher(Patcher):
    """Traces Tornado's HTTP clients."""

    library: ClassVar[str | None] = "tornado"
    supports = ">=6.1"
    spans, settings = REQUEST_SPANS, REQUEST_SETTINGS
    tags: ClassVar[Mapping[str, str]] = {
        **REQUEST_TAGS,
        standard.HTTP_STATUS_CODE: "the response's status, as text; `599` if there was no response",
        QUEUE_TIME: "how many seconds the request waited, if it had to because of `max_clients`",
    }

    @trace("tornado.simple_httpclient:SimpleAsyncHTTPClient.fetch_impl", callback="callback")
    def simple_fetch(self, client: Any, request: Any, callback: Any) -> Generator[_Fetch, Any, None]:
        yield from _describe(request, callback, must_wait=len(client.active) >= client.max_clients)

    @trace("tornado.curl_httpclient:CurlAsyncHTTPClient.fetch_impl", callback="callback")
    def curl_fetch(self, client: Any, request: Any, callback: Any) -> Generator[_Fetch, Any, None]:
        if _is_proxy(request):
            _bind_callbacks(request)
        yield from _describe(request, callback, must_wait=not client._free_list)

    def patches(self) -> Iterable[Patch]:
        yield from super().patches()
        yield BeginPatch("tornado.simple_httpclient:SimpleAsyncHTTPClient._handle_request")
        yield BeginPatch("tornado.curl_httpclient:CurlAsyncHTTPClient._curl_setup_request")


def _describe(request: Any, callback: Any, must_wait: bool = False) -> Generator[_Fetch, Any, None]:
    """Describe a call of a ``fetch_impl``; resumed with the response."""
    own = _OwnRequest(request)
    span = before_http_request(TornadoRequestWrapper(request), current_span)
    own.note_headers()
    fetch = _Fetch(span, callback)
    if must_wait:
        fetch.wait(request)
    response = None
    try:
        response = yield fetch
    finally:
        own.give_back(response)
    if fetch.is_over:
        return
    fetch.stop_waiting()
    code, error = getattr(response, "code", None), getattr(response, "error", None)
    if code:
        span.set_tag(standard.HTTP_STATUS_CODE, str(code))
    if error:
        span.set_tag(standard.ERROR, True)
        span.log_kv({logs.EVENT: standard.ERROR, "payload": without_secrets(str(error))})


class _OwnRequest:
    """A copy in place of the user's request, for our headers: the user may fetch theirs again meanwhile.

    In the end theirs is as Tornado leaves it: the response's, and with the headers that Tornado has added.
    """

    def __init__(self, request: Any) -> None:
        self._theirs = theirs = request.request if _is_proxy(request) else request
        self._headers = headers = theirs.headers
        self._own = request
        if theirs is not request:
            self._own = request.request = copy(theirs)
        self._own.headers = _copied(headers)

    def note_headers(self) -> None:
        """All headers of now are the user's or ours."""
        self._known = set(self._own.headers)

    def give_back(self, response: Any) -> None:
        """Let the user have their request back, in the response too if there is one."""
        own, theirs = self._own, self._theirs
        for name, value in own.headers.items():
            if name not in self._known:
                self._headers[name] = value
        if own is theirs:
            theirs.headers = self._headers
        elif getattr(response, "request", None) is own:
            response.request = theirs


def _copied(headers: Any) -> Any:
    """Return a copy of headers, which are Tornado's or a dict, without Tornado's look at whether they are valid."""
    if isinstance(headers, dict):
        return headers.copy()
    copied = type(headers)()
    for name, value in headers.get_all():
        if name in copied:
            copied.add(name, value)
        else:
            copied[name] = value
    return copied


def _is_proxy(request: Any) -> bool:
    """Tell whether it is what Tornado makes of the user's request for one call; or the user's, in a call of theirs."""
    return "request" in vars(request)


class _Fetch:
    """Stands for the span of a fetch, which ends with the response, or as soon as the fetch is cancelled."""

    def __init__(self, span: Span, callback: Any) -> None:
        self.is_over = False
        self._span = span
        self._waits_since: float | None = None
        self._future = _future_of(callback)
        if self._future is not None:
            self._future.add_done_callback(self._done)

    def wait(self, request: Any) -> None:
        """Be told by :class:`BeginPatch` when the turn of the request has come."""
        self._waits_since = monotonic()
        self._context = copy_context()
        _waiting[request] = self

    def begin(self, start: Callable[[], Any]) -> Any:
        """Begin the request: its turn has come."""
        try:
            self.stop_waiting()
        except Exception as error:
            report("the queue time of a fetch", error)
        return self._context.run(start)

    def stop_waiting(self) -> None:
        """Tag how long the request has waited, if it has been waiting until now."""
        since, self._waits_since = self._waits_since, None
        if since is not None and not self.is_over:
            self._span.set_tag(QUEUE_TIME, monotonic() - since)

    def finish(self) -> None:
        if self._is_first_end():
            self._span.finish()

    def __exit__(self, *raised: Any) -> None:
        if self._is_first_end():
            self._span.__exit__(*raised)

    def _is_first_end(self) -> bool:
        if self._future is not None:
            self._future.remove_done_callback(self._done)
        was_over, self.is_over = self.is_over, True
        return not was_over

    def _done(self, future: asyncio.Future[Any]) -> None:
        if not future.cancelled():
            return
        try:
            self.stop_waiting()
            self.__exit__(asyncio.CancelledError, asyncio.CancelledError(), None)
        except Exception as error:
            report("the end of a cancelled fetch", error)


#: The fetches whose requests wait for their turn.
_waiting: WeakKeyDictionary[Any, _Fetch] = WeakKeyDictionary()


class BeginPatch(AttributePatch):
    """Lets a request that had to wait begin in the context of its own caller, and its span know how long it waited."""

    effect = "runs in the context of its caller"

    def replacement_for(self, original: Callable[..., Any]) -> Callable[..., Any]:
        switch, position = self.switch, [*inspect.signature(original).parameters].index("request")

        @functools.wraps(original)
        def begin(*args: Any, **kwargs: Any) -> Any:
            if not _waiting or not switch.active:
                return original(*args, **kwargs)
            fetch = _waiting.pop(args[position] if len(args) > position else kwargs.get("request"), None)
            if fetch is None:
                return original(*args, **kwargs)
            return fetch.begin(functools.partial(original, *args, **kwargs))

        return begin


def _future_of(callback: Any) -> asyncio.Future[Any] | None:
    """Return the future that ``fetch`` gives to its caller: the one that its callback fills."""
    for cell in getattr(callback, "__closure__", None) or ():
        try:
            content = cell.cell_contents
        except ValueError:  # it is empty
            continue
        if isinstance(content, asyncio.Future):
            return content
    return None


def _bind_callbacks(request: Any) -> None:
    """Have libcurl call back in the caller's context, not in that of whoever happens to wait for its sockets."""
    for name in "header_callback", "streaming_callback":
        callback = getattr(request, name)
        if callable(callback) and not inspect.iscoroutinefunction(callback):  # which Tornado refuses
            setattr(request, name, _bound(copy_context(), callback))


def _bound(context: Context, callback: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(callback)
    def bound(*args: Any) -> Any:
        return context.copy().run(callback, *args)

    return bound


class TornadoRequestWrapper(AbstractRequestWrapper):
    """A ``tornado.httpclient.HTTPRequest``."""

    def __init__(self, request: Any) -> None:
        self.request = request

    def add_header(self, key: str, value: str) -> None:
        self.request.headers[key] = value

    @property
    def _headers(self) -> Mapping[str, str]:
        from tornado.httputil import HTTPHeaders

        headers = self.request.headers
        return cast(Mapping[str, str], headers if isinstance(headers, HTTPHeaders) else HTTPHeaders(headers))

    @property
    def host_port(self) -> tuple[str | None, int | None]:
        return host_and_port(self.full_url)

    @property
    def method(self) -> str:
        return cast(str, self.request.method)

    @property
    def full_url(self) -> str:
        url = self.request.url
        return url.decode() if isinstance(url, bytes) else cast(str, url)


def traced_fetch_impl(real_fetch_impl: Callable[..., Any]) -> Callable[..., Any]:
    """Return a ``fetch_impl`` that traces, for a client of one's own.

    Args:
        real_fetch_impl: called as ``real_fetch_impl(client, request, callback)``.
    """

    @functools.wraps(real_fetch_impl)
    def fetch_impl(self: Any, request: Any, callback: Any) -> Any:
        return real_fetch_impl(self, request, callback)

    def describe(_: Any, request: Any, callback: Any) -> Generator[_Fetch, Any, None]:
        yield from _describe(request, callback)

    return instrument(fetch_impl, FlowDescription(describe, "traced_fetch_impl", callback="callback"))


class TracedPatcherBuilder:
    """Deprecated: patches the clients. Call :func:`install_patches` instead."""

    def patch(self) -> None:
        """Trace the clients from now on."""
        globals()["patcher"].install_patches()


patcher: TornadoPatcher
set_patcher: Callable[[Patcher], None]
install_patches: Any
reset_patches: Callable[[], None]

TornadoPatcher.configure_hook_module(globals(), run_once=singleton)

#: The older name of ``reset_patches``.
reset_patchers: Callable[[], None] = globals()["reset_patches"]
