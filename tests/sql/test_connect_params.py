"""What is tagged of the arguments of ``connect`` keeps their shape, and tells no secret."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg2.extensions import make_dsn

from opentracing_instrumentation.client_hooks._connect_params import positional_names, redact_dsn, shown


@pytest.mark.parametrize(
    ("dsn", "redacted"),
    [
        (":memory:", ":memory:"),
        ("host=db user=u", "host=db user=u"),
        ("host=db password=s3cret user=u", "host=db password=[redacted]"),
        ("host=db password = 's3 \\' cret' user=u", "host=db password=[redacted]"),
        ("password='s3cret", "password=[redacted]"),
        ("host=db sslpassword=s3cret", "host=db sslpassword=[redacted]"),
        ("host=db scram_client_key=s3cret", "host=db scram_client_key=[redacted]"),
        ("DRIVER={SQL Server};UID=u;PWD={s3;cret};DATABASE=d", "DRIVER={SQL Server};UID=u;PWD=[redacted]"),
        ("host=db options='-c app.token=s3cret'", "host=db options='-c app.token=[redacted]"),
        ("scott/s3cret@db:1521/x", "scott/[redacted]@db:1521/x"),
        ("scott/s3/c@ret@db", "scott/[redacted]@db"),
        ("postgresql://u:s3cret@db:5432/shop", "postgresql://db:5432/shop"),
        ("postgresql://db/shop?user=u&password=s3cret", "postgresql://db/shop?user=u&password=[redacted]"),
        ("/var/lib/shop.db", "/var/lib/shop.db"),
        ("file:shop.db?mode=ro", "file:shop.db?mode=ro"),
    ],
)
def test_dsns(dsn: str, redacted: str) -> None:
    assert redact_dsn(dsn) == redacted
    assert "s3" not in redact_dsn(dsn)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=6))
def test_no_part_of_a_libpq_password_is_left(password: str) -> None:
    """However it has to be quoted."""
    dsn = make_dsn(host="db", user="u", password=password, application_name="shop")
    assert redact_dsn(dsn) == "host=db user=u password=[redacted]"


@pytest.mark.parametrize(
    ("args", "kwargs", "names", "expected"),
    [
        ((), {"host": "db", "port": 1, "passwd": "s3"}, (), ((), {"host": "db", "port": 1})),
        ((), {"password": "s3", "conv": {1: int}, "api_key": "s3"}, (), ((), {})),
        (("db", "u", "s3"), {}, ("host", "user", "password"), (("db", "u", "[redacted]"), {})),
        (("db", "u", "s3", 5), {}, (), (("db", "[redacted]", "[redacted]", 5), {})),
        (("host=db password=s3 user=u",), {}, ("dsn",), (("host=db password=[redacted]",), {})),
        ((), {"dsn": "u/s3@db"}, (), ((), {"dsn": "u/[redacted]@db"})),
        (
            (),
            {"ssl": {"ca": "/ca", "key_password": "s3"}},
            (),
            ((), {"ssl": {"ca": "/ca", "key_password": "[redacted]"}}),
        ),
    ],
)
def test_arguments(args: Any, kwargs: Any, names: Any, expected: Any) -> None:
    assert shown(args, kwargs, names) == expected


def test_other_objects_are_themselves() -> None:
    context = ssl.create_default_context()
    assert shown((), {"ssl": context}).kwargs["ssl"] is context


def test_names_of_positional_arguments() -> None:
    assert positional_names(lambda host, /, user, *rest, port=1, **more: None) == ("host", "user")
    assert positional_names(dict) == ()
