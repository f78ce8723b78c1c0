"""The waterfall: what it draws, line by line, and what it makes of the spans of each tracer."""

import io
import json
import subprocess
import sys
import time
from dataclasses import replace

import basictracer
import opentracing
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from opentracing.mocktracer import MockTracer
from rich.cells import cell_len

from opentracing_instrumentation.cli.waterfall import SpanRecord, from_json, render, to_json
from opentracing_instrumentation.config import CONFIG


def drawn(*spans, width=80):
    """What `render` writes, without the blanks at the ends of the lines."""
    file = io.StringIO()
    render(spans, file=file, width=width)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def span(span_id, parent_id, name, start, duration, **fields):
    """A record of the trace `7`; times in milliseconds after a fixed moment."""
    return SpanRecord("7", span_id, parent_id, name, start=1000 + start / 1000, duration=duration / 1000, **fields)


STATEMENT = "UPDATE article SET stock = stock - ? WHERE name = ?"
FAILURE = "IntegrityError: CHECK constraint failed: stock >= 0 [SQL: UPDATE article SET stock]"
ORDER = [
    span("1", None, "place order", 0, 40, service="browser", tags={"order.article": "tea", "component": "me"}),
    span(
        "2",
        "1",
        "POST",
        1,
        38,
        service="browser",
        kind="client",
        tags={"http.status_code": 201, "http.url": "http://localhost:4000/orders"},
    ),
    span(
        "3",
        "2",
        "POST",
        5,
        30,
        service="shop",
        kind="server",
        tags={"http.status_code": 201, "http.url": "http://localhost:4000/orders?gift=1"},
    ),
    span("4", "3", "SQL UPDATE", 10, 20, service="shop", tags={"db.statement": STATEMENT}, error=FAILURE),
]


def test_a_trace_is_drawn_as_a_tree_beside_its_bars():
    assert drawn(*ORDER) == [
        "trace 7 · 4 spans · 2 services · 1 error · 40.0 ms",
        "place order order.article=tea                 browser  ━━━━━━━━━━━━━━━━  40.0 ms",
        "└ POST 201 localhost:4000/orders              browser  ╺━━━━━━━━━━━━━━╸  38.0 ms",
        "  └ POST 201 /orders?gift=1                   shop       ━━━━━━━━━━━━    30.0 ms",
        "    └ ! SQL UPDATE article SET stock = stoc…  shop         ━━━━━━━━      20.0 ms",
        "        IntegrityError: CHECK constraint failed: stock >= 0 [SQL: UPDATE articl…",
    ]


def test_a_wider_terminal_shows_more():
    assert drawn(*ORDER, width=100)[3:] == [
        "  └ POST 201 /orders?gift=1                                   shop       ╺━━━━━━━━━━━━━━╸    30.0 ms",
        "    └ ! SQL UPDATE article SET stock = stock - ? WHERE name…  shop          ━━━━━━━━━━       20.0 ms",
        f"        {FAILURE}",
    ]


def test_spans_without_a_service_need_no_column_for_it():
    assert drawn(span("1", None, "work", 0, 1500)) == [
        "trace 7 · 1 span · 1.50 s",
        "work                                                   ━━━━━━━━━━━━━━━━   1.50 s",
    ]


def test_several_traces_are_drawn_the_earliest_first():
    early = SpanRecord("a", "1", None, "early", start=1, duration=0.25)
    late = SpanRecord("b", "1", None, "late", start=2, duration=0.00012)
    assert drawn(late, early) == [
        "trace a · 1 span · 250 ms",
        "early                                                  ━━━━━━━━━━━━━━━━   250 ms",
        "",
        "trace b · 1 span · 120 µs",
        "late                                                   ━━━━━━━━━━━━━━━━   120 µs",
    ]


def lone(at, statement="SELECT ?"):
    return replace(span("1", None, "SQL SELECT", 10 * at, 5, tags={"db.statement": statement}), trace_id=f"t{at}")


def test_traces_of_one_span_each_that_are_alike_share_a_picture():
    """A program without spans of its own makes one of each statement. They are below nothing, and so no N+1."""
    assert drawn(*map(lone, range(12)), lone(12, statement="SELECT !"), lone(13)) == [
        "trace t0 · and 11 more · 115 ms",
        "SQL SELECT x12 ?                                       ╸╺ ╸━╺╸╸╺╺╸━╺ ╸╺  60.0 ms",
        "",
        "trace t12 · 1 span · 5.00 ms",
        "SQL SELECT !                                           ━━━━━━━━━━━━━━━━  5.00 ms",
        "",
        "trace t13 · 1 span · 5.00 ms",
        "SQL SELECT ?                                           ━━━━━━━━━━━━━━━━  5.00 ms",
    ]


