"""OpenTelemetry as an OpenTracing tracer: on its API alone, with its context as the only stack."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

import opentracing
from opentelemetry import context as otel_context
from opentelemetry import propagate
from opentelemetry import trace as otel
from opentelemetry.context import Context, get_current
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    NoOpTracer,
    ProxyTracer,
    ProxyTracerProvider,
    SpanKind,
    TraceFlags,
)
from opentracing import Format, Reference, ReferenceType, UnsupportedFormatException
from opentracing.ext import tags as standard

from ..interceptors import ClientInterceptors
from . import propagation
from .names import span_name
from .scope import SCOPE_KEY, Scope, ScopeManager, current_context
from .semconv import Conventions, Translation
from .span import SPAN_KEY, Span, SpanContext, is_dropped
from .values import nanoseconds

_DISTRIBUTION = "opentracing_instrumentation"
#: The entries of a context by which OpenTelemetry's instrumentations are told to be silent.
_SUPPRESSING, _SUPPRESSING_IN_TEXT = otel_context._SUPPRESS_INSTRUMENTATION_KEY, "suppress_instrumentation"
_SUPPRESSING_HTTP = otel_context._SUPPRESS_HTTP_INSTRUMENTATION_KEY
#: Tells of nearly all contexts, in one go, that there are none of these.
_says_nothing_of_silence = frozenset((_SUPPRESSING, _SUPPRESSING_IN_TEXT, _SUPPRESSING_HTTP)).isdisjoint

#: The entries of a context that tell no propagator anything where there is no span.
_NOTHING_TO_SAY = {SPAN_KEY, SCOPE_KEY}
#: The tags by which a hook's span tells that its call leaves this process, and a context may go along.
_OUTGOING = (standard.SPAN_KIND_RPC_CLIENT, standard.SPAN_KIND_PRODUCER)

_interceptors = ClientInterceptors.get_interceptors()

_INTERNAL = SpanKind.INTERNAL
_UNSAMPLED, _SAMPLED = TraceFlags(TraceFlags.DEFAULT), TraceFlags(TraceFlags.SAMPLED)


class Tracer(opentracing.Tracer):  # type: ignore[misc]
    """Begins OpenTelemetry's spans for whoever asks for OpenTracing's.

    Spans of both worlds are each other's parents, in any nesting. Any thread may use it; so may tasks and greenlets.

    Args:
        tracer_provider: OpenTelemetry's provider; ``None`` for the global one, also if that is set later. An
            OpenTelemetry tracer, or a tracer of ``opentelemetry-opentracing-shim``, is used as it is.
        semconv: the conventions that tags are translated to: ``"stable"``, ``"old"``, or ``"dup"`` for both.
        propagator: writes and reads TEXT_MAP and HTTP_HEADERS; ``None`` for OpenTelemetry's global one, which
            ``OTEL_PROPAGATORS`` configures.
        names: ``"semconv"`` names the spans of hooks by the conventions; ``"opentracing"`` leaves all names alone.

    Raises:
        ValueError: ``semconv`` or ``names`` is none of these.
    """

    def __init__(
        self,
        tracer_provider: Any = None,
        *,
        semconv: str = "stable",
        propagator: TextMapPropagator | None = None,
        names: str = "semconv",
    ) -> None:
        super().__init__(ScopeManager(self))
        #: The rules by which tags become attributes.
        self.conventions = Conventions(semconv, names)
        #: What it was given.
        self.tracer_provider = tracer_provider
        self._propagator = propagator
        self._otel = _otel_tracer(tracer_provider, self.conventions.schema_url)
        self._may_be_void = isinstance(self._otel, NoOpTracer | ProxyTracer)

    def unwrap(self) -> otel.Tracer:
        """Return OpenTelemetry's tracer."""
        return self._otel

    def is_idle(self, purpose: str | None = None) -> bool:
        """Tell whether a hook can call straight through here, because no span is wanted.

        None is where OpenTelemetry's own instrumentations are suppressed (``suppress_instrumentation()``), nor below a
        span that is sampled out or without an SDK, provided that no context has to travel.

        Args:
            purpose: ``"client"`` for a call that takes a context along; ``"http"`` for one that
                ``suppress_http_instrumentation()`` is meant for besides; ``"database"`` for one that takes no context
                along; ``None`` for any other, in which a context may arrive.
        """
        if purpose == "database" and self._may_be_void and not self.records:
            return True
        context = get_current()
        if not _says_nothing_of_silence(context) and _is_suppressed(context, purpose == "http"):
            return True
        if purpose == "database":
            above = context.get(SPAN_KEY)
            return type(above) is NonRecordingSpan and is_dropped(above)
        return self._may_be_void and purpose is not None and not self.records and self._says_nothing(context)

    @property
    def records(self) -> bool:
        """Whether there is an SDK, or another provider: without one, spans are nothing but a context that travels."""
        if not self._may_be_void:
            return True
        if type(self._otel) is not ProxyTracer or isinstance(otel.get_tracer_provider(), ProxyTracerProvider):
            return False
        self._may_be_void = False  # a global provider that is set stays
        return True

    @property
    def header_names(self) -> tuple[str, ...] | None:
        """Names, in lower case, of the only headers that :meth:`extract` looks at; ``None`` if it may look at any."""
        is_ours = type(self).extract is Tracer.extract
        return propagation.W3C_HEADERS if is_ours and propagation.is_w3c(self._textmap()) else None

    def _says_nothing(self, context: Context) -> bool:
        """Tell whether there is nothing in a context that would be injected, and nobody who would look at a request."""
        span: Any = context.get(SPAN_KEY)
        if span is not None and span.get_span_context().is_valid:
            return False
        if _interceptors or not _NOTHING_TO_SAY.issuperset(context):
            return False
        return propagation.is_w3c(self._textmap())

    def _textmap(self) -> TextMapPropagator:
        return self._propagator or propagate.get_global_textmap()

    def start_active_span(
        self,
        operation_name: str,
        child_of: Any = None,
        references: Any = None,
        tags: dict[str, Any] | None = None,
        start_time: float | None = None,
        ignore_active_span: bool = False,
        finish_on_close: bool = True,
    ) -> Scope:
        """Begin a span and make it current; see :meth:`start_span`.

        Args:
            finish_on_close: whether the span ends with the scope.
        """
        span = self.start_span(operation_name, child_of, references, tags, start_time, ignore_active_span)
        return Scope(self._scope_manager, span, finish_on_close)

    def start_span(
        self,
        operation_name: str | None = None,
        child_of: Any = None,
        references: Any = None,
        tags: dict[str, Any] | None = None,
        start_time: float | None = None,
        ignore_active_span: bool = False,
    ) -> Span:
        """Begin a span.

        Args:
            operation_name: its name.
            child_of: its parent, as span or context. One of another tracer's counts as none.
            references: one or several; the first ``child_of``, else the first of all, is the parent. All but a
                ``child_of`` parent become links.
            tags: the tags to begin with. ``span.kind`` decides on OpenTelemetry's kind; a ``sampling.priority`` of 0
                has nothing recorded, a greater one has a child recorded whatever its parent says.
            start_time: in seconds since the epoch; now, if ``None``.
            ignore_active_span: begin a trace where there is no reference, even if a span is current.

        A span with a ``span.kind``, as hooks begin it, is not recorded in a block of OpenTelemetry's
        ``suppress_instrumentation()``, nor one of HTTP in a block of ``suppress_http_instrumentation()``. One of a
        client or producer below a span that is sampled out is not either, and has that one's identity: no sampler is
        asked.
        """
        current = current_context()
        context, links = _placed(child_of, references, current)
        if context is None:
            context = Context() if ignore_active_span else current
        name, started_at = operation_name or "", None if start_time is None else nanoseconds(start_time)
        above: Any = context.get(SPAN_KEY)
        instead: otel.Span | None
        if tags and standard.SAMPLING_PRIORITY in tags:
            context, instead = _prioritized(context, tags[standard.SAMPLING_PRIORITY])
        elif self._may_be_void and not self.records:
            instead = _stand_in(above)
        else:
            instead = _dropped(above, tags) if tags and type(above) is NonRecordingSpan else None
        if instead is not None:
            return Span(self, instead, context)
        if not tags:
            started = self._otel.start_span(name, context, _INTERNAL, None, links, started_at)
            return Span(self, started, context)
        plan = self.conventions.plan(name, tags)
        kind = plan.kind
        if not _says_nothing_of_silence(current) and _is_to_be_silent(current, kind, tags):
            return Span(self, NonRecordingSpan(otel.get_current_span(context).get_span_context()), context)
        is_undecided = above is None or type(above) is NonRecordingSpan  # it is the sampler who asks for attributes
        translation = Translation(plan, tags)
        attributes = translation if is_undecided else translation.attributes()
        name = plan.name or span_name(name, tags)
        started = self._otel.start_span(name, context, kind, attributes, links, started_at)
        span = Span(self, started, context, kind)
        if translation.is_error is not None and span.is_recording:
            span.tell({}, translation.is_error)
        return span

    def inject(self, span_context: Any, format: Any, carrier: Any) -> None:  # noqa: A002
        """Put a span's context, baggage included, into a carrier.

        Args:
            span_context: the context, or the span. Another tracer's is not injected.
            format: TEXT_MAP, HTTP_HEADERS, or BINARY: that takes a ``bytearray``, and is W3C's whatever the propagator.
            carrier: takes items.

        Raises:
            UnsupportedFormatException: it is none of these formats.
        """
        if format not in self._supported_formats:
            raise UnsupportedFormatException(format)
        ours = span_context if type(span_context) is SpanContext else _span_context(span_context)
        if ours is None:
            return
        if format == Format.BINARY:
            propagation.inject_binary(ours, carrier)
        else:
            propagation.inject(ours, carrier, self._textmap())

    def extract(self, format: Any, carrier: Any) -> SpanContext | None:  # noqa: A002
        """Return the span context that a carrier holds.

        Returns:
            the context; one without a span if there is only baggage; ``None`` if there is nothing, or nothing that can
            be read.

        Raises:
            UnsupportedFormatException: ``format`` is none of :meth:`inject`'s.
        """
        if format not in self._supported_formats:
            raise UnsupportedFormatException(format)
        if format == Format.BINARY:
            return propagation.extract_binary(carrier)
        return propagation.extract(carrier, self._textmap())


