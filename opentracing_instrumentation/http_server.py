"""Opening the span of an incoming HTTP request, said once for all kinds of servers."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import opentracing
from opentracing import Format, Span, Tracer
from opentracing.ext import tags as standard

from ._core.calls import idle
from ._core.safety import report
from ._core.tags import peer_host_tag, redact_url
from .config import CONFIG

__all__ = ["AbstractRequestWrapper", "TornadoRequestWrapper", "WSGIRequestWrapper", "before_request"]


def before_request(request: AbstractRequestWrapper, tracer: Tracer | None = None) -> Span:
    """Begin the span of an incoming request, which continues the caller's trace if its headers hold one.

    Args:
        request: the request.
        tracer: the tracer; ``opentracing.tracer`` if ``None``.

    Returns:
        the span, neither current nor finished: see :func:`opentracing_instrumentation.span_in_context`.

    Headers that can't be read begin a new trace; that is logged.
    """
    if tracer is None:
        tracer = opentracing.tracer
        if idle():
            return tracer.start_span()
    try:
        names = getattr(tracer, "header_names", None)  # of the only headers that it reads, as OpenTelemetry's tells
        headers = request._selected(names) if type(names) is tuple else request.headers
        carrier = headers if type(headers) is dict else dict(headers.items())
        parent = tracer.extract(format=Format.HTTP_HEADERS, carrier=carrier)
    except Exception:
        logging.exception("trace extract failed: a new trace begins")
        parent = None
    records = getattr(tracer, "records", None)  # OpenTelemetry's tells: it does not without an SDK
    tags = None if records is False else _request_tags(request, is_url_late=records is True)
    return tracer.start_span(operation_name=request.operation, child_of=parent, tags=tags)


class _LateUrl:
    """The URL of a request as a tag for OpenTelemetry, which asks for its text unless the span is sampled out."""

    __slots__ = ("_request",)

    def __init__(self, request: AbstractRequestWrapper) -> None:
        self._request = request

    def __str__(self) -> str:
        try:
            return _tagged_url(self._request)
        except Exception as error:
            report(f"the URL of {type(self._request).__qualname__}", error)
            return "[unknown]"


def _tagged_url(request: AbstractRequestWrapper) -> str:
    return redact_url(request.full_url, CONFIG.secret_query_parameters)


def _request_tags(request: AbstractRequestWrapper, is_url_late: bool) -> dict[str, Any]:
    try:
        tags = {
            standard.SPAN_KIND: standard.SPAN_KIND_RPC_SERVER,
            standard.HTTP_URL: _LateUrl(request) if is_url_late else _tagged_url(request),
            standard.HTTP_METHOD: request.method,
        }
        remote_ip = request.remote_ip
        if remote_ip:
            tags[standard.PEER_HOST_IPV4 if CONFIG.legacy_peer_tags else peer_host_tag(remote_ip)] = remote_ip
        caller = request.caller_name
        if caller:
            tags[standard.PEER_SERVICE] = caller
        remote_port = request.remote_port
        if remote_port:
            tags[standard.PEER_PORT] = remote_port
        return tags
    except Exception as error:
        report(f"the tags of {type(request).__qualname__}", error)
        return {standard.SPAN_KIND: standard.SPAN_KIND_RPC_SERVER}


#: Tells of a path, a lot faster than :func:`quote`, that there is nothing to quote.
_UNRESERVED = re.compile(r"[A-Za-z0-9/_.~-]*").fullmatch


class AbstractRequestWrapper:
    """An incoming request, in the terms that :func:`before_request` needs."""

    @property
    def caller_name(self) -> str | None:
        """Name of the calling service, by the first header of ``CONFIG.caller_name_headers`` that is present."""
        for name in CONFIG.caller_name_headers:
            caller = self.headers.get(name.lower())
            if caller is not None:
                return caller
        return None

    @property
    def full_url(self) -> str:
        """The URL of the request; credentials in it are removed before it is tagged."""
        raise NotImplementedError

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; names are looked up in lower case."""
        raise NotImplementedError

    def _selected(self, names: tuple[str, ...]) -> Mapping[str, str]:
        """Return the headers, of which those of these names (in lower case) will do."""
        return self.headers

    @property
    def method(self) -> str:
        """The HTTP method."""
        raise NotImplementedError

    @property
    def remote_ip(self) -> str | None:
        """Address of the client."""
        raise NotImplementedError

    @property
    def remote_port(self) -> str | int | None:
        """Port of the client, in whatever type the server gives it; ``None`` if unknown."""
        return None

    @property
    def server_port(self) -> str | int | None:
        """Port of the server, likewise."""
        return None

    @property
    def operation(self) -> str:
        """Name of the span."""
        return self.method