def test_traces_that_are_more_than_one_span_stay_apart():
    pairs = [
        replace(each, trace_id=f"t{at}")
        for at in range(5)
        for each in (span("1", None, "a", at, 2), span("2", "1", "b", at, 1))
    ]
    assert sum(line.startswith("trace") for line in drawn(*pairs)) == 5


def test_no_spans_no_output():
    assert drawn() == []


def test_repeats_among_siblings_and_what_lies_below_them_share_a_line():
    """Fifty calls, each with its own SELECT below: two lines, with the sums of the durations."""
    root = span("0", None, "list", 0, 100)
    calls = [span(f"c{at}", "0", "GET", 2 * at, 2) for at in range(50)]
    queries = [
        span(f"q{at}", f"c{at}", "SQL SELECT", 2 * at, 1, tags={"db.statement": f"SELECT {at:02}"}) for at in range(50)
    ]
    assert drawn(root, *calls, *queries) == [
        "trace 7 · 101 spans · 100 ms",
        "list                                                   ━━━━━━━━━━━━━━━━   100 ms",
        "└ GET x50                                              ━━━━━━━━━━━━━━━━   100 ms",
        "  └ SQL SELECT x50 …                                   ━━━━━━━━━━━━━━━━  50.0 ms",
    ]


@pytest.mark.parametrize(
    ("queries", "label"),
    [
        ([("0", "SELECT ?")] * 10, "SQL SELECT x10 N+1 ?"),
        ([("0", "SELECT ?")] * 9 + [("0", "SELECT !")], "SQL SELECT x10 …"),
        ([("0", "SELECT ?")] * 10 + [("0", "SELECT !")], "SQL SELECT x11 N+1 …"),
        ([("0", f"SELECT {at}") for at in range(10, 20)], "SQL SELECT x10 N+1 1…"),
        ([("0", None)] * 10, "SQL SELECT x10"),
        ([(f"{at // 9}", "SELECT ?") for at in range(36)], "SQL SELECT x36 ?"),
    ],
)
def test_a_statement_that_one_parent_repeats_ten_times_is_named(queries, label):
    """Thirty-six below four parents are nine each: that is no repetition of one parent's."""
    parents = [span(f"{at}", "root", "GET", at, 1) for at in range(4)]
    children = [
        span(f"q{at}", parent, "SQL SELECT", 10 + at, 1, tags={"db.statement": text} if text else {})
        for at, (parent, text) in enumerate(queries)
    ]
    lines = drawn(span("root", None, "list", 0, 100), *parents, *children)
    assert lines[-1].strip(" └").split("  ")[0] == label


@pytest.mark.parametrize(("threshold", "label"), [(0, "x5 1"), (6, "x5 1"), (5, "x5 N+1 1")])
def test_how_many_statements_are_one_is_a_setting(threshold, label):
    CONFIG.n_plus_one_threshold = threshold
    queries = [span(f"q{at}", "0", "SQL SELECT", at, 1, tags={"db.statement": "SELECT 1"}) for at in range(5)]
    lines = drawn(span("0", None, "list", 0, 100), *queries)
    assert lines[-1].strip(" └").split("  ")[0] == f"SQL SELECT {label}"


def test_three_repeats_stay_apart_and_so_does_a_failed_one():
    root = span("0", None, "list", 0, 40)
    good = [span(f"{at}", "0", "GET", 10 * at, 5, tags={"sql": f"select {at}"}) for at in range(1, 4)]
    bad = span("4", "0", "GET", 15, 5, error="Timeout: too late")
    assert drawn(root, *good, bad)[2:] == [
        "├ GET select 1                                             ━━            5.00 ms",
        "├ ! GET                                                      ━━          5.00 ms",
        "│   Timeout: too late",
        "├ GET select 2                                                 ━━        5.00 ms",
        "└ GET select 3                                                     ━━    5.00 ms",
    ]