def _is_suppressed(context: Context, is_http: bool) -> bool:
    """Tell whether OpenTelemetry's instrumentations are to be silent: its exporters say so of their own requests."""
    return bool(
        context.get(_SUPPRESSING) or context.get(_SUPPRESSING_IN_TEXT) or (is_http and context.get(_SUPPRESSING_HTTP))
    )


def _otel_tracer(provider: Any, schema_url: str) -> otel.Tracer:
    if provider is not None and not hasattr(provider, "get_tracer"):
        if hasattr(provider, "unwrap"):
            provider = provider.unwrap()
        if not isinstance(provider, otel.Tracer):
            raise TypeError(f"tracer_provider: {provider!r} is neither a provider nor a tracer of OpenTelemetry's")
        return provider
    return otel.get_tracer(_DISTRIBUTION, version(_DISTRIBUTION), provider, schema_url)


def _span_context(reference: Any) -> SpanContext | None:
    """Return the context that a span or a context is, or ``None`` if OpenTelemetry does not know it."""
    if type(reference) is SpanContext:
        return reference
    if isinstance(reference, opentracing.Span):
        reference = reference.context
        if type(reference) is SpanContext:
            return reference
    if hasattr(reference, "unwrap"):  # of the shim
        reference = reference.unwrap()
    if isinstance(reference, otel.Span):
        reference = reference.get_span_context()
    if isinstance(reference, otel.SpanContext):
        return SpanContext(NonRecordingSpan(reference), None)
    return None