class TornadoRequestWrapper(AbstractRequestWrapper):
    """A ``tornado.httputil.HTTPServerRequest``."""

    def __init__(self, request: Any) -> None:
        self.request = request

    @property
    def full_url(self) -> str:
        return self.request.full_url()  # type: ignore[no-any-return]

    @property
    def headers(self) -> Mapping[str, str]:
        return self.request.headers  # type: ignore[no-any-return]

    def _selected(self, names: tuple[str, ...]) -> Mapping[str, str]:
        headers = self.headers
        return {name: value for name in names if (value := headers.get(name)) is not None}

    @property
    def method(self) -> str:
        return self.request.method  # type: ignore[no-any-return]

    @property
    def remote_ip(self) -> str | None:
        return self.request.remote_ip  # type: ignore[no-any-return]


class WSGIRequestWrapper(AbstractRequestWrapper):
    """A WSGI environment (PEP 3333)."""

    def __init__(self, wsgi_environ: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        """Wrap an environment.

        Args:
            wsgi_environ: the environment.
            headers: the headers, by names in lower case; ``None`` takes them from the ``HTTP_*`` variables when asked.
        """
        self.wsgi_environ = wsgi_environ
        self._headers = headers

    @classmethod
    def from_wsgi_environ(cls, wsgi_environ: Mapping[str, Any]) -> WSGIRequestWrapper:
        """Take the headers from the ``HTTP_*`` variables: names in lower case, with dashes."""
        return cls(wsgi_environ, None)

    @property
    def full_url(self) -> str:
        """The URL, put together as PEP 3333 ("URL Reconstruction") says, without a default port."""
        environ = self.wsgi_environ
        scheme = environ["wsgi.url_scheme"]
        url = f"{scheme}://{environ.get('HTTP_HOST') or self._server(scheme)}"
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        url += path if _UNRESERVED(path) else _quoted(path)
        query = environ.get("QUERY_STRING")
        return f"{url}?{query}" if query else url

    def _server(self, scheme: str) -> str:
        name, port = self.wsgi_environ["SERVER_NAME"], str(self.wsgi_environ["SERVER_PORT"])
        return str(name) if port == ("443" if scheme == "https" else "80") else f"{name}:{port}"

    @property
    def headers(self) -> Mapping[str, str]:
        if self._headers is None:
            environ = self.wsgi_environ
            self._headers = {name: environ[variable] for name, variable in _header_variables(tuple(environ)).items()}
        return self._headers

    def _selected(self, names: tuple[str, ...]) -> Mapping[str, str]:
        if self._headers is not None or type(self).headers is not WSGIRequestWrapper.headers:
            return self.headers
        environ = self.wsgi_environ
        return {name: environ[variable] for name, variable in _variables_of(names) if variable in environ}

    @property
    def method(self) -> str:
        return self.wsgi_environ["REQUEST_METHOD"]  # type: ignore[no-any-return]

    @property
    def remote_ip(self) -> str | None:
        return self.wsgi_environ.get("REMOTE_ADDR")

    @property
    def remote_port(self) -> str | int | None:
        return self.wsgi_environ.get("REMOTE_PORT")

    @property
    def server_port(self) -> str | int | None:
        return self.wsgi_environ.get("SERVER_PORT")


@lru_cache(maxsize=16)
def _variables_of(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return each header's name with its variable."""
    return tuple((name, f"HTTP_{name.upper().replace('-', '_')}") for name in names)


@lru_cache(maxsize=256)
def _header_variables(variables: tuple[str, ...]) -> dict[str, str]:
    """Return those variables that hold headers, by the names of these. Of most requests the variables are the same."""
    return {variable[5:].replace("_", "-").lower(): variable for variable in variables if variable.startswith("HTTP_")}


def _quoted(path: str) -> str:
    """Quote a path of a WSGI environment, whose characters are bytes (PEP 3333, "Unicode Issues")."""
    return quote(path if path.isascii() else path.encode("latin-1", "replace"))
