"""What a span costs in OpenTelemetry: our hooks on ``otel.Tracer`` beside OpenTelemetry's own, over the same SDK.

``python -m bench.otel`` measures every case of :mod:`bench.suite` in three situations: where spans are recorded, where
they are sampled out, and where there is no SDK. It fails when a budget is broken.

The *floor* of a case is what the provider itself takes for our spans: to begin and end each, by its API and with the
very attributes that ours has in the end, and nothing else. No hook can cost less, unless it begins no span.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import click
import opentracing
from opentelemetry import context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, DEFAULT_ON
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from opentracing_instrumentation.otel import Tracer

from .cases import Case
from .measure import Call, costs
from .results import MICROSECONDS
from .suite import CASES
from .tracers import no_tracer

#: Budgets: what ours may add to a call as a share of what theirs adds, where spans are recorded.
RECORDED = dict.fromkeys(("requests", "urllib", "tornado client", "boto3", "before_request", "wsgi"), 0.5)
RECORDED |= dict.fromkeys(("sqlalchemy", "sqlalchemy static", "sqlalchemy full", "psycopg2", "mysqldb"), 0.6)
RECORDED |= dict.fromkeys(("redis", "redis pipeline"), 0.6)
SAMPLED_OUT, WITHOUT_SDK, ELSE = 0.3, 0.2, 1.0
#: The cases that are nothing but a span, which costs what it costs.
BARE = ("bare span", "traced_function")


class BareSpan(Case):
    """A span that is begun, made current and ended, without any hook."""

    name, ratio, idle = "bare span", ELSE, 1

    @contextmanager
    def bare(self) -> Iterator[Call]:
        yield lambda: None

    @contextmanager
    def ours(self) -> Iterator[Call]:
        tracer = opentracing.tracer

        def call() -> None:
            with tracer.start_active_span("span"):
                pass

        yield call

    @contextmanager
    def theirs(self, provider: TracerProvider) -> Iterator[Call]:
        tracer = provider.get_tracer(__name__)

        def call() -> None:
            with tracer.start_as_current_span("span"):
                pass

        yield call


@dataclass(frozen=True)
class Row:
    """What was measured of a case in one situation: microseconds that each side adds, and the budget of the ratio."""

    case: str
    situation: str
    ours: float
    theirs: float
    floor: float
    budget: float

    @property
    def ratio(self) -> float:
        """What ours adds as a share of what theirs adds."""
        return self.ours / self.theirs

    @property
    def is_over(self) -> bool:
        """Whether the budget is broken."""
        return self.ratio > self.budget


def situations(kind: type[Case]) -> Iterator[tuple[str, Any, float]]:
    """Yield the situations by their names, with a provider and a budget."""
    is_bare = kind.name in BARE
    yield "recorded", TracerProvider(DEFAULT_ON, shutdown_on_exit=False), RECORDED.get(kind.name, ELSE)
    yield "sampled out", TracerProvider(ALWAYS_OFF, shutdown_on_exit=False), ELSE if is_bare else SAMPLED_OUT
    yield "no SDK", trace.NoOpTracerProvider(), ELSE if is_bare else WITHOUT_SDK


def measure(kind: type[Case], rounds: int, block: float) -> Iterator[Row]:
    """Measure a case in all situations."""
    with ExitStack() as stack:
        case = kind(stack)
        spans = _spans(case)
        for situation, provider, budget in situations(kind):
            variants = {
                "ours": lambda: _ours(case, provider),  # noqa: B023
                "theirs": lambda: _theirs(case, provider),  # noqa: B023
                "floor": lambda: _floor(case, provider, spans),  # noqa: B023
            }
            cost = costs(lambda: _bare(case), variants, rounds, block)
            added = {name: seconds * MICROSECONDS for name, seconds in cost.items() if name in variants}
            yield Row(kind.name, situation, **added, budget=budget)


@contextmanager
def _bare(case: Case) -> Iterator[Call]:
    with no_tracer(), case.bare() as call:
        yield call


@contextmanager
def _ours(case: Case, provider: Any) -> Iterator[Call]:
    with ExitStack() as stack:
        stack.enter_context(no_tracer())  # which is put back in the end
        opentracing.tracer = tracer = Tracer(provider)
        if case.has_parent:
            stack.enter_context(tracer.start_active_span("parent"))
        yield stack.enter_context(case.ours())


def _spans(case: Case) -> list[ReadableSpan]:
    """Return the spans that ours makes of a call."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(DEFAULT_ON, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with _ours(case, provider) as call:
        call()
        return list(exporter.get_finished_spans())


@contextmanager
def _floor(case: Case, provider: Any, spans: list[ReadableSpan]) -> Iterator[Call]:
    tracer = provider.get_tracer(__name__)
    with ExitStack() as stack:
        call = stack.enter_context(_bare(case))
        if case.has_parent:
            stack.enter_context(tracer.start_as_current_span("parent"))
        parent = context.get_current()

        def bare_with_spans() -> None:
            call()
            for span in spans:
                tracer.start_span(span.name, parent, span.kind, dict(span.attributes or {})).end()

        yield bare_with_spans


@contextmanager
def _theirs(case: Case, provider: Any) -> Iterator[Call]:
    with ExitStack() as stack:
        stack.enter_context(no_tracer())
        if case.has_parent:
            stack.enter_context(provider.get_tracer(__name__).start_as_current_span("parent"))
        yield stack.enter_context(case.theirs(provider))


@click.command()
@click.option("--only", multiple=True, type=click.Choice([BareSpan.name, *(case.name for case in CASES)]))
@click.option("--rounds", default=100, help="Blocks of calls that each variant gets.")
def main(only: tuple[str, ...], rounds: int) -> None:
    """Measure; the exit code is 1 if a budget is broken."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption="Microseconds that tracing adds; budgets in brackets.")
    for title in "case", "spans", "ours", "theirs", "floor", "ratio":
        table.add_column(title, justify="left" if title in ("case", "spans") else "right", no_wrap=True)
    cases: list[type[Case]] = [BareSpan, *CASES]
    rows = [row for case in cases if not only or case.name in only for row in measure(case, rounds, 0.002)]
    for row in rows:
        ratio = Text(f"{row.ratio:.2f} ({row.budget:g})", "red" if row.is_over else "green")
        table.add_row(row.case, row.situation, f"{row.ours:.1f}", f"{row.theirs:.1f}", f"{row.floor:.1f}", ratio)
    Console().print(table)
    sys.exit(any(row.is_over for row in rows))


if __name__ == "__main__":
    main(prog_name="python -m bench.otel")