def test_the_bar_of_a_folded_line_shows_the_gaps():
    root = span("0", None, "list", 0, 80)
    ticks = [span(f"{at}", "0", "tick", 20 * (at - 1), 10, tags={"sql": "SELECT 1"}) for at in range(1, 5)]
    assert drawn(root, *ticks)[2:] == [
        "└ tick x4 SELECT 1                                     ━━  ━━  ━━  ━━    40.0 ms"
    ]


def test_a_span_whose_parent_is_not_there_is_a_root_and_says_so():
    assert drawn(span("2", "1", "GET", 0, 10), span("3", "2", "work", 5, 5)) == [
        "trace 7 · 2 spans · 10.0 ms",
        "GET (parent missing)                                   ━━━━━━━━━━━━━━━━  10.0 ms",
        "└ work                                                         ━━━━━━━━  5.00 ms",
    ]


def test_a_parent_in_another_trace_is_no_parent():
    stray = SpanRecord("8", "2", "1", "stray", start=1000, duration=1)
    assert "stray (parent missing)" in drawn(span("1", None, "root", 0, 1), stray)[4]


def test_a_cycle_is_cut_and_every_span_of_it_drawn_once():
    lines = drawn(
        span("1", "3", "a", 0, 40),
        span("2", "1", "b", 10, 10),
        span("3", "2", "c", 20, 10),
        span("4", "4", "d", 30, 10),
    )
    assert lines[1:] == [
        "a (parent missing)                                     ━━━━━━━━━━━━━━━━  40.0 ms",
        "└ b                                                        ━━━━          10.0 ms",
        "  └ c                                                          ━━━━      10.0 ms",
        "d (parent missing)                                                 ━━━━  10.0 ms",
    ]


def test_a_repeated_span_id_hides_no_span():
    lines = drawn(span("1", None, "a", 0, 40), span("1", None, "b", 20, 20), span("2", "1", "c", 20, 10))
    assert [line.split("  ")[0] for line in lines[1:]] == ["a", "└ c", "b"]


def test_a_child_that_began_before_its_parent_is_clipped():
    """The clock of the child's machine is behind: its bar begins with its parent's, behind a mark."""
    lines = drawn(span("1", None, "client", 0, 80), span("2", "1", "server", -30, 70), span("3", "2", "past", -90, 10))
    assert lines[2:] == [
        "└ server                                               ◂━━━━━━━          70.0 ms",
        "  └ past                                               ◂                 10.0 ms",
    ]


def test_a_deep_tree_keeps_room_for_its_names():
    chain = [span(str(at), str(at - 1) if at else None, f"level {at}", at, 100) for at in range(60)]
    assert drawn(*chain)[-1].startswith("…                       └ level 59 ")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("[red]not markup[/red] :smile:", "[red]not markup[/red] :smile:"),
        ("\x1b[31mred\x1b]0;title\x07", "�[31mred�]0;title�"),
        ("two\r\n\tlines\x00", "two lines�"),
        ("right\u202eleft", "right�left"),
        ("\ud800 alone", "� alone"),
        ("x" * 1_000_000, "x" * 52 + "…"),
        ("日" * 100, "日" * 26 + "…"),
        ("", "(no name)"),
    ],
)
def test_a_name_cannot_leave_its_place(name, shown):
    first = drawn(span("1", None, name, 0, 1))[1]
    assert first.split("  ")[0].rstrip() == shown


def test_tags_services_errors_and_trace_ids_are_neutralised_too():
    evil = "[bold]\x1b[2J\n"
    lines = drawn(SpanRecord(evil, "1", None, "n", evil, tags={evil: evil}, duration=1, error=evil))
    assert lines == [
        "trace [bold]�[2J · 1 span · 1 service · 1 error · 1.00 s",
        "! n [bold]�[2J =[bold]�[2J                 [bold]�[2J  ━━━━━━━━━━━━━━━━   1.00 s",
        "  [bold]�[2J",
    ]


@pytest.mark.parametrize(
    ("kind", "url", "shown"),
    [
        ("client", "https://me:secret@bank:8443/pay?sum=1", "bank:8443/pay?sum=1"),
        ("server", "https://me:secret@bank:8443/pay?sum=1", "/pay?sum=1"),
        ("server", "http://bank", "/"),
        ("client", "http://[broken", "http://[broken"),
        ("client", "/pay", "/pay"),
    ],
)
def test_a_url_tells_where_a_client_asked_and_what_a_server_was_asked(kind, url, shown):
    line = drawn(span("1", None, "GET", 0, 1, kind=kind, tags={"http.url": url}))[1]
    assert line.split("  ")[0] == f"GET {shown}"