def _below(parent: SpanContext, current: Context) -> Context:
    """Return the context to begin a child in: the current one, if the parent is the current span."""
    if parent.span is not current.get(SPAN_KEY):
        return parent.otel_context()
    return parent.with_baggage(current) if parent.adds_baggage else current


def _placed(child_of: Any, references: Any, current: Context) -> tuple[Context | None, Sequence[Link]]:
    """Return the context to begin a span in, or ``None`` if there is nothing to be its parent; and its links."""
    if references is not None:
        return _linked(child_of, references, current)
    if child_of is None:
        return None, ()
    parent = child_of if type(child_of) is SpanContext else _span_context(child_of)
    return None if parent is None else _below(parent, current), ()


def _linked(child_of: Any, references: Any, current: Context) -> tuple[Context | None, list[Link]]:
    given: Iterable[Reference] = [references] if isinstance(references, Reference) else references
    known = [(ReferenceType.CHILD_OF, _span_context(child_of))]
    known += [(reference.type, _span_context(reference.referenced_context)) for reference in given]
    found = [(kind, context) for kind, context in known if context is not None]
    if not found:
        return None, []
    children = [pair for pair in found if pair[0] == ReferenceType.CHILD_OF]
    parent = (children or found)[0]
    links = [
        Link(context.unwrap(), {"opentracing.ref_type": kind})
        for kind, context in found
        if (kind, context) != parent or kind != ReferenceType.CHILD_OF
    ]
    context = _below(parent[1], current)
    for _, other in found:
        context = other.with_baggage(context)
    return context, links


def _is_to_be_silent(context: Context, kind: SpanKind, tags: dict[str, Any]) -> bool:
    """Tell whether a span is one of a hook's where OpenTelemetry's instrumentations are to be silent."""
    return kind is not _INTERNAL and _is_suppressed(context, standard.HTTP_METHOD in tags)


def _stand_in(above: otel.Span | None) -> otel.Span:
    """Return what stands for a span where there is no SDK: whatever it is below, it is not that one."""
    if above is None:
        return INVALID_SPAN
    return above if type(above) is NonRecordingSpan else NonRecordingSpan(above.get_span_context())


def _dropped(above: NonRecordingSpan, tags: dict[str, Any]) -> NonRecordingSpan | None:
    """Return what stands for the span of an outgoing call below one that is sampled out; else ``None``."""
    return above if tags.get(standard.SPAN_KIND) in _OUTGOING and is_dropped(above) else None


def _prioritized(context: Context, priority: Any) -> tuple[Context, NonRecordingSpan | None]:
    """Return the context to begin a span of this priority in, or the span itself that is not recorded."""
    parent = otel.get_current_span(context).get_span_context()
    try:
        wanted = float(priority) > 0
    except (TypeError, ValueError):
        return context, None
    if not wanted:
        return context, NonRecordingSpan(_with_flags(parent, _UNSAMPLED))
    if parent.is_valid and not parent.trace_flags.sampled:
        forced = NonRecordingSpan(_with_flags(parent, _SAMPLED))
        return otel.set_span_in_context(forced, context), None
    return context, None


def _with_flags(parent: otel.SpanContext, flags: TraceFlags) -> otel.SpanContext:
    trace_id = parent.trace_id or random.getrandbits(128)
    span_id = parent.span_id or random.getrandbits(64)
    return otel.SpanContext(trace_id, span_id, is_remote=False, trace_flags=flags, trace_state=parent.trace_state)
