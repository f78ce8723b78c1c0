"""Names of tags that OpenTracing's own list lacks, and how the values of sensitive tags are made.

The standard names are those of ``opentracing.ext.tags`` (OpenTracing semantic conventions, "Standard Span tags").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import ip_address

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
    """Return ``url`` without user-info and without the values of secret query parameters.

    Args:
        url: an absolute URL, as it is to be tagged. Anything else comes back as it is.
        secret_parameters: patterns of parameter names as in :mod:`fnmatch`, in lower case.

    A fragment that looks like a query (as in OAuth's implicit flow) is treated like one.
    """
    if "@" in url:
        url = _USER_INFO.sub("", url, count=1)
    return redact_query(url, secret_parameters)


def redact_query(url: str, secret_parameters: Sequence[str]) -> str:
    """Return ``url`` without the values of secret query parameters; see :func:`redact_url`."""
    if "=" not in url:
        return url
    is_secret = _recognizer(secret_parameters)
    if not any(map(is_secret, _NAMES.findall(url))):
        return url
    start = url.find("?")
    if start < 0 and (start := url.find("#")) < 0:
        return url

    def redact(part: str) -> str:
        name, _, value = part.partition("=")
        return f"{name}={REDACTED}" if value and is_secret(name) else part

    return url[: start + 1] + "".join(map(redact, _PARTS.findall(url[start + 1 :])))


_NAMES = re.compile(r"[&;#?]([^&;#?=]*)=")
_PARTS = re.compile(r"[^&;#?]+|[&;#?]")


def is_secret_name(name: str, patterns: tuple[str, ...]) -> bool:
    """Tell whether a parameter of this name holds a secret by one of the ``patterns`` (lower case, :mod:`fnmatch`)."""
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
    @lru_cache(maxsize=1024)
    def is_secret(name: str) -> bool:
        name = name.lower().replace("%5f", "_").replace("%2d", "-")
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    return is_secret
