"""What gets a comment and what does not, and the context of the span in it."""

from __future__ import annotations

import contextvars
import logging
from typing import Any

import opentracing
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentracing import Format, UnsupportedFormatException
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation.otel import Tracer
from opentracing_instrumentation.sqlcommenter import Commenter, Options, attributes, parse, strip

ONLY = {"db_driver": False, "a": "/b"}


def static(**known: Any) -> Commenter:
    return Commenter(Options.of("static", ONLY), driver="d", **known)


def full(**known: Any) -> Commenter:
    return Commenter(Options.of("full", ONLY), driver="d", **known)


class Text(str):
    """A text of somebody's own."""


@pytest.mark.parametrize(
    "statement",
    [
        None,
        1,
        object(),
        Text("SELECT 1"),
        bytearray(b"SELECT 1"),
        b"SELECT '\xe9'",
        b"",
        "",
        b"COPY t",
        "SELECT 1 -- a",
    ],
)
def test_what_can_have_no_comment_stays_the_very_object(statement: Any) -> None:
    assert static()(statement) is statement
    assert full()(statement, (), MockTracer().start_span("s")) is statement


def test_bytes_stay_bytes() -> None:
    assert static()("SELECT 'é';".encode()) == "SELECT 'é' /*a='%2Fb'*/;".encode()
    assert static(paramstyle="format")(b"SELECT %s", (1,)) == b"SELECT %s /*a='%%2Fb'*/"


@pytest.mark.parametrize(
    ("paramstyle", "driver", "parameters", "is_doubled"),
    [
        ("pyformat", "psycopg2", (), True),
        ("pyformat", "psycopg2", {}, True),
        ("format", "MySQLdb", [1], True),
        ("format", "MySQLdb", None, False),
        ("pyformat", "mysqlconnector", (1,), False),
        ("pyformat", "pymssql", (1,), False),
        ("format", "pg8000", (1,), False),
        *((style, "d", (1,), False) for style in ("qmark", "numeric", "named", "numeric_dollar", "")),
    ],
)
def test_percent_signs_are_doubled_for_who_makes_one_of_two(
    paramstyle: str, driver: str, parameters: Any, is_doubled: bool
) -> None:
    commenter = Commenter(Options.of("static", ONLY), driver=driver, paramstyle=paramstyle)
    assert commenter("SELECT 1", parameters) == f"SELECT 1 /*a='{'%%' if is_doubled else '%'}2Fb'*/"


@pytest.mark.parametrize("statement", ["SELECT 5 %", "SELECT 5 % 3", "SELECT 5 %% %-3.1;"])
def test_half_a_placeholder_stays_what_it_is(statement: str) -> None:
    """The driver refuses it, in words of its own."""
    assert static(paramstyle="format")(statement, ()) is statement
    assert static(paramstyle="format")(statement) is not statement
    assert static(paramstyle="format")("SELECT 5 %% 3, %s, 1", ()) == "SELECT 5 %% 3, %s, 1 /*a='%%2Fb'*/"


def test_many_rows_for_mysql_get_none() -> None:
    assert static(family="mysql")("INSERT INTO t VALUES (%s)", [(1,)], many=True) == "INSERT INTO t VALUES (%s)"
    assert static(family="mysql")("SELECT 1") == "SELECT 1 /*a='%2Fb'*/"
    assert static(family="postgresql")("SELECT 1", [(1,)], many=True) == "SELECT 1 /*a='%2Fb'*/"


@pytest.mark.parametrize("statement", ["SELECT 1 # note", "SELECT a#note", "# note\nSELECT 1"])
def test_a_hash_begins_a_comment_for_mysql_only(statement: str) -> None:
    assert static(family="mysql")(statement) is statement
    assert static(family="postgresql")(statement) == f"{statement} /*a='%2Fb'*/"


def test_the_context_is_what_the_tracer_injects() -> None:
    """As text: HTTP headers come encoded already, of some tracers."""
    tracer = MockTracer()
    span = tracer.start_span("s")
    injected: dict[str, str] = {}
    tracer.inject(span.context, Format.TEXT_MAP, injected)
    assert parse(full()("SELECT 1", None, span)) == {"a": "/b", **injected}
    assert len(injected) == 2


def test_it_is_a_traceparent_of_opentelemetrys(otel: Tracer) -> None:
    span = otel.start_span("s")
    context = span.unwrap().get_span_context()
    traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    assert full()("SELECT 1", None, span) == f"SELECT 1 /*a='%2Fb',traceparent='{traceparent}'*/"


def test_baggage_is_left_out(otel: Tracer) -> None:
    for tracer in (MockTracer(), otel):
        span = tracer.start_span("s")
        span.set_baggage_item("user", "secret")
        assert "secret" not in full()("SELECT 1", None, span)


def test_the_bounded_part_is_the_same_with_and_without_a_span() -> None:
    unsampled = Tracer(TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)).start_span("s")
    for span in (None, opentracing.Tracer().start_span("s"), unsampled, MockTracer().start_span("s")):
        assert static()("SELECT 1", None, span) == "SELECT 1 /*a='%2Fb'*/"
        assert full()("SELECT 1", None, span).startswith("SELECT 1 /*a='%2Fb'")