def test_a_terminal_gets_colours(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;31mSQL UPDATE\x1b[0m" in "\n".join(drawn(*ORDER))


def test_a_file_that_is_not_in_unicode_gets_ascii():
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    render([replace(ORDER[0], name="café"), *ORDER[1:]], file=file, width=80)
    file.seek(0)
    assert [line.rstrip() for line in file][1:4] == [
        "caf? order.article=tea                        browser  ================  40.0 ms",
        "` POST 201 localhost:4000/orders              browser  -==============-  38.0 ms",
        "  ` POST 201 /orders?gift=1                   shop       ============    30.0 ms",
    ]


def test_two_thousand_spans_are_quick():
    spans = [span(str(at), str(at // 2) if at else None, f"work {at}", at, 1) for at in range(2000)]
    begin = time.perf_counter()
    assert len(drawn(*spans)) == 2001
    assert time.perf_counter() - begin < 3


TEXT = st.text(st.characters(codec=None), max_size=20)
HOSTILE = st.fixed_dictionaries(
    {
        "trace_id": st.sampled_from("ab"),
        "span_id": st.sampled_from("123"),
        "parent_id": st.sampled_from("1234"),
    },
    optional={
        "name": TEXT,
        "service": TEXT,
        "kind": TEXT,
        "error": TEXT,
        "start": st.floats(),
        "duration": st.floats(),
        "tags": st.dictionaries(TEXT | st.sampled_from(["http.url", "sql"]), TEXT | st.floats() | st.integers()),
        "unknown": TEXT,
    },
)


@given(st.lists(HOSTILE, max_size=8), st.integers(1, 200))
def test_no_list_of_spans_breaks_the_drawing(spans, width):
    lines = drawn(*spans, width=width)
    assert all(line.isprintable() and cell_len(line) <= width for line in lines)
    assert from_json(to_json(spans)) == [SpanRecord.of(each) for each in spans]


# Records of the spans of each tracer.


def test_spans_of_the_mock_tracer():
    tracer = MockTracer()
    parent = tracer.start_span("GET", tags={"span.kind": "server", "a": 1}, start_time=100)
    tracer.start_span("child", child_of=parent, start_time=101).finish(102.5)
    parent.finish(104)
    child, root = map(SpanRecord.of, tracer.finished_spans())
    assert root == SpanRecord(
        trace_id=f"{parent.context.trace_id:016x}",
        span_id=f"{parent.context.span_id:016x}",
        name="GET",
        kind="server",
        start=100.0,
        duration=4.0,
        tags={"span.kind": "server", "a": 1},
    )
    assert (child.parent_id, child.trace_id, child.duration) == (root.span_id, root.trace_id, 1.5)


def test_spans_of_basictracer():
    recorder = basictracer.recorder.InMemoryRecorder()
    tracer = basictracer.BasicTracer(recorder)
    parent = tracer.start_span("GET", tags={"span.kind": "client"}, start_time=100)
    tracer.start_span("child", child_of=parent, start_time=101).finish(103)
    parent.finish(104)
    child, root = (SpanRecord.of(each, service="shop") for each in recorder.get_spans())
    assert root == SpanRecord(
        trace_id=f"{parent.context.trace_id:016x}",
        span_id=f"{parent.context.span_id:016x}",
        name="GET",
        service="shop",
        kind="client",
        start=100.0,
        duration=4.0,
        tags={"span.kind": "client"},
    )
    assert (child.parent_id, child.trace_id, child.duration) == (root.span_id, root.trace_id, 2.0)


@pytest.fixture
def opentelemetry_spans():
    """A tracer of OpenTelemetry's SDK, of the service `bank`, and the list of what it finished."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "bank"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("tests"), exporter.get_finished_spans


def test_spans_of_opentelemetry(opentelemetry_spans):
    tracer, finished = opentelemetry_spans
    with tracer.start_as_current_span(
        "GET", kind=SpanKind.SERVER, attributes={"list": ("a", "b")}, start_time=10**9, end_on_exit=False
    ) as parent:
        tracer.start_span("child", start_time=10**9).end(2 * 10**9)
    parent.end(3 * 10**9)
    child, root = (SpanRecord.of(each, service="ignored") for each in finished())
    assert root == SpanRecord(
        trace_id=f"{parent.context.trace_id:032x}",
        span_id=f"{parent.context.span_id:016x}",
        name="GET",
        service="bank",
        kind="server",
        start=1.0,
        duration=2.0,
        tags={"list": "('a', 'b')"},
    )
    assert (child.parent_id, child.kind, child.duration) == (root.span_id, "internal", 1.0)


def test_an_exception_in_an_opentelemetry_span_is_its_error(opentelemetry_spans):
    tracer, finished = opentelemetry_spans
    with pytest.raises(ValueError, match="no"), tracer.start_as_current_span("work"):
        raise ValueError("no such article")
    assert SpanRecord.of(finished()[0]).error == "ValueError: no such article"


@pytest.mark.parametrize(("description", "error"), [(None, "error"), ("refused", "refused")])
def test_an_opentelemetry_status_alone_is_an_error(opentelemetry_spans, description, error):
    tracer, finished = opentelemetry_spans
    with tracer.start_as_current_span("work") as work:
        work.set_status(StatusCode.ERROR, description)
    assert SpanRecord.of(finished()[0]).error == error


@pytest.mark.parametrize(
    ("tag", "log", "error"),
    [
        (None, {"event": "error", "message": "retried"}, None),
        (False, {}, None),
        ("false", {}, None),
        (True, {}, "error"),
        ("true", {"event": "something else"}, "error"),
        ("refused", {}, "refused"),
        (True, {"event": "error", "payload": "refused"}, "refused"),
        ("true", {"event": "exception", "payload": KeyError("tea")}, "KeyError: 'tea'"),
        (True, {"error.kind": "Timeout", "message": "too late"}, "Timeout: too late"),
        (True, {"error.kind": OSError, "message": "too late"}, "OSError: too late"),
        (True, {"error.object": ValueError()}, "ValueError"),
    ],
)
def test_the_error_of_an_opentracing_span(tag, log, error):
    """The tag `error` says that there is one, a log which."""
    tracer = MockTracer()
    failed = tracer.start_span("work", tags={} if tag is None else {"error": tag})
    if log:
        failed.log_kv(log)
    failed.finish()
    assert SpanRecord.of(failed).error == error


def test_the_error_that_a_with_block_logs():
    tracer = MockTracer()
    with pytest.raises(ValueError, match="no"), tracer.start_span("work"):
        raise ValueError("no such article")
    assert SpanRecord.of(tracer.finished_spans()[0]).error == "ValueError: no such article"


def test_tag_values_become_what_json_can_hold():
    class Rude:
        def __str__(self):
            raise RuntimeError

    tags = {
        "rude": Rude(),
        "nan": float("nan"),
        "huge": 10**5000,
        "list": [1],
        "yes": True,
        1: None,
        "half": 0.5,
    }
    assert SpanRecord.of({"tags": tags}).tags == {
        "rude": "<Rude>",
        "nan": "nan",
        "huge": "<int>",
        "list": "[1]",
        "yes": True,
        "1": None,
        "half": 0.5,
    }


def test_json_holds_the_whole_record_and_nothing_else():
    assert json.loads(to_json(ORDER[1:2])) == [
        {
            "trace_id": "7",
            "span_id": "2",
            "parent_id": "1",
            "name": "POST",
            "service": "browser",
            "kind": "client",
            "start": 1000.001,
            "duration": 0.038,
            "tags": {"http.status_code": 201, "http.url": "http://localhost:4000/orders"},
            "error": None,
        }
    ]
    assert from_json(to_json(ORDER)) == ORDER


@pytest.mark.parametrize("thing", [None, 1, "span", object(), opentracing.Tracer()])
def test_what_is_no_span_is_refused(thing):
    with pytest.raises(TypeError, match="not a finished span"):
        SpanRecord.of(thing)


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_without_rich_the_error_names_the_extra():
    module = "opentracing_instrumentation.cli.waterfall"
    done = run(f"import sys; sys.modules['rich'] = sys.modules['rich.cells'] = None; import {module}")
    assert done.stderr.splitlines()[-1].endswith('pip install "opentracing_instrumentation[cli]"')


def test_the_package_itself_imports_neither_the_waterfall_nor_rich():
    done = run(
        "import sys, opentracing_instrumentation, opentracing_instrumentation.client_hooks as c\n"
        "print([m for m in sys.modules if m.startswith(('rich', 'click', 'opentracing_instrumentation.cli.'))])"
    )
    assert done.stdout == "[]\n", done.stderr
