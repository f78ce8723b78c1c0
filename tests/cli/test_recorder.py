"""The command's own tracer, and the way of its spans to the collector."""

from __future__ import annotations

import gc
import json
import os
import socket
import threading
import time

import opentracing
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentracing import Format, InvalidCarrierException, UnsupportedFormatException
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation.cli.collector import QUIET, STUCK, Collector, Traces
from opentracing_instrumentation.cli.records import SpanRecord
from opentracing_instrumentation.cli.sender import Sender, program_name
from opentracing_instrumentation.cli.tracer import SpanContext, Tracer


class Recording(Tracer):
    """Keeps what it is told."""

    def __init__(self):
        self.open, self.finished = [], []
        super().__init__(self.open.append, self.finished.append)


@pytest.fixture
def recording():
    return Recording()


def test_a_span_is_told_of_when_it_begins_and_once_when_it_ends(recording):
    span = recording.start_span("work", tags={"a": 1}, start_time=100)
    assert (recording.open, recording.finished) == ([span], [])
    span.set_tag("b", 2).set_operation_name("more work").log_kv({"event": "x"}, timestamp=101)
    span.finish(102.5)
    span.finish(200)
    assert recording.finished == [span]
    assert SpanRecord.of(span) == SpanRecord(
        trace_id=span.context.trace_id,
        span_id=span.context.span_id,
        name="more work",
        start=100,
        duration=2.5,
        tags={"a": 1, "b": 2},
    )


def test_an_error_of_a_block_is_the_spans(recording):
    with pytest.raises(ValueError, match="no"), recording.start_active_span("work"):
        raise ValueError("no such article")
    assert SpanRecord.of(recording.finished[0]).error == "ValueError: no such article"
    assert recording.active_span is None


def test_the_active_span_is_the_parent_unless_another_is_named(recording):
    with recording.start_active_span("outer") as outer:
        inner = recording.start_span("inner")
        alone = recording.start_span("alone", ignore_active_span=True)
        other = recording.start_span("other", child_of=alone)
        later = recording.start_span("later", references=[opentracing.follows_from(alone.context)])
    ids = [span.parent_id for span in (outer.span, inner, alone, other, later)]
    assert ids == [None, outer.span.context.span_id, None, alone.context.span_id, alone.context.span_id]
    assert inner.context.trace_id == outer.span.context.trace_id != alone.context.trace_id


@pytest.mark.parametrize("stranger", [opentracing.tracer.start_span("x"), MockTracer().start_span("x").context])
def test_a_parent_of_another_tracer_is_none(recording, stranger):
    assert recording.start_span("work", child_of=stranger).parent_id is None


@pytest.mark.parametrize("form", [Format.TEXT_MAP, Format.HTTP_HEADERS])
@given(baggage=st.dictionaries(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8"))))
def test_ids_and_baggage_travel(form, baggage):
    tracer, carrier = Recording(), {}
    span = tracer.start_span("work")
    for key, value in baggage.items():
        span.set_baggage_item(key, value)
    tracer.inject(span.context, form, carrier)
    arrived = tracer.extract(form, {name.title(): value for name, value in carrier.items()})
    assert (arrived.trace_id, arrived.span_id, arrived.baggage) == (
        span.context.trace_id,
        span.context.span_id,
        baggage,
    )
    child = tracer.start_span("child", child_of=arrived)
    assert (child.context.trace_id, child.parent_id) == (span.context.trace_id, span.context.span_id)


TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize("version", ["00-{}-{}-01", "00-{}-{}-00", "cc-{}-{}-01-what-comes", "cc-{}-{}-01"])
def test_a_traceparent_of_this_version_or_a_later_one_is_read(recording, version):
    context = recording.extract(Format.HTTP_HEADERS, {"Traceparent": version.format(TRACE, SPAN)})
    assert (context.trace_id, context.span_id, context.baggage) == (TRACE, SPAN, {})


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01more",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
    ],
)
def test_another_traceparent_is_none(recording, header):
    assert recording.extract(Format.TEXT_MAP, {"traceparent": header}) is None


def test_formats_and_carriers_that_are_none_are_refused(recording):
    context = SpanContext(TRACE, SPAN)
    with pytest.raises(UnsupportedFormatException):
        recording.inject(context, Format.BINARY, bytearray())
    with pytest.raises(InvalidCarrierException):
        recording.extract(Format.TEXT_MAP, None)


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        ("/srv/shop.py", "shop"),
        ("/srv/shop/__main__.py", "shop"),
        ("gunicorn", "gunicorn"),
        ("-c", "python"),
        ("", "python"),
    ],
)
def test_a_program_is_named_by_its_first_argument(monkeypatch, argument, name):
    monkeypatch.setattr("sys.argv", [argument])
    assert program_name() == name


