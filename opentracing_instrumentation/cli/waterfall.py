"""Finished spans as a picture: one tree per trace, each span with its bar on the time axis of the trace.

What a span holds may come from a stranger's request, so no name, tag or error reaches the terminal with its
control characters, and none is read as markup. Clocks differ between machines: a bar begins where the bar of
its parent begins, at the earliest.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

from .._core.statements import masked
from ..config import CONFIG
from .records import Scalar, SpanRecord, from_json, to_json

try:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.text import Text
except ImportError as missing:
    raise ImportError(
        'the waterfall needs rich: pip install "opentracing_instrumentation[cli]"', name=missing.name
    ) from missing

__all__ = ["SpanRecord", "from_json", "render", "to_json"]


def render(spans: Iterable[Any], *, file: IO[str] | None = None, width: int | None = None) -> None:
    """Write the traces, the earliest first, to `file` (default: standard output).

    A terminal gets colours, anything else plain text, and a file that is not in Unicode gets ASCII.
    Traces of one span each that are alike, four of them in a row or more, share a picture.
    Siblings of one name are folded into one line from the fourth on: their number, and the sum of
    their durations, and "N+1" where one parent has sent so many similar statements to a database that
    it is one (`CONFIG.n_plus_one_threshold`).
    `width` in columns; default: that of the terminal, 80 without one.
    """
    console = Console(file=file, width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as drawn:
        for line in _lines(spans, console.width):
            console.print(line, no_wrap=True, overflow="crop", crop=True)
    text = drawn.get()
    if console.options.ascii_only:
        text = text.translate(_ASCII).encode(console.encoding, "replace").decode(console.encoding)
    console.file.write(text)


# From records to a tree.


class _Node:
    """One line of the picture: a span, or several of one name, with what lies below them."""

    def __init__(self, *nodes: _Node, span: SpanRecord | None = None) -> None:
        self.spans: list[SpanRecord] = [span] if span else [each for node in nodes for each in node.spans]
        self.children: list[_Node] = [child for node in nodes for child in node.children]

    @property
    def first(self) -> SpanRecord:
        return self.spans[0]

    def start(self) -> float:
        return self.first.start

    @property
    def alike(self) -> tuple[object, ...]:
        """What siblings have in common that may share a line."""
        return self.first.name, self.first.service, self.first.error


def _traces(spans: Iterable[Any]) -> list[list[SpanRecord]]:
    """The spans of each trace by their start, the earliest trace first."""
    traces: dict[str, list[SpanRecord]] = {}
    for span in sorted(map(SpanRecord.of, spans), key=lambda span: span.start):
        traces.setdefault(span.trace_id, []).append(span)
    return list(traces.values())


def _forest(spans: Sequence[SpanRecord]) -> list[_Node]:
    """The spans below their parents. A root is a span whose parent is not there, or is its own descendant."""
    nodes = [_Node(span=span) for span in spans]
    by_id: dict[str | None, _Node] = {}
    for node in nodes:
        by_id.setdefault(node.first.span_id, node)
    roots: list[_Node] = []
    for node in nodes:
        parent = by_id.get(node.first.parent_id)
        (parent.children if parent else roots).append(node)
    reached: set[_Node] = set()
    for root in roots:
        _reach(root, reached)
    for node in nodes:
        if node not in reached:  # no root leads here: it lies on a cycle, which is cut above it
            roots.append(node)
            _reach(node, reached)
    return roots


def _reach(root: _Node, reached: set[_Node]) -> None:
    """Note what lies below the root, and drop the edges that lead back."""
    reached.add(root)
    waiting = [root]
    while waiting:
        node = waiting.pop()
        node.children = [child for child in node.children if child not in reached]
        reached.update(node.children)
        waiting += node.children


_FOLDED_FROM = 4


def _folded(siblings: Sequence[_Node]) -> list[_Node]:
    groups: dict[tuple[object, ...], list[_Node]] = {}
    for node in sorted(siblings, key=_Node.start):
        groups.setdefault(node.alike, []).append(node)
    folded: list[_Node] = []
    for group in groups.values():
        folded += [_Node(*group)] if len(group) >= _FOLDED_FROM else group
    return sorted(folded, key=_Node.start)


# From a tree to lines.


@dataclass
class _Layout:
    """The columns of one trace: label, service, bar and duration, and what the bar spans in seconds."""

    start: float
    seconds: float
    colours: Mapping[str, str]
    label: int
    service: int
    bar: int

    @classmethod
    def of(cls, spans: Sequence[SpanRecord], roots: Sequence[_Node], width: int) -> _Layout:
        services = dict.fromkeys(_shown(span.service) for span in spans if span.service)
        service = min(12, max(map(cell_len, services))) + _GAP if services else 0
        bar = min(40, max(8, width // 5))
        start = min(root.first.start for root in roots)
        return cls(
            start=start,
            seconds=max(span.end for span in spans) - start,
            colours={name: _COLOURS[at % len(_COLOURS)] for at, name in enumerate(services)},
            label=max(8, width - service - bar - _DURATION - 2 * _GAP),
            service=service,
            bar=bar,
        )

    def half(self, moment: float) -> int:
        """The half column of the bar in which a moment lies; what lies outside goes to its ends."""
        part = (moment - self.start) / self.seconds if self.seconds > 0 else 0.0
        return round(min(max(0.0, part), 1.0) * 2 * self.bar)


class _Place(NamedTuple):
    """Where a node stands: below which guides, after which start of its parent's bar."""

    node: _Node
    guides: str = ""
    branch: str = ""
    floor: float = -math.inf


