"""SQLAlchemy: a statement on an open connection, plain and with comments, and similar statements counted meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, ClassVar

from opentracing_instrumentation.client_hooks import sqlalchemy as our_hook

from .cases import Hook
from .measure import Call


class SQLAlchemy(Hook):
    """A statement on an open connection to SQLite in memory."""

    name, ratio, idle = "sqlalchemy", 0.35, 6
    hook, instrumentor = "sqlalchemy", "sqlalchemy:SQLAlchemyInstrumentor"

    def __init__(self, stack: ExitStack) -> None:
        import sqlalchemy

        self._engine = sqlalchemy.create_engine("sqlite:///:memory:")
        stack.callback(self._engine.dispose)
        connection = stack.enter_context(self._engine.connect())
        self.call = partial(connection.exec_driver_sql, "SELECT 1")

    def instrumentor_options(self) -> dict[str, Any]:
        return {"engine": self._engine}


class _Commented(SQLAlchemy):
    """The same with comments, which ours makes without a tracer, too; theirs have the context of the span."""

    our_options: ClassVar[dict[str, Any]]

    @contextmanager
    def ours(self) -> Iterator[Call]:
        our_hook.instrument_engine(self._engine, enable_commenter=True, **self.our_options)
        try:
            yield self.call
        finally:
            our_hook.uninstrument_engine(self._engine)

    def instrumentor_options(self) -> dict[str, Any]:
        return {**super().instrumentor_options(), "enable_commenter": True}


class SQLAlchemyStatic(_Commented):
    """Comments that are always the same."""

    name, ratio, idle = "sqlalchemy static", 0.4, 15
    our_options: ClassVar[dict[str, Any]] = {"commenter_mode": "static"}


class SQLAlchemyFull(_Commented):
    """Comments with the context of the span, to which SQLite has to be forced: it compiles each statement anew."""

    name, ratio, idle = "sqlalchemy full", 0.5, 15
    our_options: ClassVar[dict[str, Any]] = {"commenter_mode": "full", "commenter_force": True}
