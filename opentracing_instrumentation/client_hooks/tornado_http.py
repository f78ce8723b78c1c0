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
from itertools import islice
from operator import attrgetter
from time import monotonic
from typing import Any, ClassVar, cast
from weakref import WeakKeyDictionary

from opentracing import logs
from opentracing.ext import tags as standard

from .._core.calls import FlowDescription, idle_http, instrument
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
    idle = staticmethod(idle_http)
    tags: ClassVar[Mapping[str, str]] = {
        **REQUEST_TAGS,
        standard.HTTP_STATUS_CODE: "the response's status, as text; `599` if there was no response",
        QUEUE_TIME: "how many seconds the request waited, if it had to because of `max_clients`",
    }

    @trace("tornado.simple_httpclient:SimpleAsyncHTTPClient.fetch_impl", callback="callback")
    def simple_fetch(self, client: Any, request: Any, callback: Any) -> Generator[_Fetch, Any, None]:
        fetch = _Fetch(request, callback, must_wait=len(client.active) >= client.max_clients)
        fetch.answer((yield fetch))

    @trace("tornado.curl_httpclient:CurlAsyncHTTPClient.fetch_impl", callback="callback")
    def curl_fetch(self, client: Any, request: Any, callback: Any) -> Generator[_Fetch, Any, None]:
        fetch = _Fetch(request, callback, must_wait=not client._free_list)
        fetch.bind_callbacks(request)
        fetch.answer((yield fetch))

    def patches(self) -> Iterable[Patch]:
        yield from super().patches()
        yield BeginPatch("tornado.simple_httpclient:SimpleAsyncHTTPClient._handle_request")
        yield BeginPatch("tornado.curl_httpclient:CurlAsyncHTTPClient._curl_setup_request")


class _Fetch:
    """Stands for the span of a fetch, which ends with the response, or as soon as the fetch is cancelled.

    A copy of the user's request goes to Tornado with our headers: the user may fetch theirs again meanwhile. In the end
    theirs is as Tornado leaves it: the response's, and with the headers that Tornado has added.
    """

    _is_over = False
    _waits_since: float | None = None

    def __init__(self, request: Any, callback: Any, must_wait: bool = False) -> None:
        self._is_direct = is_direct = "request" not in vars(request)  # no proxy of Tornado's, made for this one call
        self._theirs = theirs = request if is_direct else request.request
        self._ours = ours = _copied(theirs)
        self._their_headers = their_headers = theirs.headers
        self._headers = headers = ours.headers = _copied_headers(their_headers)
        self._span = before_http_request(TornadoRequestWrapper(ours), current_span)
        self._known_headers = len(headers)
        if is_direct:
            request.headers = headers
        else:
            request.request = ours
        self._future = future = _future_of(callback)
        if future is not None:
            future.add_done_callback(self._done)
        if must_wait:
            self._waits_since = monotonic()
            self._context = copy_context()
            _waiting[request] = self

    def bind_callbacks(self, request: Any) -> None:
        """Have libcurl call back in the caller's context, not in that of whoever happens to wait for its sockets."""
        for name in "header_callback", "streaming_callback":
            callback = getattr(request, name)  # maybe a default of the client
            if callable(callback) and not inspect.iscoroutinefunction(callback):  # which Tornado refuses
                setattr(self._ours, name, _bound(copy_context(), callback))

    def begin(self, start: Callable[[], Any]) -> Any:
        """Begin the request: its turn has come."""
        try:
            self._stop_waiting()
        except Exception as error:
            report("the queue time of a fetch", error)
        return self._context.run(start)

    def _stop_waiting(self) -> None:
        """Tag how long the request has waited, if it has been waiting until now."""
        since, self._waits_since = self._waits_since, None
        if since is not None and not self._is_over:
            self._span.set_tag(QUEUE_TIME, monotonic() - since)

    def answer(self, response: Any) -> None:
        """Tag the span with the outcome, and put the user's request into the response."""
        if getattr(response, "request", None) is self._ours:
            response.request = self._theirs
        if self._is_over:
            return
        if self._waits_since is not None:
            self._stop_waiting()
        code, error = getattr(response, "code", None), getattr(response, "error", None)
        if code:
            self._span.set_tag(standard.HTTP_STATUS_CODE, str(code))
        if error:
            self._span.set_tag(standard.ERROR, True)
            self._span.log_kv({logs.EVENT: standard.ERROR, "payload": without_secrets(str(error))})

    def finish(self) -> None:
        if self._end():
            self._span.finish()

    def __exit__(self, *raised: Any) -> None:
        if self._end():
            self._span.__exit__(*raised)

    def _end(self) -> bool:
        """Give the user's request back; tell whether the fetch ends only now."""
        headers = self._headers
        if len(headers) > self._known_headers:
            for name in islice(headers, self._known_headers, None):
                self._their_headers[name] = headers[name]
        if self._is_direct:
            self._theirs.headers = self._their_headers
        if self._future is not None:
            self._future.remove_done_callback(self._done)
        was_over, self._is_over = self._is_over, True
        return not was_over

    def _done(self, future: asyncio.Future[Any]) -> None:
        if not future.cancelled():
            return
        try:
            self._stop_waiting()
            if self._end():
                self._span.__exit__(asyncio.CancelledError, asyncio.CancelledError(), None)
        except Exception as error:
            report("the end of a cancelled fetch", error)


