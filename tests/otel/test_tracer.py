"""What OpenTracing's calls become in OpenTelemetry."""

from __future__ import annotations

import time
from typing import Any

import opentracing
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider, sampling
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.shim.opentracing_shim import create_tracer
from opentelemetry.trace import SpanKind, StatusCode
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation.otel import Tracer
from opentracing_instrumentation.utils import start_child_span

from .spans import by_name, tree


class TestSpan:
    """A span's own methods."""

    @pytest.mark.parametrize(
        ("told", "kind"),
        [
            ("client", SpanKind.CLIENT),
            ("server", SpanKind.SERVER),
            ("producer", SpanKind.PRODUCER),
            ("consumer", SpanKind.CONSUMER),
            ("internal", SpanKind.INTERNAL),
            (None, SpanKind.INTERNAL),
        ],
    )
    def test_kind(self, tracer: Tracer, told: str | None, kind: SpanKind) -> None:
        """``span.kind`` is the kind, and no attribute."""
        span = tracer.start_span("span", tags={"span.kind": told} if told else None)
        assert span.kind is kind
        assert span.unwrap().attributes == {}

    def test_kind_of_no_known_name(self, tracer: Tracer) -> None:
        """What can't be a kind stays as an attribute, also when it comes too late."""
        assert tracer.start_span("span", tags={"span.kind": "strange"}).unwrap().attributes == {"span.kind": "strange"}
        assert tracer.start_span("span").set_tag("span.kind", "client").unwrap().attributes == {"span.kind": "client"}

    @pytest.mark.parametrize("error", [True, "true", 1])
    @pytest.mark.parametrize("at_start", [True, False])
    def test_error(self, tracer: Tracer, error: Any, at_start: bool) -> None:
        """The tag ``error`` is the status, and no attribute."""
        span = tracer.start_span("span", tags={"error": error} if at_start else None)
        if not at_start:
            span.set_tag("error", error)
        assert span.unwrap().status.status_code is StatusCode.ERROR
        assert span.unwrap().attributes == {}

    @pytest.mark.parametrize("error", [False, "false"])
    def test_no_error(self, tracer: Tracer, error: Any) -> None:
        """An ``error`` that is false is the status OK."""
        assert tracer.start_span("span", tags={"error": error}).unwrap().status.status_code is StatusCode.OK

    def test_error_object(self, tracer: Tracer) -> None:
        """A logged exception is an exception event, with the other fields, and explains the status."""
        span = tracer.start_span("span")
        span.log_kv({"event": "error", "error.object": KeyError("lost"), "attempt": 2}, timestamp=7.5)
        (event,) = span.unwrap().events
        assert (event.name, event.timestamp) == ("exception", 7_500_000_000)
        assert event.attributes == {
            "exception.type": "KeyError",
            "exception.message": "'lost'",
            "attempt": 2,
        }
        assert span.unwrap().status.description == "KeyError: 'lost'"
        assert span.unwrap().attributes == {"error.type": "KeyError"}

    def test_error_of_which_a_message_is_told_in_place_of_its_own(self, tracer: Tracer) -> None:
        """The message of the log stands everywhere; the exception's own, which may hold secrets, nowhere."""
        span = tracer.start_span("span")
        try:
            raise OSError("sec" + "ret")
        except OSError as error:
            fields = {"message": "clean", "error.object": error, "error.kind": OSError, "stack": error.__traceback__}
        span.log_kv({"event": "error", **fields})
        assert "secret" not in repr(span.unwrap().events[0].attributes) + str(span.unwrap().status.description)
        assert span.unwrap().events[0].attributes["exception.stacktrace"].endswith("OSError: clean\n")

    def test_what_was_told_of_an_error_first_stands(self, tracer: Tracer) -> None:
        """A status code after an exception changes neither the type nor the explanation."""
        span = tracer.start_span("span", tags={"span.kind": "server"})
        span.log_kv({"event": "error", "error.object": KeyError("lost")})
        span.set_tag("http.status_code", 500).set_tag("error", True)
        assert span.unwrap().attributes == {"error.type": "KeyError", "http.response.status_code": 500}
        assert span.unwrap().status.description == "KeyError: 'lost'"

    def test_logs(self, tracer: Tracer) -> None:
        """They are events, named by ``event``, in all of OpenTracing's three forms."""
        span = tracer.start_span("span")
        span.log_kv({"event": "seen", "count": 2, "what": object})
        span.log_event("old", {"a": 1})
        span.log(event="older", payload="x", timestamp=1.0)
        span.log_kv({"no event": 1})
        assert [(event.name, dict(event.attributes)) for event in span.unwrap().events] == [
            ("seen", {"count": 2, "what": "<class 'object'>"}),
            ("old", {"payload": "{'a': 1}"}),
            ("older", {"payload": "x"}),
            ("log", {"no event": 1}),
        ]

    def test_any_value(self, tracer: Tracer, caplog: pytest.LogCaptureFixture) -> None:
        """Values that OpenTelemetry does not take are text; none raises or is complained of."""

        class Broken:
            def __str__(self) -> str:
                raise RuntimeError("no text")

        class Name(str):
            pass

        values = {
            "none": None,
            "bytes": b"caf\xc3\xa9",
            "huge": -(2**63) - 1,
            "name": Name("x"),
            "texts": ["a", "b"],
            "mixed": [1, "a"],
            "mapping": {"a": 1},
            "broken": Broken(),
            "flag": True,
        }
        span = tracer.start_span("span", tags=dict(values))
        assert dict(span.unwrap().attributes) == {
            "none": "None",
            "bytes": "café",
            "huge": str(-(2**63) - 1),
            "name": "x",
            "texts": ("a", "b"),
            "mixed": "[1, 'a']",
            "mapping": "{'a': 1}",
            "broken": f"<{__name__}.{Broken.__qualname__}>",
            "flag": True,
        }
        assert caplog.records == []

    def test_name(self, tracer: Tracer) -> None:
        """A name given later is this very name."""
        assert tracer.start_span("one").set_operation_name("SQL SELECT").unwrap().name == "SQL SELECT"

    def test_times(self, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
        """They are in seconds here, in nanoseconds there."""
        tracer.start_span("span", start_time=1000.25).finish(1001.5)
        (span,) = exporter.get_finished_spans()
        assert (span.start_time, span.end_time) == (1_000_250_000_000, 1_001_500_000_000)

    def test_after_its_end(
        self, tracer: Tracer, exporter: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Whatever is told to it, a second end included, is ignored without a word."""
        span = tracer.start_span("span")
        span.finish()
        assert span.is_recording is False
        span.set_tag("late", 1).log_kv({"event": "late"}).set_operation_name("late").finish()
        (finished,) = exporter.get_finished_spans()
        assert (finished.name, dict(finished.attributes), finished.events) == ("span", {}, ())
        assert caplog.records == []


class TestParents:
    """Which span a span is below."""

    def test_child_of_a_context_a_span_and_none(self, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
        """An explicit parent goes before the current one, in both ways to begin a span."""
        root = tracer.start_span("root")
        with tracer.start_active_span("current"):
            tracer.start_span("by context", child_of=root.context).finish()
            tracer.start_active_span("by span", child_of=root).close()
            start_child_span("by helper", tracer, root).finish()
            tracer.start_span("by current").finish()
            tracer.start_span("alone", ignore_active_span=True).finish()
        root.finish()
        assert tree(exporter.get_finished_spans()) == [
            "root",
            ["by context", "by span", "by helper"],
            "current",
            ["by current"],
            "alone",
        ]

    def test_references(self, tracer: Tracer) -> None:
        """The first child_of is the parent; all others are links with their type, a parent that is followed as well."""
        one, two, three = (tracer.start_span(name) for name in ("one", "two", "three"))
        follows, child = opentracing.follows_from(one.context), opentracing.child_of(two.context)
        both = tracer.start_span("both", references=[follows, child, opentracing.child_of(three.context)])
        assert both.unwrap().parent == two.context.unwrap()
        assert [(link.context, dict(link.attributes)) for link in both.unwrap().links] == [
            (one.context.unwrap(), {"opentracing.ref_type": "follows_from"}),
            (three.context.unwrap(), {"opentracing.ref_type": "child_of"}),
        ]
        after = tracer.start_span("after", references=follows)
        assert after.unwrap().parent == one.context.unwrap()
        assert [link.context for link in after.unwrap().links] == [one.context.unwrap()]
        assert tracer.start_span("child", references=child).unwrap().links == ()
        assert tracer.start_span("none", references=[opentracing.child_of(None)]).unwrap().parent is None

    def test_spans_of_others(self, tracer: Tracer, provider: TracerProvider) -> None:
        """Another tracer's are no parents; OpenTelemetry's and its shim's are."""
        native = provider.get_tracer("native").start_span("native")
        shim = create_tracer(provider).start_span("shim")
        for parent in (native, native.get_span_context()):
            assert tracer.start_span("span", child_of=parent).unwrap().parent == native.get_span_context()
        for parent in (shim, shim.context):
            assert tracer.start_span("span", child_of=parent).unwrap().parent == shim.context.unwrap()
        assert tracer.start_span("span", child_of=MockTracer().start_span("mock")).unwrap().parent is None
        assert tracer.start_span("span", child_of=opentracing.SpanContext()).unwrap().parent is None

    def test_a_remote_context_that_is_attached(self, tracer: Tracer) -> None:
        """It is the parent, and counts as current, although no span of this process is."""
        remote = trace.SpanContext(7, 8, is_remote=True, trace_flags=trace.TraceFlags(1))
        context.attach(trace.set_span_in_context(trace.NonRecordingSpan(remote)))
        assert tracer.start_span("span").unwrap().parent == remote
        with tracer.start_active_span("active") as scope:
            assert scope.span.unwrap().parent == remote
        assert (tracer.active_span.context.trace_id, tracer.active_span.context.span_id) == (7, 8)


class TestSampling:
    """What is recorded."""

    def test_a_span_that_does_not_record_costs_no_translation(self, exporter: InMemorySpanExporter) -> None:
        """Not one value of a tag is looked at."""

        class Untouchable:
            def __str__(self) -> str:
                raise AssertionError("translated")

            __hash__ = None  # type: ignore[assignment]

        for sampler in (sampling.ALWAYS_OFF, sampling.ParentBased(sampling.ALWAYS_OFF)):
            tracer = Tracer(TracerProvider(sampler, shutdown_on_exit=False))
            with tracer.start_active_span("root", tags={"a": Untouchable()}) as scope:
                assert scope.span.is_recording is False
                with tracer.start_span("child", tags={"db.statement": Untouchable(), "span.kind": "client"}) as child:
                    child.set_tag("b", Untouchable()).log_kv({"c": Untouchable()})
        assert exporter.get_finished_spans() == ()

    def test_the_sampler_sees_kind_name_and_attributes(self) -> None:
        """All by the conventions, as it would of a native span."""
        seen: list[Any] = []

        class Sampler(sampling.Sampler):
            def should_sample(self, parent_context: Any, trace_id: int, name: str, *args: Any, **_: Any) -> Any:
                seen.append((name, args[0], dict(args[1])))
                return sampling.SamplingResult(sampling.Decision.DROP)

            def get_description(self) -> str:
                return "test"

        tracer = Tracer(TracerProvider(Sampler(), shutdown_on_exit=False))
        tracer.start_span("SQL SELECT", tags={"span.kind": "client", "db.statement": "SELECT 1 FROM t"})
        assert seen == [
            (
                "SELECT t",
                SpanKind.CLIENT,
                {"db.query.text": "SELECT 1 FROM t", "db.operation.name": "SELECT", "db.query.summary": "SELECT t"},
            )
        ]

    def test_a_priority_of_0_records_nothing(self, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
        """Nor does any span below it; the trace goes on all the same."""
        with tracer.start_active_span("root"):
            with tracer.start_active_span("dropped", tags={"sampling.priority": 0}) as scope:
                tracer.start_span("below").finish()
                carrier: dict[str, str] = {}
                tracer.inject(scope.span.context, "http_headers", carrier)
            tracer.start_span("beside").finish()
        assert tree(exporter.get_finished_spans()) == ["root", ["beside"]]
        (root,) = (span for span in exporter.get_finished_spans() if span.name == "root")
        assert carrier["traceparent"].startswith(f"00-{root.context.trace_id:032x}-")
        assert carrier["traceparent"].endswith("-00")

    def test_a_root_with_a_priority_of_0(self, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
        """It has an identity that can travel."""
        with tracer.start_active_span("root", tags={"sampling.priority": 0}) as scope:
            assert scope.span.context.unwrap().is_valid
            assert tracer.active_span is scope.span
        assert exporter.get_finished_spans() == ()

    def test_a_child_with_a_priority_above_0(self, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
        """It is recorded in its trace, although its parent is not."""
        with tracer.start_active_span("dropped", tags={"sampling.priority": 0}) as scope:
            tracer.start_span("kept", tags={"sampling.priority": 1}).finish()
        (kept,) = exporter.get_finished_spans()
        assert kept.parent.span_id == scope.span.context.span_id
        assert kept.context.trace_id == scope.span.context.trace_id

    def test_a_priority_that_is_no_number(self, tracer: Tracer) -> None:
        """It is an attribute, no more."""
        span = tracer.start_span("span", tags={"sampling.priority": "high"})
        assert span.unwrap().attributes == {"sampling.priority": "high"}


class TestBaggage:
    """Baggage is in OpenTelemetry's context."""

    def test_children_have_it(self, tracer: Tracer) -> None:
        """By an explicit parent, by the current one, and native ones; siblings that were begun before don't."""
        with tracer.start_active_span("root") as scope:
            before = tracer.start_span("before")
            scope.span.set_baggage_item("user", "7")
            assert tracer.start_span("by current").get_baggage_item("user") == "7"
            assert tracer.start_span("by parent", child_of=scope.span).get_baggage_item("user") == "7"
            assert baggage.get_baggage("user") == "7"
            assert before.get_baggage_item("user") is None
        assert baggage.get_all() == {}
        assert tracer.start_span("by parent later", child_of=scope.span).context.baggage == {"user": "7"}

    def test_it_comes_from_native_code(self, tracer: Tracer) -> None:
        """Whatever is in the context when a span begins, the span has."""
        context.attach(baggage.set_baggage("user", "7"))
        assert tracer.start_span("span").context.baggage == {"user": "7"}

    def test_a_span_activated_later_brings_it(self, tracer: Tracer) -> None:
        """Native code sees it then; into a foreign trace it brings its own only."""
        span = tracer.start_span("span").set_baggage_item("user", "7")
        with tracer.scope_manager.activate(span, False):
            assert baggage.get_all() == {"user": "7"}
        with tracer.start_active_span("foreign") as scope:
            scope.span.set_baggage_item("other", "8")
            with tracer.scope_manager.activate(span, False):
                assert baggage.get_all() == {"user": "7"}
            assert baggage.get_all() == {"other": "8"}

    def test_a_root_in_the_midst_of_a_trace_has_none(self, tracer: Tracer) -> None:
        """``ignore_active_span`` ignores its baggage, too."""
        with tracer.start_active_span("outer") as scope:
            scope.span.set_baggage_item("user", "7")
            with tracer.start_active_span("root", ignore_active_span=True) as inner:
                assert inner.span.context.baggage == {}
                assert baggage.get_all() == {}

    def test_references_bring_all_of_theirs(self, tracer: Tracer) -> None:
        """Their baggage is joined."""
        one = tracer.start_span("one").set_baggage_item("a", "1")
        two = tracer.start_span("two").set_baggage_item("b", "2")
        references = [opentracing.child_of(one.context), opentracing.follows_from(two.context)]
        assert tracer.start_span("span", references=references).context.baggage == {"a": "1", "b": "2"}

    def test_a_context_does_not_change(self, tracer: Tracer) -> None:
        """What was handed out before an item was set lacks it."""
        span = tracer.start_span("span")
        before = span.context
        span.set_baggage_item("user", "7")
        assert (before.baggage, span.context.baggage) == ({}, {"user": "7"})


class TestTracer:
    """What a tracer is made from."""

    def test_without_an_sdk_it_propagates(self) -> None:
        """It records nothing, and hands on what it was given."""
        tracer = Tracer(trace.NoOpTracerProvider())
        carrier = {"traceparent": f"00-{7:032x}-{8:016x}-01"}
        with tracer.start_active_span("span", child_of=tracer.extract("http_headers", carrier)) as scope:
            assert scope.span.is_recording is False
            sent: dict[str, str] = {}
            tracer.inject(tracer.active_span.context, "http_headers", sent)
        assert sent == carrier
        assert tracer.active_span is None

    def test_a_tracer_of_the_shim_is_unwrapped(self, provider: TracerProvider, exporter: InMemorySpanExporter) -> None:
        """One trace, under a native parent and above a native child."""
        tracer = Tracer(create_tracer(provider))
        native = provider.get_tracer("native")
        with native.start_as_current_span("native"), tracer.start_active_span("ours"):
            native.start_span("native child").end()
        assert tree(exporter.get_finished_spans()) == ["native", ["ours", ["native child"]]]

    def test_a_tracer_of_opentelemetry_is_used_as_it_is(self, provider: TracerProvider) -> None:
        """Its instrumentation scope is its own."""
        span = Tracer(provider.get_tracer("shop", "1.2")).start_span("span")
        assert span.unwrap().instrumentation_scope.name == "shop"

    def test_its_instrumentation_scope(self, tracer: Tracer) -> None:
        """It names this package and the schema that the attributes follow."""
        scope = tracer.start_span("span").unwrap().instrumentation_scope
        assert scope.name == "opentracing_instrumentation"
        assert scope.schema_url == "https://opentelemetry.io/schemas/1.44.0"

    def test_wrong_arguments(self) -> None:
        """They say what is accepted."""
        with pytest.raises(ValueError, match="semconv = 'new': accepted are 'stable', 'old', 'dup'"):
            Tracer(semconv="new")
        with pytest.raises(ValueError, match="names = 'x': accepted are 'semconv', 'opentracing'"):
            Tracer(names="x")
        with pytest.raises(TypeError, match="neither a provider nor a tracer"):
            Tracer(opentracing.Tracer())

    def test_the_global_provider_may_come_later(self, exporter: InMemorySpanExporter) -> None:
        """A tracer made before there is one records as soon as there is."""
        tracer = Tracer()
        assert tracer.start_span("early").is_recording is False

    def test_durations_are_those_of_the_work(self, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
        """A span lasts from its start to its finish."""
        with tracer.start_active_span("work"):
            time.sleep(0.02)
        span = by_name(exporter.get_finished_spans())["work"]
        assert 0.02 <= (span.end_time - span.start_time) / 1e9 < 1
