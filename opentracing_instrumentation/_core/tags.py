"""Names of tags that OpenTracing's own list lacks, and how the values of sensitive tags are made.

The standard names are those of ``opentracing.ext.tags`` (OpenTracing semantic conventions, "Standard Span tags").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import unquote, unquote_plus

from opentracing.ext import tags as standard

#: The tag for a peer's IPv6 address (OpenTracing semantic conventions).
PEER_HOST_IPV6 = "peer.ipv6"
#: How often a request was sent again before the response that was used (retries below the traced call).
HTTP_RESEND_COUNT = "http.resend_count"

#: What stands in place of a secret.
REDACTED = "[redacted]"

_USER_INFO = re.compile(r"(?<=//)[^/?#]*@")


@lru_cache(maxsize=1024)
def peer_host_tag(host: str) -> str:
    """Return the tag that a peer's host belongs in: ``peer.ipv4``, ``peer.ipv6`` or ``peer.hostname``."""
    try:
        version = ip_address(host.strip("[]").partition("%")[0]).version
    except ValueError:
        return str(standard.PEER_HOSTNAME)
    return str(standard.PEER_HOST_IPV4) if version == 4 else PEER_HOST_IPV6


def redact_url(url: str, secret_parameters: Sequence[str]) -> str:
    """Return ``url`` without user-info and without the values of secret parameters.

    Args:
        url: an absolute URL, as it is to be tagged. Anything else comes back as it is.
        secret_parameters: patterns of parameter names as in :mod:`fnmatch`, in any case.

    Parameters are those of the query, of a path (``;jsessionid=``) and of a fragment that looks like a query (as in
    OAuth's implicit flow). A value that is itself a URL with something to remove is removed as a whole.
    """
    if "@" in url:
        url = _USER_INFO.sub("", url)
    return redact_query(url, secret_parameters)


def redact_query(url: str, secret_parameters: Sequence[str]) -> str:
    """Return ``url`` without the values of secret parameters; see :func:`redact_url`."""
    if "=" not in url:
        return url
    is_secret = _recognizer(secret_parameters)
    if not any(map(is_secret, _NAMES.findall(url))) and not ("%" in url and _NESTED.search(url)):
        return url

    def redact(part: str) -> str:
        name, _, value = part.partition("=")
        secret = value and (is_secret(name) or _holds_secret(value, secret_parameters))
        return f"{name}={REDACTED}" if secret else part

    parts: list[str] = _PARTS.findall(url)
    return parts[0] + "".join(map(redact, parts[1:]))


def _holds_secret(value: str, secret_parameters: Sequence[str]) -> bool:
    if not _NESTED.search(value):
        return False
    nested = unquote(value)
    return redact_url(nested, secret_parameters) != nested


_NAMES = re.compile(r"[&;#?]([^&;#?=]*)=")
_PARTS = re.compile(r"[^&;#?]+|[&;#?]")
#: A URL in a parameter, as a "=" or "@" of it tells: quoted once or, by a chain of redirects, again and again.
_NESTED = re.compile(r"%(?:25){0,3}(?:3d|40)", re.IGNORECASE)


def is_secret_name(name: str, patterns: tuple[str, ...]) -> bool:
    """Tell whether a parameter of this name holds a secret by one of the ``patterns`` (:mod:`fnmatch`, any case)."""
    return _recognizer_of(patterns)(name)


# Nearly always the patterns are those of the last time; to compare them costs less than to look them up.
_latest: tuple[Sequence[str], Callable[[str], bool]] = ((), lambda _: False)


def _recognizer(patterns: Sequence[str]) -> Callable[[str], bool]:
    global _latest  # noqa: PLW0603 - replaced as a whole, by any thread
    known, recognizer = _latest
    if known != patterns:
        recognizer = _recognizer_of(tuple(patterns))
        _latest = (patterns[:], recognizer)
    return recognizer


@lru_cache(maxsize=16)
def _recognizer_of(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    lower = [pattern.lower() for pattern in patterns]

    @lru_cache(maxsize=1024)
    def is_secret(name: str) -> bool:
        name = unquote_plus(name).strip().lower()
        return any(fnmatchcase(name, pattern) for pattern in lower)

    return is_secret
