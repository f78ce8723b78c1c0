"""Tags of peers, and the values from which secrets are removed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentracing_instrumentation._core.tags import REDACTED, is_secret_name, peer_host_tag, redact_query, redact_url
from opentracing_instrumentation.config import SETTINGS

SECRET = ("*password*", "*token*", "sig", "api_key")


@pytest.mark.parametrize(
    ("host", "tag"),
    [
        ("127.0.0.1", "peer.ipv4"),
        ("::1", "peer.ipv6"),
        ("[::1]", "peer.ipv6"),
        ("fe80::1%eth0", "peer.ipv6"),
        ("localhost", "peer.hostname"),
        ("db.example.org", "peer.hostname"),
        ("1.2.3", "peer.hostname"),
        ("256.1.1.1", "peer.hostname"),
        ("", "peer.hostname"),
        ("/var/run/socket", "peer.hostname"),
    ],
)
def test_a_host_belongs_in_the_tag_of_its_kind(host: str, tag: str) -> None:
    """Addresses by their version, anything else as a name (OpenTracing semantic conventions)."""
    assert peer_host_tag(host) == tag


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("http://h/p", "http://h/p"),
        ("http://h/p?", "http://h/p?"),
        ("http://h/p?a", "http://h/p?a"),
        ("http://h/p?a=1&b=2", "http://h/p?a=1&b=2"),
        ("http://u:p@h/p", "http://h/p"),
        ("http://u:p@ss@h:1/p", "http://h:1/p"),
        ("http://u@h", "http://h"),
        ("http://h/p?mail=a@b.c", "http://h/p?mail=a@b.c"),
        ("http://h/@p", "http://h/@p"),
        ("http://h/p?token=x", f"http://h/p?token={REDACTED}"),
        ("http://h/p?a=1&access_token=x&b=2", f"http://h/p?a=1&access_token={REDACTED}&b=2"),
        ("http://h/p?a=1;PASSWORD=x;b=2", f"http://h/p?a=1;PASSWORD={REDACTED};b=2"),
        ("http://h/p?sig=a=b==", f"http://h/p?sig={REDACTED}"),
        ("http://h/p?sig=", "http://h/p?sig="),
        ("http://h/p?design=x", "http://h/p?design=x"),
        ("http://h/p?api%5Fkey=x", f"http://h/p?api%5Fkey={REDACTED}"),
        ("http://h/p#token=x&a=1", f"http://h/p#token={REDACTED}&a=1"),
        ("http://h/p?a=1#token=x", f"http://h/p?a=1#token={REDACTED}"),
        ("http://h/p?a=1?token=x", f"http://h/p?a=1?token={REDACTED}"),
        ("no url", "no url"),
        ("", ""),
    ],
)
def test_a_url_loses_user_info_and_secret_values(url: str, redacted: str) -> None:
    """And nothing else."""
    assert redact_url(url, SECRET) == redacted


@pytest.mark.parametrize(
    "name",
    [
        *("password", "user_password", "passwd", "pwd", "secret", "client_secret", "access_token", "apikey", "api_key"),
        *("X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "sig", "Authorization", "jwt", "sessionid"),
    ],
)
def test_the_default_patterns_know_the_usual_secrets(name: str) -> None:
    """In any case."""
    patterns = tuple(SETTINGS["secret_query_parameters"].default)
    assert is_secret_name(name, patterns)
    assert redact_query(f"?{name}=x", patterns) == f"?{name}={REDACTED}"


@settings(deadline=None)
@given(st.text(), st.text(alphabet="abc&;=#?@/:%x"), st.text(min_size=1, alphabet="xyz"))
def test_whatever_surrounds_a_secret_it_is_removed(before: str, after: str, secret: str) -> None:
    """Odd text never raises, nor hides the parameter."""
    url = f"http://host/{before}?token=SECRET{secret}&{after}"
    assert f"SECRET{secret}" not in redact_url(url, SECRET)