# When a trace is finished.


class Drawn:
    """Traces with a clock that stands, and the names of the spans that were drawn at once."""

    def __init__(self):
        self.now, self.names = 0.0, []
        self.traces = Traces(lambda spans: self.names.append([span.name for span in spans]), lambda: self.now)

    def began(self, span, trace="1", source=1):
        self.traces.tell(source, {"began": span, "trace_id": trace})

    def ended(self, span, trace="1", source=1):
        self.traces.tell(source, {"trace_id": trace, "span_id": span, "name": span})

    def after(self, seconds):
        self.now += seconds
        self.traces.draw_due()
        return self.names


@pytest.fixture
def drawn():
    return Drawn()


def test_a_trace_is_drawn_when_none_of_its_spans_is_open_and_it_has_been_quiet(drawn):
    drawn.began("a")
    drawn.began("b", source=2)
    drawn.ended("b", source=2)
    assert drawn.after(QUIET) == []
    drawn.ended("a")
    assert drawn.traces.seconds_until_due() == QUIET
    assert drawn.after(QUIET / 2) == []
    drawn.began("c")
    drawn.ended("c")
    assert drawn.after(QUIET / 2) == []
    assert drawn.after(QUIET / 2) == [["b", "a", "c"]]
    assert drawn.traces.seconds_until_due() is None


def test_spans_of_a_process_that_is_gone_are_not_waited_for(drawn):
    drawn.began("a")
    drawn.began("b", source=2)
    drawn.ended("b", source=2)
    drawn.traces.lost(1)
    assert drawn.after(QUIET) == [["b"]]


def test_a_trace_with_a_span_that_never_ends_is_drawn_in_the_end(drawn):
    drawn.began("a")
    drawn.began("b")
    drawn.ended("b")
    assert drawn.after(STUCK - 1) == []
    assert drawn.after(1) == [["b"]]


def test_traces_are_drawn_apart_from_each_others_open_spans(drawn):
    drawn.began("a", trace="1")
    drawn.began("b", trace="2")
    drawn.ended("b", trace="2")
    assert drawn.after(QUIET) == [["b"]]


# The way there.


@pytest.fixture
def served(tmp_path):
    """A collector in a thread of this process: the path of its socket, what it has drawn, how to end its program."""
    path = str(tmp_path / "spans")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    ended, program = os.pipe()
    drawn = []
    collector = Collector(listener, ended, drawn.extend)
    thread = threading.Thread(target=collector.serve)
    thread.start()
    yield path, drawn, thread
    os.close(program)
    thread.join(10)
    assert not thread.is_alive()
    listener.close()
    os.close(ended)
    gc.collect()


def test_spans_from_many_threads_arrive_whole(served):
    path, drawn, _ = served
    sender = Sender(path, lambda: "shop")
    tracer = Tracer(sender.began, sender.ended)

    def work(number):
        for at in range(200):
            tracer.start_span(f"{number}.{at}", tags={"long": "x" * 1000}).finish()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sender.close()
    assert sorted(span.name for span in drawn) == sorted(f"{number}.{at}" for number in range(4) for at in range(200))
    assert {(span.service, len(span.tags["long"])) for span in drawn} == {("shop", 1000)}


def test_who_closes_waits_for_the_drawing_and_sends_no_more(served):
    path, drawn, _ = served
    sender = Sender(path, lambda: "shop")
    tracer = Tracer(sender.began, sender.ended)
    tracer.start_span("one").finish()
    sender.close()
    tracer.start_span("two").finish()
    assert [span.name for span in drawn] == ["one"]


def test_without_a_collector_nothing_happens(tmp_path):
    sender = Sender(str(tmp_path / "nobody"), lambda: "shop")
    tracer = Tracer(sender.began, sender.ended)
    tracer.start_span("one").finish()
    sender.close()


def test_a_span_that_another_thread_ends_meanwhile_is_drawn_too(served):
    path, drawn, _ = served
    sender = Sender(path, lambda: "shop")
    span = Tracer(sender.began, sender.ended).start_span("one")
    threading.Timer(QUIET / 5, span.finish).start()
    sender.close()
    assert [span.name for span in drawn] == ["one"]


def test_a_process_that_goes_without_a_word_leaves_what_it_has_ended(served):
    path, drawn, _ = served
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    for message in {"began": "1", "trace_id": "7"}, {"trace_id": "7", "span_id": "2", "name": "done"}:
        connection.sendall(json.dumps(message).encode() + b"\n")
    connection.sendall(b'{"trace_id": "7", "span_i')
    connection.close()
    until = time.monotonic() + 10
    while not drawn and time.monotonic() < until:
        time.sleep(QUIET / 10)
    assert [span.name for span in drawn] == ["done"]