_GAP = 2
_DURATION = 7
_COLOURS = ("cyan", "magenta", "yellow", "blue", "green", "bright_cyan", "bright_magenta", "bright_yellow")
_ASCII = str.maketrans("│├└━╸╺◂·…µ", "||`=--<-~u")


def _lines(spans: Iterable[Any], width: int) -> Iterator[Text]:
    for number, traces in enumerate(_pictures(_traces(spans))):
        if number:
            yield Text()
        drawn = [span for trace in traces for span in trace]
        roots = [root for trace in traces for root in _forest(trace)]
        layout = _Layout.of(drawn, roots, width)
        yield _heading(traces, layout)
        waiting = [_Place(root) for root in reversed(_folded(roots))]
        while waiting:
            place = waiting.pop()
            yield from _line(place, layout, width)
            waiting += reversed(_below(place))


def _below(place: _Place) -> list[_Place]:
    guides = place.guides + {"": "", "├ ": "│ ", "└ ": "  "}[place.branch]
    floor = max(place.floor, place.node.first.start)
    children = _folded(place.node.children)
    last = len(children) - 1
    return [_Place(node, guides, "└ " if at == last else "├ ", floor) for at, node in enumerate(children)]


def _pictures(traces: Iterable[list[SpanRecord]]) -> Iterator[list[list[SpanRecord]]]:
    """The traces that share a picture: a program that has no spans of its own makes a trace of each statement."""
    for _, group in groupby(traces, _alike_if_lone):
        alike = list(group)
        yield from [alike] if len(alike) >= _FOLDED_FROM else ([trace] for trace in alike)


def _alike_if_lone(trace: Sequence[SpanRecord]) -> object:
    first = trace[0]
    return (*_Node(span=first).alike, _details(first)) if len(trace) == 1 else object()


def _heading(traces: Sequence[Sequence[SpanRecord]], layout: _Layout) -> Text:
    first, *others = traces
    errors = sum(span.error is not None for trace in traces for span in trace)
    counts = [(0 if others else len(first), "span"), (len(layout.colours), "service"), (errors, "error")]
    facts = [f"and {len(others)} more"] if others else []
    facts += [f"{count} {noun}{'s' if count > 1 else ''}" for count, noun in counts if count]
    heading = Text.assemble(("trace ", "dim"), (_shown(first[0].trace_id), "bold"))
    heading.append(" · ".join(["", *facts, _duration(layout.seconds)]), "dim")
    return heading


def _line(place: _Place, layout: _Layout, width: int) -> Iterator[Text]:
    node, error = place.node, place.node.first.error
    service = _shown(node.first.service or "")
    colour = "red" if error else layout.colours.get(service, _COLOURS[0])
    guides = place.guides + place.branch
    deepest = layout.label // 2
    if len(guides) > deepest:
        guides = "…" + guides[1 - deepest :]
    line = _label(node, guides)
    line.truncate(layout.label, overflow="ellipsis", pad=True)
    if layout.service:
        cell = Text().append(" " * _GAP + service, layout.colours.get(service))
        cell.truncate(layout.service, overflow="ellipsis", pad=True)
        line.append_text(cell)
    line.append(" " * _GAP + _bar(node.spans, place.floor, layout), colour)
    line.append(" " * _GAP + _duration(sum(span.duration for span in node.spans)).rjust(_DURATION))
    yield line
    if error and error != "error":  # which says no more than the mark
        below = guides.replace("├", "│").replace("└", " ") + ("│ " if node.children else "  ")
        message = Text.assemble((below, "dim"), (_shown(error), "red"))
        message.truncate(width, overflow="ellipsis")
        yield message


