"""Comments in the statements of a driver whose own classes are traced; see :mod:`sqlcommenter`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from opentracing import Span

from .._core.safety import report
from ..config import CONFIG
from ..sqlcommenter import FULL, OFF, PREPARING_DRIVERS, Commenter, Options, default_options
from . import _sql_events

#: The cursor that is about to execute a statement of whose span the comment may tell, and the span.
_executing: ContextVar[tuple[Any, Span] | None] = ContextVar("opentracing_instrumentation.comments", default=None)


class Comments:
    """Comments the statements of one driver, by options of its own or by those for all.

    Args:
        module_name: the driver's module.
        family: of databases; see :class:`Commenter`.
        facts_of: tells, of the driver's module, its version as ``db_driver`` and what else is known of it, besides what
            PEP 249 asks for.
    """

    def __init__(self, module_name: str, family: str, facts_of: Callable[[Any], Mapping[str, Any]]) -> None:
        self._module_name = module_name
        self._family = family
        self._facts_of = facts_of
        self._own_options: Options | None = None
        self._commenter: Commenter | None = None

    def set_comments(
        self, mode: str | None, commenter_options: Mapping[str, Any] | None = None, **options: bool
    ) -> None:
        """Give the comments of this driver's statements options of their own.

        Args:
            mode: ``"off"``, ``"static"``, ``"full"``; ``None`` for the options of all hooks again.
            commenter_options: see :meth:`sqlcommenter.Options.of`.
            options: ``enable_attribute_commenter``, ``force`` and ``prepend``, see there.

        Raises:
            ValueError: one of these is not accepted; nothing has been changed then.

        It holds for the next statement; any thread may call it.
        """
        self._own_options = None if mode is None else Options.of(mode, commenter_options, **options)

    @property
    def are_off(self) -> bool:
        """Whether no statement gets a comment."""
        own = self._own_options
        return (CONFIG.sql_comments if own is None else own.mode) == OFF

    def begin(self, cursor: Any, span: Span) -> None:
        """Note that a statement with this span is about to be given to :meth:`commented`."""
        options = self._own_options or default_options()
        if options.mode == FULL or options.enable_attribute_commenter:
            _executing.set((cursor, span))

    def commented(self, cursor: Any, statement: Any, parameters: Any) -> Any:
        """Return a statement with its comment, of the same type; or the very object. Never raises.

        Args:
            cursor: what it is executed on.
            statement: the statement. What is neither text nor bytes gets no comment.
            parameters: what it is executed with, or with each of.
        """
        try:
            options = self._own_options or default_options()
            commenter = self._commenter
            if commenter is None or commenter.options is not options:
                commenter = self._commenter = self._made(options)
            span = _begun(cursor)
            above = _sql_events.executing_on(cursor)
            commented = commenter(statement, parameters, above[1] if span is None and above else span)
            if span is not None and options.enable_attribute_commenter and commented is not statement:
                span.set_tag("sql", (commented if isinstance(commented, str) else commented.decode()).strip())
        except Exception as error:
            report(f"SQL comments for {self._module_name}", error)
            return statement
        return commented

    def _made(self, options: Options) -> Commenter:
        module, name = sys.modules[self._module_name], self._module_name
        facts = {
            "dbapi_level": module.apilevel,
            "dbapi_threadsafety": module.threadsafety,
            "driver_paramstyle": module.paramstyle,
            **self._facts_of(module),
        }
        return Commenter(
            options,
            driver=name,
            facts=facts,
            paramstyle=module.paramstyle,
            prepares=name in PREPARING_DRIVERS,
            family=self._family,
        )


def _begun(cursor: Any) -> Span | None:
    """Return the span of :meth:`Comments.begin` for the statement that this cursor is to execute, if it has one."""
    executing = _executing.get()
    if executing is None:
        return None
    _executing.set(None)
    return executing[1] if executing[0] is cursor else None
