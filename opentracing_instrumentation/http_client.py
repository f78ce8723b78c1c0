"""What an outgoing HTTP request means, said once for all HTTP client hooks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import opentracing
from opentracing import Format, Span, UnsupportedFormatException
from opentracing.ext import tags as standard

from ._core.safety import report
from ._core.tags import PEER_HOST_IPV6, redact_url
from .config import CONFIG
from .interceptors import ClientInterceptors
from .utils import peer_tags

__all__ = [
    "HOST_PORT_RE",
    "AbstractRequestWrapper",
    "ClientInterceptors",
    "before_http_request",
    "host_and_port",
    "split_host_and_port",
    "without_secrets",
]

#: The tags of an outgoing request, and what they mean.
REQUEST_TAGS: Mapping[str, str] = {
    standard.SPAN_KIND: "`client`",
    standard.HTTP_METHOD: "the method",
    standard.HTTP_URL: "the URL, without user name, password, and the values of secret query parameters",
    standard.HTTP_STATUS_CODE: "the response's status",
    standard.PEER_SERVICE: "the called service, by the first of `CONFIG.callee_name_headers` that the request has",
    standard.PEER_HOST_IPV4: "the server's host, if it is an IPv4 address",
    PEER_HOST_IPV6: "if it is an IPv6 address",
    standard.PEER_HOSTNAME: "if it is a name",
    standard.PEER_PORT: "the server's port",
}
#: The settings that they heed.
REQUEST_SETTINGS = ("callee_name_headers", "callee_endpoint_headers", "secret_query_parameters", "legacy_peer_tags")
#: How their spans are named.
REQUEST_SPANS = (
    "the method, as in `GET`; `GET:endpoint` where one of `CONFIG.callee_endpoint_headers` names an endpoint"
)

#: A host, an IPv6 address in brackets included, and its port.
HOST_PORT_RE = re.compile(r"^(\[[^\]]*\]|[^:]*):(\d+)$")


def before_http_request(request: AbstractRequestWrapper, current_span_extractor: Callable[[], Any]) -> Span:
    """Begin the span of an outgoing request, show both to the interceptors and inject the span's context.

    Args:
        request: the request; its ``add_header`` gets the injected headers.
        current_span_extractor: returns the parent span, or ``None``.

    Returns:
        the span, which the caller finishes.

    What interceptors or the tracer's ``inject`` raise is logged once; the request goes on without. Below a span of
    OpenTelemetry's that is sampled out, the request is asked for nothing: it takes the context along, and that is all.
    """
    parent = current_span_extractor()
    is_dropped = getattr(parent, "is_dropped", False) is True  # an OpenTelemetry span's: nobody will look at its child
    span = opentracing.tracer.start_span(
        operation_name="" if is_dropped else request.operation,
        child_of=None if parent is None else parent.context,
        tags=_DROPPED_TAGS.copy() if is_dropped else _request_tags(request),
    )
    for interceptor in ClientInterceptors.get_interceptors():
        try:
            interceptor.process(request=request, span=span)
        except Exception as error:
            report(f"interceptor {type(interceptor).__qualname__}", error)
    _inject(request, span)
    return span


_DROPPED_TAGS = {standard.SPAN_KIND: standard.SPAN_KIND_RPC_CLIENT}


def _request_tags(request: AbstractRequestWrapper) -> dict[str, Any]:
    tags = _common_tags(*request.host_port, CONFIG.legacy_peer_tags).copy()
    tags[standard.HTTP_URL] = redact_url(request.full_url, CONFIG.secret_query_parameters)
    try:
        tags[standard.HTTP_METHOD] = request.method
    except NotImplementedError:  # a wrapper that names its operation in another way
        pass
    service = request.service_name
    if service:
        tags[standard.PEER_SERVICE] = service
    return tags


@lru_cache(maxsize=1024)
def _common_tags(host: str | None, port: int | str | None, _legacy_peer_tags: bool) -> dict[str, Any]:
    """Return the tags that all requests to a peer have. The dict is shared: copy it, don't change it."""
    return {standard.SPAN_KIND: standard.SPAN_KIND_RPC_CLIENT, **peer_tags(host, int(port) if port else None)}


def _inject(request: AbstractRequestWrapper, span: Span) -> None:
    headers: dict[str, str] = {}
    try:
        opentracing.tracer.inject(span_context=span.context, format=Format.HTTP_HEADERS, carrier=headers)
        for name, value in headers.items():
            request.add_header(name, value)
    except UnsupportedFormatException:  # a tracer may well have no way to travel
        pass
    except Exception as error:
        report("injecting the span context into an HTTP request", error)


_URLS_OF_MESSAGE = re.compile(r"\S*[?@#;]\S+")


def without_secrets(message: str) -> str:
    """Return an error's message without the secrets of the URLs that it repeats."""
    return _URLS_OF_MESSAGE.sub(lambda url: redact_url(url.group(), CONFIG.secret_query_parameters), message)


class AbstractRequestWrapper:
    """An outgoing request, in the terms that :func:`before_http_request` needs. Hooks derive theirs from it."""

    def add_header(self, key: str, value: str) -> None:
        """Set a header of the request."""

    @property
    def _headers(self) -> Mapping[str, str]:
        return {}

    @property
    def host_port(self) -> tuple[str | None, int | None]:
        """Host and port of the peer, each ``None`` if unknown."""
        return None, None

    @property
    def service_name(self) -> str | None:
        """Name of the called service, by the first header of ``CONFIG.callee_name_headers`` that is present."""
        names = CONFIG.callee_name_headers
        return self._first_header(names) if names else None

    @property
    def operation(self) -> str:
        """Name of the span: the method, with the endpoint that a header of ``CONFIG.callee_endpoint_headers`` names."""
        names = CONFIG.callee_endpoint_headers
        endpoint = self._first_header(names) if names else None
        return self.method if endpoint is None else f"{self.method}:{endpoint}"

    def _first_header(self, names: list[str]) -> str | None:
        headers = self._headers
        return next((headers[name] for name in names if headers.get(name) is not None), None)

    @property
    def method(self) -> str:
        """The HTTP method."""
        raise NotImplementedError

    @property
    def full_url(self) -> str:
        """The URL of the request; credentials in it are removed before it is tagged."""
        raise NotImplementedError


def split_host_and_port(host_string: str, scheme: str = "http") -> tuple[str, int]:
    """Split ``"host:port"``.

    Args:
        host_string: host, with or without a port.
        scheme: says which port goes without saying: 443 for ``https``, else 80.

    Returns:
        host and port; the host of an IPv6 address keeps its brackets.
    """
    match = HOST_PORT_RE.match(host_string)
    if match:
        return match.group(1), int(match.group(2))
    return host_string, 443 if scheme == "https" else 80


def host_and_port(url: str) -> tuple[str | None, int | None]:
    """Return host and port of an ``http`` or ``https`` URL, the scheme's port where it names none.

    They are ``None`` in a URL that is malformed: whoever is to send the request will say so.
    """
    end = url.find("/", 8)  # behind the scheme
    origin = url if end < 0 else url[:end]
    if "@" in origin or "?" in origin or "#" in origin:  # credentials are not remembered, nor anything of a query
        return _host_and_port(url)
    return _host_and_port_of_origin(origin)


def _host_and_port(url: str) -> tuple[str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return None, None


#: Remembers peers, of which there are fewer than URLs.
_host_and_port_of_origin = lru_cache(maxsize=1024)(_host_and_port)
