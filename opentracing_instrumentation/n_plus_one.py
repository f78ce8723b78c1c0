"""N+1: one statement that is sent again and again below one span, told of while it happens.

A loop over fifty orders that reads ``order.customer`` sends fifty statements, alike except for their values, where one
would do. Hooks report each statement to :func:`observe`, which counts the similar ones below each span. As many as
``CONFIG.n_plus_one_threshold`` are a :class:`Finding`. It is logged once, at WARNING; the span has tags that tell of
it, up to date at every moment (beyond a hundred statements, to one in a hundred); the function given to
:func:`set_callback` is called once. Inside :func:`forbid`, for tests, it is an error.

Spans are known by their identity, and as long as they live. Counted are the first hundred different statements below
each; with a thousand spans alive, the older half is forgotten. A span to which there can be no weak reference is not
counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, NamedTuple
from weakref import WeakSet

from opentracing import Span

from ._core.call_site import call_site
from ._core.safety import fork_safe_lock, logger, report
from ._core.side_table import SideTable
from ._core.statements import masked
from .config import CONFIG, SETTINGS

__all__ = ["Block", "Cause", "Finding", "NPlusOneError", "forbid", "set_callback"]

#: The tags of a span below which there is an N+1; of several, the one with the most statements.
STATEMENT, COUNT, DURATION = "db.n_plus_one.statement", "db.n_plus_one.count", "db.n_plus_one.duration_ms"

_STATEMENTS = 100  # different ones that are counted below a span
_SPANS = 1000  # below which statements are counted at a time
_ADDED = 100  # of which each is remembered by itself, at most
_EXACT = 128  # similar ones, up to which each is told of at once
_FINDINGS = 100  # that a block remembers
_UNSEEN = 10  # statements that are kept before anybody looks at them
_KEPT = 1000  # characters of a statement that nobody has looked at
_SHOWN = 200  # characters of a statement in a line of text


class Cause(NamedTuple):
    """What an ORM sent a statement for."""

    #: What it loads, by class and attribute: ``Order.customer``. Of an object that has expired, the class.
    relationship: str
    #: What would have loaded it with the rest, ``selectinload(Order.customer)``, if that is known.
    option: str | None
    #: Why it is loaded: a ``lazy load``, a ``deferred load``, a ``late load``, a ``refresh after expiry``.
    reason: str = "lazy load"

    def __str__(self) -> str:
        advice = f"; {self.option} avoids it" if self.option else ""
        return f"{self.reason} of {self.relationship}{advice}"


@dataclass(frozen=True)
class Finding:
    """Similar statements below one span, as many as there were when this was made."""

    #: The statement without its values.
    statement: str
    #: How many there were.
    count: int
    #: How long they took together, in seconds.
    seconds: float
    #: The line of the application's code that sent the one that was too many, as ``file:line in function``, if any.
    line: str | None
    #: What an ORM sent them for, if one did, and it can be told.
    cause: Cause | None
    #: The span, or ``None`` where there was none.
    parent: Any = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        text = " ".join(self.statement.split())
        text = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
        place = f" at {self.line}" if self.line else ""
        cause = f" ({self.cause})" if self.cause else ""
        return f"{self.count} similar statements in {self.seconds * 1000:.1f} ms{place}: {text}{cause}"


class NPlusOneError(AssertionError):
    """There was an N+1 where :func:`forbid` forbids it.

    Attributes:
        findings: what there was.
    """

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n- ".join([f"{len(findings)} N+1 found:", *map(str, findings)]))
        self.findings = findings


Explain = Callable[[Any], "Cause | None"]

_similar_to = lru_cache(maxsize=1024)(masked)


#: Guards the sums. Counting does without, as long as nothing is found.
_lock = fork_safe_lock()


class _Similar:
    """The similar statements below one span."""

    count = 0
    seconds = 0.0
    is_found = False
    line: str | None = None
    cause: Cause | None = None

    def __init__(self, statement: str) -> None:
        self.statement = statement
        self._added: list[float] = []  # the seconds of those that are not in the sums

    def add(self, seconds: float, threshold: int) -> bool:
        """Count one more; tell whether they are too many. Any thread may, and what a destructor sends in its midst.

        Of very many, it is not each that says so, but each hundredth.
        """
        added = self._added
        added.append(seconds)
        number, count = len(added), self.count  # in this order: none is in neither
        can_wait = number * _EXACT < count if count >= threshold else number + count < threshold
        if can_wait and number < _ADDED:
            return False
        with _lock:
            self._sum_up()
            return self.count >= threshold

    def _sum_up(self) -> None:
        number = len(self._added)
        self.seconds += sum(self._added[:number])
        self.count += number
        del self._added[:number]

    def is_new(self) -> bool:
        """Tell, to the first of those who ask, that it is the first."""
        if self.is_found:
            return False
        with _lock:
            first, self.is_found = not self.is_found, True
        return first

    def sums(self) -> tuple[str, int, float]:
        """Return the statement, how many there are, and the seconds that these took."""
        with _lock:
            self._sum_up()
            return self.statement, self.count, self.seconds

    def finding(self, parent: Any) -> Finding:
        return Finding(*self.sums(), self.line, self.cause, parent)


class _Tally(dict[str, _Similar]):
    """The statements below one span, by what is similar about them.

    Nobody looks at the first few as long as they could not be too many: below most spans it stays at that.
    """

    worst: _Similar | None = None

    def __init__(self) -> None:
        super().__init__()
        self.by_text: dict[str, _Similar] = {}  # of statements as they came, the first ones
        self._first: list[tuple[str, float]] | None = []

    def add(self, statement: str, seconds: float, threshold: int) -> _Similar | None:
        """Count a statement; return those like it if they are too many."""
        if self._first is not None:
            with _lock:
                if self._first is not None:
                    self._first.append((statement if len(statement) <= _KEPT else _similar_to(statement), seconds))
                    if len(self._first) < min(threshold, _UNSEEN):
                        return None
                    *others, _ = self._first
                    self._first = None
                    for other in others:
                        self.add(*other, threshold)
        text, statement = statement, _similar_to(statement)
        similar = self.get(statement)
        if similar is None:
            if len(self) >= _STATEMENTS:
                return None
            similar = self.setdefault(statement, _Similar(statement))
        if len(self.by_text) < _STATEMENTS and len(text) <= _KEPT:
            self.by_text[text] = similar
        return similar if similar.add(seconds, threshold) else None

    def tag(self, span: Any, similar: _Similar) -> None:
        """Tag the span with the worst, which these may be. Whoever is last to tag it sees that none has come since."""
        with _lock:
            worst = self.worst
            if worst is None or similar.count > worst.count:
                worst = self.worst = similar
        tagged = None
        while tagged != (sums := worst.sums()):
            tagged = statement, count, seconds = sums
            span.set_tag(STATEMENT, statement)
            span.set_tag(COUNT, count)
            span.set_tag(DURATION, round(seconds * 1000, 3))
            worst = self.worst or worst


class _Watch:
    """The statements below each span, or whatever stands for one."""

    def __init__(self) -> None:
        self.tallies: SideTable[_Tally] = SideTable()

    def add(
        self, span: Any, statement: str, seconds: float, threshold: int, explain: Explain | None, context: Any
    ) -> tuple[_Tally, _Similar, bool] | None:
        """Count a statement; if those like it are too many, return them, and whether that is new."""
        tally = self.tallies.get(span)
        if tally is None:
            if len(self.tallies) >= _SPANS:
                self.tallies.pop_older_half()
            try:
                tally = self.tallies.setdefault(span, _Tally())
            except TypeError:  # no weak references to it
                return None
        similar = tally.add(statement, seconds, threshold)
        return None if similar is None else self.found(tally, similar, explain, context)

    def found(
        self, tally: _Tally, similar: _Similar, explain: Explain | None, context: Any
    ) -> tuple[_Tally, _Similar, bool]:
        """Return the statements that are too many, and whether that is new."""
        is_new = similar.is_new()
        if is_new:
            similar.line = call_site(library_between=explain is not None)
            if explain is not None:
                similar.cause = _isolated("the cause of an N+1", explain, context)
        return tally, similar, is_new


_watch = _Watch()
_callback: Callable[[Finding], object] | None = None

#: The hooks that report every statement, whether or not it has a span, as long as they are installed.
reporters: WeakSet[Any] = WeakSet()


def set_callback(callback: Callable[[Finding], object] | None) -> None:
    """Set the function that is told of every finding, once, when the statements have become too many.

    Args:
        callback: is called with a :class:`Finding`, by the thread or task that sent the statement, which waits for it;
            what it raises is logged. ``None`` for nobody.

    It may be called at any time, from any thread.
    """
    global _callback  # noqa: PLW0603 - one setting for the process, on purpose
    _callback = callback


def observe(
    parent: Any,
    statement: str,
    seconds: float,
    explain: Explain | None = None,
    context: Any = None,
    is_mysql: bool = False,
) -> None:
    """Count a statement that has been sent. For hooks; it never raises.

    Args:
        parent: the span that its span is below, if there is one.
        statement: its text.
        seconds: how long it took.
        explain: is called with ``context``, once for each finding, and tells the cause, if it can. To be given by hooks
            of libraries that send statements for the application, and by those only.
        context: what ``explain`` needs to know.
        is_mysql: whether it was sent to MySQL, which takes what is in double quotes for a value.

    Thread- and async-safe.
    """
    try:
        threshold, inside = CONFIG.n_plus_one_threshold, _inside.get()
        if not (threshold or inside or _everywhere):
            return
        if is_mysql and '"' in statement:
            statement = masked(statement, mysql=True)
        unwrap = getattr(parent, "unwrap", None)
        span = parent if unwrap is None else unwrap()  # what stands for one and the same may be made anew each time
        if threshold:
            tally = _watch.tallies.get(span)
            similar = None if tally is None else tally.by_text.get(statement)
            found = None
            if tally is None or similar is None:
                if not _is_nobody(span):
                    found = _watch.add(span, statement, seconds, threshold, explain, context)
            elif similar.add(seconds, threshold):
                found = _watch.found(tally, similar, explain, context)
            if found is not None:
                _tell(parent, *found)
        for block in (*_everywhere, *inside):
            block.add(parent, span, statement, seconds, explain, context)
    except Exception as error:
        report("counting the statements below a span", error)


def _is_nobody(span: Any) -> bool:
    """Tell whether there is no span, or only the no-op span of everybody."""
    return span is None or type(span) is Span


def _tell(parent: Any, tally: _Tally, similar: _Similar, is_new: bool) -> None:
    _isolated("tagging the parent of an N+1", tally.tag, parent, similar)
    if is_new:
        finding = similar.finding(parent)
        logger.warning("N+1: %s", finding)
        if _callback is not None:
            _isolated("the function given to n_plus_one.set_callback", _callback, finding)


def _isolated(place: str, function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except Exception as error:
        report(place, error)
        return None


# Blocks without an N+1


class Block:
    """A block in which an N+1 is an error; made by :func:`forbid`, to be entered once."""

    def __init__(self, threshold: int, everywhere: bool) -> None:
        self.threshold = threshold
        self._is_everywhere = everywhere
        self._is_open = False
        self._has_seen_any = False
        self._watch = _Watch()
        self._found: list[tuple[_Similar, Any]] = []

    @property
    def findings(self) -> list[Finding]:
        """What there was so far, the first hundred."""
        return [similar.finding(parent) for similar, parent in self._found]

    def add(
        self, parent: Any, span: Any, statement: str, seconds: float, explain: Explain | None, context: Any
    ) -> None:
        """Count a statement below a span; ``parent`` is how that was given."""
        if not self._is_open:  # in a task that goes on after the end of the block
            return
        self._has_seen_any = True
        owner = self if _is_nobody(span) else span
        found = self._watch.add(owner, statement, seconds, self.threshold, explain, context)
        if found is not None and found[2] and len(self._found) < _FINDINGS:
            self._found.append((found[1], parent))

    def __enter__(self) -> Block:
        self._is_open = True
        if self._is_everywhere:
            _everywhere.append(self)
        else:
            _inside.set((*_inside.get(), self))
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> Literal[False]:
        self._is_open = False
        if self._is_everywhere:
            _everywhere.remove(self)
        else:
            _inside.set(tuple(block for block in _inside.get() if block is not self))
        if error is None:
            if self._found:
                raise NPlusOneError(self.findings)
            if not (self._has_seen_any or reporters):
                raise RuntimeError(
                    "forbid(): nobody reports statements, so no N+1 could be seen; install the hook of SQLAlchemy"
                    " (opentracing_instrumentation.client_hooks.sqlalchemy.install_patches()) before the block,"
                    " or give the statements of a driver's hook a span to be below"
                )
        return False


_everywhere: list[Block] = []
_inside: ContextVar[tuple[Block, ...]] = ContextVar("opentracing_instrumentation.n_plus_one", default=())


def forbid(threshold: int | None = None, *, everywhere: bool = False) -> Block:
    """Return a block, for ``with``, at whose end an N+1 in it is an error. No tracer is needed.

    Args:
        threshold: how many similar statements, below one span or without any, are an N+1;
            ``CONFIG.n_plus_one_threshold`` if ``None``, or its default where that is 0.
        everywhere: count the statements of the whole process, not only those of the thread or task that has entered the
            block and of the tasks that are begun in it.

    Raises:
        ValueError: ``threshold`` is no whole number above 0.

    The end of the block raises :class:`NPlusOneError`, unless the block itself has raised; and ``RuntimeError`` if
    no hook reports the statements. Blocks may be nested; each counts for itself. One in a coroutine may ``await``.
    """
    if threshold is None:
        threshold = CONFIG.n_plus_one_threshold or SETTINGS["n_plus_one_threshold"].default  # type: ignore[assignment]
    if not isinstance(threshold, int) or isinstance(threshold, bool) or threshold < 1:
        raise ValueError(f"forbid(threshold={threshold!r}): accepted is a whole number, 1 or more, or None")
    return Block(threshold, everywhere)


def wanted() -> bool:
    """Tell whether statements are to be reported although they have no span: a :func:`forbid` block is open here."""
    return bool(_everywhere or _inside.get())