def test_the_context_may_be_left_out() -> None:
    options = Options.of("full", {**ONLY, "opentelemetry_values": False})
    assert Commenter(options, driver="d")("SELECT 1", None, MockTracer().start_span("s")) == "SELECT 1 /*a='%2Fb'*/"


def test_a_span_of_no_tracer_has_no_context() -> None:
    """The scope manager of OpenTracing's own no-op has such a span."""
    noop = opentracing.Tracer().scope_manager.active.span
    assert noop.tracer is None
    assert full()("SELECT 1", None, noop) == "SELECT 1 /*a='%2Fb'*/"


def test_a_span_that_does_not_know_its_tracer_is_of_the_global_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = MockTracer()
    monkeypatch.setattr(opentracing, "tracer", tracer)
    span = tracer.start_span("s")
    told = full()("SELECT 1", None, span)
    span._tracer = None
    assert full()("SELECT 1", None, span) == told
    assert parse(told)["ot-tracer-spanid"] == f"{span.context.span_id:x}"


class Counting(MockTracer):
    injected = 0

    def inject(self, *args: Any) -> None:
        self.injected += 1
        super().inject(*args)


def test_the_context_of_the_span_above_is_worked_out_once_for_all_below_it() -> None:
    tracer = Counting()
    commenter, (first, second) = full(), [tracer.start_span("s") for _ in range(2)]

    def told(span: Any) -> list[str]:
        below = [commenter(f"SELECT {number}", None, span, is_above=True) for number in range(3)]
        return [parse(statement)["ot-tracer-spanid"] for statement in below]

    assert told(first) == [f"{first.context.span_id:x}"] * 3
    assert told(second) == [f"{second.context.span_id:x}"] * 3
    assert tracer.injected == 2
    assert contextvars.Context().run(told, first) == told(first)
    assert tracer.injected == 4


class Mute(MockTracer):
    def inject(self, *_: Any) -> None:
        raise UnsupportedFormatException


def test_a_tracer_may_have_no_way_to_travel() -> None:
    assert full()("SELECT 1", None, Mute().start_span("s")) == "SELECT 1 /*a='%2Fb'*/"


class Broken(MockTracer):
    def inject(self, *_: Any) -> None:
        raise KeyError("broken")


class Unprintable:
    def __str__(self) -> str:
        raise KeyError("broken")


def _raise() -> None:
    raise KeyError("broken")


@pytest.mark.parametrize("value", [_raise, Unprintable, lambda: {"b": Unprintable()}, {"b": Unprintable()}])
def test_trouble_leaves_the_statement_as_it_was(lenient: None, caplog: pytest.LogCaptureFixture, value: Any) -> None:
    """It is reported once."""
    commenter = Commenter(Options.of(commenter_options={"a": value}), driver="d")
    for statement in ("SELECT 1", "SELECT 1", b"SELECT 1"):
        assert commenter(statement) is statement
    assert [record.message for record in caplog.records] == [
        "SQL comments for d failed; the call itself goes on (reported once)"
    ]


def test_so_does_trouble_of_the_tracers(lenient: None) -> None:
    statement = "SELECT 1"
    assert full()(statement, None, Broken().start_span("s")) is statement


def test_a_driver_that_prepares_gets_static_comments_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    span = MockTracer().start_span("s")
    for _ in range(2):
        assert full(prepares=True)("SELECT 1", None, span) == "SELECT 1 /*a='%2Fb'*/"
    assert static(prepares=True)("SELECT 1", None, span) == "SELECT 1 /*a='%2Fb'*/"
    (record,) = caplog.records
    assert (record.levelno, record.name) == (logging.WARNING, "opentracing_instrumentation")
    assert "d prepares statements" in record.message
    forced = Commenter(Options.of("full", ONLY, force=True), driver="d", prepares=True)
    assert "traceid" in forced("SELECT 1", None, span)
    assert len(caplog.records) == 1


def test_off_is_off() -> None:
    statement = "SELECT 1"
    assert Commenter(Options.of("off", ONLY), driver="d")(statement) is statement


def test_nothing_to_say_is_not_said() -> None:
    statement = "SELECT 1"
    assert Commenter(Options.of(commenter_options={"db_driver": False}), driver="d")(statement) is statement


def test_a_long_statement_is_commented_but_not_remembered() -> None:
    commenter = static()
    statement = f"INSERT INTO t VALUES {', '.join(['(1)'] * 5000)}"
    assert strip(commenter(statement)) == statement
    assert commenter(statement) is not commenter(statement)
    assert commenter("SELECT 1") is commenter("SELECT 1")


def test_what_is_remembered_is_not_told_to_another_request() -> None:
    commenter = static()
    for route in ("/1", "/2", "/1"):
        with attributes(route=route):
            assert parse(commenter("SELECT 1"))["route"] == route
    assert "route" not in parse(commenter("SELECT 1"))