def _label(node: _Node, guides: str) -> Text:
    span = node.first
    label = Text().append(guides, "dim")
    if span.error:
        label.append("! ", "bold red")
    label.append(_shown(span.name) or "(no name)", "bold red" if span.error else "bold")
    if len(node.spans) > 1:
        label.append(f" x{len(node.spans)}", "bold yellow")
        if _is_n_plus_one(node.spans):
            label.append(" N+1", "bold red")
    if not guides and span.parent_id is not None:
        label.append(" (parent missing)", "yellow")
    details = [_details(each) for each in node.spans]
    return label.append(f" {_common(details)}", "dim")


def _is_n_plus_one(spans: Sequence[SpanRecord]) -> bool:
    """Tell whether one parent has sent similar statements to a database again and again."""
    statements = [((span.trace_id, span.parent_id), _statement(span)) for span in spans]
    similar = Counter((parent, masked(str(statement))) for parent, statement in statements if statement is not None)
    return 0 < CONFIG.n_plus_one_threshold <= max(similar.values(), default=0)


def _common(details: Sequence[str]) -> str:
    """What all begin with; an ellipsis stands for the rest."""
    first, last = min(details), max(details)
    if first == last:
        return first
    same = (at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    return first[: next(same, len(first))] + "…"


def _bar(spans: Sequence[SpanRecord], floor: float, layout: _Layout) -> str:
    """The time of the spans in half columns: never before the floor, never less than a half."""
    drawn = bytearray(2 * layout.bar)
    for span in spans:
        begin = min(layout.half(max(span.start, floor)), len(drawn) - 1)
        end = max(layout.half(span.end), begin + 1)
        drawn[begin:end] = b"\1" * (end - begin)
    cells = [_CELLS[drawn[at], drawn[at + 1]] for at in range(0, len(drawn), 2)]
    if any(span.start < floor for span in spans):
        cells[drawn.index(1) // 2] = "◂"
    return "".join(cells)


_CELLS = {(0, 0): " ", (1, 0): "╸", (0, 1): "╺", (1, 1): "━"}


def _duration(seconds: float) -> str:
    for unit, size in (("µs", 1e-6), ("ms", 1e-3)):
        if seconds < 999.5 * size:
            return f"{_three_digits(seconds / size)} {unit}"
    return f"{_three_digits(seconds)} s"


def _three_digits(number: float) -> str:
    decimals = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{decimals}f}"


# The tags that say most about a span: of each group the first that is there, without its key.
_TELLING = (
    ("http.status_code", "http.response.status_code"),
    ("http.url", "url.full", "http.route", "url.path"),
    ("db.statement", "db.query.text", "sql"),
)
# Families of tags that the rest of the line tells, or that are for queries more than for readers.
_SILENT = re.compile(
    r"(client|component|db|error|exception|http|net|network|otel|peer|sampling|server|span|sql|sqlalchemy"
    r"|telemetry|thread|url|user_agent)(\.|$)"
)


def _details(span: SpanRecord) -> str:
    telling = [next((span.tags[key] for key in group if span.tags.get(key) is not None), None) for group in _TELLING]
    telling[1] = _address(telling[1], span.kind)
    others = [f"{key}={value}" for key, value in span.tags.items() if not _SILENT.match(key)]
    words = " ".join(_shown(part) for part in [*telling, *others] if part is not None)
    verb = _shown(span.name).rpartition(" ")[2]  # said once: "SQL SELECT" and "SELECT 1" give "SQL SELECT 1"
    return words.removeprefix(f"{verb} ")


def _statement(span: SpanRecord) -> Scalar:
    """The database statement of a span, if it is one's."""
    return next((span.tags[key] for key in _TELLING[2] if span.tags.get(key) is not None), None)


def _address(url: Scalar, kind: str | None) -> Scalar:
    """What a URL tells: where a client asked, what a server was asked for."""
    try:
        parts = urlsplit(str(url))
    except ValueError:
        return url
    if not parts.netloc:
        return url
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    return path if kind == "server" else parts.netloc.rpartition("@")[2] + path


_LONGEST = 500


def _shown(value: Scalar) -> str:
    """Text for one line of a terminal: white space folded, nothing in it that moves or hides."""
    words = " ".join(str(value)[:_LONGEST].split())
    return "".join(char if char.isprintable() else "�" for char in words)
