"""Measuring one case and judging it by its budgets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from basictracer.recorder import InMemoryRecorder
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from .cases import Case
from .measure import Call, cost, costs
from .tracers import no_tracer, opentelemetry_provider, opentracing_tracer

MICROSECONDS = 1e6

#: What OpenTelemetry's SDK took to begin and end a span where the budgets in microseconds were set.
YARDSTICK = 8.0


@dataclass(frozen=True)
class Result:
    """What was measured of a case, in microseconds per call, and the case's budgets.

    Attributes:
        name: of the case.
        bare: cost of the call without tracing.
        ours: what our hook adds, with a tracer that records.
        theirs: what OpenTelemetry's adds.
        idle: what our hook adds while no tracer is set.
        ratio_budget: what ``ours / theirs`` may be.
        idle_budget: what ``idle`` may be on this machine, by the yardstick.
    """

    name: str
    bare: float
    ours: float
    theirs: float
    idle: float
    ratio_budget: float
    idle_budget: float

    @property
    def ratio(self) -> float:
        """What ours adds as a share of what theirs adds."""
        return self.ours / self.theirs

    @property
    def over(self) -> list[str]:
        """The budgets that are broken, by the names of their columns."""
        broken = {"ratio": self.ratio > self.ratio_budget, "idle": self.idle > self.idle_budget}
        return [name for name, is_broken in broken.items() if is_broken]


def measure(kind: type[Case], rounds: int, block: float) -> Result:
    """Measure a case.

    Args:
        kind: the case.
        rounds: number of blocks of calls that each variant gets.
        block: length of a block of the slowest variant, in seconds.

    Raises:
        RuntimeError: the two sides do not do the same work, which is one span with a parent for each call.
    """
    with ExitStack() as stack:
        case = kind(stack)
        _same_work(case)
        provider = opentelemetry_provider()
        variants = {
            "idle": lambda: _idle(case),
            "ours": lambda: _ours(case),
            "theirs": lambda: _theirs(case, provider),
        }
        before = _span_cost(provider)
        seconds = costs(lambda: _bare(case), variants, rounds, block)
        slowness = (before + _span_cost(provider)) / 2 / YARDSTICK
    measured = {name: value * MICROSECONDS for name, value in seconds.items()}
    return Result(kind.name, **measured, ratio_budget=kind.ratio, idle_budget=kind.idle * slowness)


def _span_cost(provider: TracerProvider) -> float:
    """Return what it takes to begin and end a span here and now, in microseconds: this machine's yardstick."""
    tracer = provider.get_tracer(__name__)
    return cost(lambda: tracer.start_span("span").end()) * MICROSECONDS


@contextmanager
def _bare(case: Case) -> Iterator[Call]:
    with no_tracer(), case.bare() as call:
        yield call


@contextmanager
def _idle(case: Case) -> Iterator[Call]:
    with no_tracer(), case.ours() as call:
        yield call


@contextmanager
def _ours(case: Case, recorder: InMemoryRecorder | None = None) -> Iterator[Call]:
    with ExitStack() as stack:
        tracer = stack.enter_context(opentracing_tracer(recorder))
        if case.has_parent:
            stack.enter_context(tracer.scope_manager.activate(tracer.start_span("parent"), False))
        yield stack.enter_context(case.ours())


@contextmanager
def _theirs(case: Case, provider: TracerProvider) -> Iterator[Call]:
    with ExitStack() as stack:
        stack.enter_context(no_tracer())
        if case.has_parent:
            stack.enter_context(provider.get_tracer(__name__).start_as_current_span("parent"))
        yield stack.enter_context(case.theirs(provider))


def _same_work(case: Case) -> None:
    recorder, exporter = InMemoryRecorder(), InMemorySpanExporter()
    with _ours(case, recorder) as call:
        call()
    with opentracing_tracer(recorder), case.bare() as call:
        call()
    ours = [span.parent_id is not None for span in recorder.get_spans()]
    with _theirs(case, opentelemetry_provider(SimpleSpanProcessor(exporter))) as call:
        call()
        theirs = [span.parent is not None for span in exporter.get_finished_spans()]
    if not (ours == theirs == [True]):
        raise RuntimeError(f"{case.name}: not one span with a parent for each call: ours {ours}, theirs {theirs}")
