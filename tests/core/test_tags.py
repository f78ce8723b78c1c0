"""Tags of peers, and the values from which secrets are removed."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
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
        ("http://h/p;jsessionid=x;a=1/q?b=2", "http://h/p;jsessionid=x;a=1/q?b=2"),
        ("http://h/p;token=x/q?b=2", f"http://h/p;token={REDACTED}?b=2"),
        ("http://h/p?%74oke%6E=x", f"http://h/p?%74oke%6E={REDACTED}"),
        ("http://h/p?+token=x", f"http://h/p?+token={REDACTED}"),
        ("http://u:p@h/p?next=http://u:p@g/", "http://h/p?next=http://g/"),
        ("http://h/p?next=http%3A%2F%2Fu%3Ap%40g%2F&a=1", f"http://h/p?next={REDACTED}&a=1"),
        ("http://h/p?next=%2Fq%3Fa%3D1%26token%3Dx", f"http://h/p?next={REDACTED}"),
        ("http://h/p?next=%2Fq%3Fnext%3D%252Fr%253Ftoken%253Dx", f"http://h/p?next={REDACTED}"),
        ("http://h/p?next=%2Fq%3Fa%3D1&mail=a%40b.c", "http://h/p?next=%2Fq%3Fa%3D1&mail=a%40b.c"),
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
        *("PHPSESSID", "passphrase", "otp"),
        *("X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "sig", "Authorization", "jwt", "sessionid"),
    ],
)
def test_the_default_patterns_know_the_usual_secrets(name: str) -> None:
    """In any case."""
    patterns = tuple(SETTINGS["secret_query_parameters"].default)
    assert is_secret_name(name, patterns)
    assert redact_query(f"?{name}=x", patterns) == f"?{name}={REDACTED}"


def test_patterns_match_in_any_case() -> None:
    """A user writes the parameter as the other service does."""
    assert redact_url("http://h/?apiToken=x&APITOKEN=y", ["apiToken"]) == (
        f"http://h/?apiToken={REDACTED}&APITOKEN={REDACTED}"
    )


@given(
    st.text(max_size=30),
    st.integers(1, 3),
    st.sampled_from(["http://u:SECRET@h/", "/p?token=SECRET", "//h?a&sig=SECRET"]),
)
def test_a_secret_is_found_in_a_url_that_is_a_parameter_of_another(text: str, times: int, url: str) -> None:
    """However often it is quoted on the way."""
    for _ in range(times):
        url = f"http://host/{quote(text)}?a=1&next={quote(url, safe='')}"
    assert "SECRET" not in redact_url(url, SECRET)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("text", ["//a:", "%25", "?=", ";%3d=", "@//", "&%2525253d", "=%3D"])
def test_a_long_url_takes_time_in_proportion(text: str) -> None:
    """Nobody can keep a service busy, or exhaust its stack, by sending one."""
    redact_url(f"http://h/?next={text * 200_000}%3D", SECRET)


@given(st.text(), st.text(alphabet="abc&;=#?@/:%x"), st.text(min_size=1, alphabet="xyz"))
def test_whatever_surrounds_a_secret_it_is_removed(before: str, after: str, secret: str) -> None:
    """Odd text never raises, nor hides the parameter."""
    url = f"http://host/{before}?token=SECRET{secret}&{after}"
    assert f"SECRET{secret}" not in redact_url(url, SECRET)