def _copied(request: Any) -> Any:
    """Return a shallow copy of a user's request, in a third of the time that ``copy.copy`` takes."""
    copied = object.__new__(type(request))
    copied.__dict__ = vars(request).copy()
    return copied


def _copied_headers(headers: Any) -> Any:
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


#: The fetches whose requests wait for their turn.
_waiting: WeakKeyDictionary[Any, _Fetch] = WeakKeyDictionary()


class BeginPatch(AttributePatch):
    """Lets a request that had to wait begin in the context of its own caller, and its span know how long it waited."""

    effect = "runs in the context of its caller"

    def replacement_for(self, original: Callable[..., Any]) -> Callable[..., Any]:
        switch, position = self.switch, [*inspect.signature(original).parameters].index("request")

        @functools.wraps(original)
        def begin(*args: Any, **kwargs: Any) -> Any:
            if not (_waiting and switch.active):
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


def _bound(context: Context, callback: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(callback)
    def bound(*args: Any) -> Any:
        return context.copy().run(callback, *args)

    return bound


class TornadoRequestWrapper(AbstractRequestWrapper):
    """A ``tornado.httpclient.HTTPRequest``."""

    def __init__(self, request: Any) -> None:
        self.request = request
        self._sent = request.headers  # behind a property
        url: str | bytes = request.url
        self._url = url.decode() if isinstance(url, bytes) else url

    def add_header(self, key: str, value: str) -> None:
        self._sent[key] = value

    @property
    def _headers(self) -> Mapping[str, str]:
        from tornado.httputil import HTTPHeaders

        return cast(Mapping[str, str], self._sent if isinstance(self._sent, HTTPHeaders) else HTTPHeaders(self._sent))

    @property
    def host_port(self) -> tuple[str | None, int | None]:
        return host_and_port(self._url)

    method = property(attrgetter("request.method"))
    full_url = property(attrgetter("_url"))


def traced_fetch_impl(real_fetch_impl: Callable[..., Any]) -> Callable[..., Any]:
    """Return a ``fetch_impl`` that traces, for a client of one's own.

    Args:
        real_fetch_impl: called as ``real_fetch_impl(client, request, callback)``.
    """

    @functools.wraps(real_fetch_impl)
    def fetch_impl(self: Any, request: Any, callback: Any) -> Any:
        return real_fetch_impl(self, request, callback)

    def describe(_: Any, request: Any, callback: Any) -> Generator[_Fetch, Any, None]:
        fetch = _Fetch(request, callback)
        fetch.answer((yield fetch))

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
