"""What an error of a database may say in a log."""

from __future__ import annotations

from collections import UserList
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation.client_hooks._sql_errors import log_without_values, without_values
from opentracing_instrumentation.config import CONFIG

UNIQUE = 'duplicate key value violates unique constraint "users_email_key"'


@pytest.mark.parametrize(
    ("message", "parameters", "said"),
    [
        ("no such table: orders", None, "no such table: orders"),
        (f"{UNIQUE}\nDETAIL:  Key (email)=(ada@example.org) already exists.", None, UNIQUE),
        ("column x\nLINE 1: SELECT x = 'rosebud'\n          ^", ("rosebud",), "column x"),
        ("column x\nLINE 1: SELECT x\n          ^", None, "column x\nLINE 1: SELECT x\n          ^"),
        ("Duplicate entry 'rosebud' for key 'name'", {"name": "rosebud"}, "Duplicate entry '?' for key 'name'"),
        ("near 'rosebud' and rose", [("rose", 1), (b"rosebud", 2)], "near '?' and ?"),
        ("near 'rosebud'", UserList(["rosebud"]), "near '?'"),
        ("near 'rosebud'", {"rosebud"}, "near '?'"),
        ("near 'rosebud'", {"name": "rosebud"}.values(), "near '?'"),
        ("near 'rosebud'", (bytearray(b"rosebud"),), "near '?'"),
        ("near 'rose' or 'bud', or so", iter([("rose",), ("bud",)]), "near ?, or so"),
        ("server closed the connection\n\tunexpectedly", ("a",), "server closed the connection\n\tunexpectedly"),
    ],
)
def test_values_are_left_out(message: str, parameters: Any, said: str) -> None:
    """Bound values, stored rows and quoted statements are; the rest stays."""
    assert without_values(message, parameters) == said


@given(st.text(min_size=3), st.text(), st.text(), st.sampled_from([tuple, list, lambda v: {"a": v[0]}, lambda v: [v]]))
def test_a_bound_text_is_never_said(value: str, before: str, after: str, shape: Any) -> None:
    """Whatever stands round it, and in whatever form it was bound; unless what is put in its place makes it up."""
    message = without_values(f"{before}{value}{after}", shape((value,)))
    assert value not in message or "?" in value


def test_an_error_that_says_too_much_is_logged_without_itself(tracer: MockTracer) -> None:
    """Its object would repeat what its message says."""
    span = tracer.start_span("statement")
    assert log_without_values(span, ValueError("near 'rosebud'"), ("rosebud",))
    assert span.tags == {"error": True}
    assert span.logs[0].key_values == {
        "event": "error", "message": "near '?'", "error.kind": ValueError, "stack": None,
    }  # fmt: skip


def test_other_errors_are_not_touched(tracer: MockTracer) -> None:
    """They are logged as those of any call; so are all while parameters are captured."""
    span = tracer.start_span("statement")
    assert not log_without_values(span, ValueError("no such table"), ("rosebud",))
    CONFIG.capture_sql_parameters = True
    assert not log_without_values(span, ValueError("near 'rosebud'"), ("rosebud",))
    assert (span.tags, span.logs) == ({}, [])
