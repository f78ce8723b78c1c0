"""SQLAlchemy: one client span for each statement that is sent to a driver, by Core and ORM, sync and async.

The events of the class ``Engine`` see the statements of every engine, whenever and by whatever name of
``create_engine`` it was made; an ``AsyncEngine`` runs on an ``Engine``. A statement ends in ``after_cursor_execute``
or, if it fails or is cancelled, in ``handle_error``. A statement whose end nobody announces (an application's listener
that was called before ours raised, the option ``skip_user_error_events``, a reset in mid-flight) ends with its
execution context.

``_connection_begin_impl``, ``_connection_commit_impl`` and ``_connection_rollback_impl`` of both kinds of transactions
are what each begins and ends in; the events tell of the beginnings only. What they call logs in the name of its caller,
and so is not patched itself. The targets that have to do with the pool are explained in ``_sql_pool``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from opentracing.ext import tags as standard

from .. import n_plus_one
from .._core.calls import idle_database
from .._core.patching import Patcher, on_event, trace
from .._core.tags import PEER_HOST_IPV6
from ..request_context import current_span
from . import _sql_counts, _sql_engines, _sql_events
from ._dbapi2 import STATUS_CODE
from ._sql_engines import DRIVER, NAMESPACE, traced
from ._sql_execution import begin, failed, succeeded
from ._sql_options import Options
from ._sql_pool import POOL_TAGS, PoolPatcher
from ._sql_statements import BATCH_SIZE, OPERATION, ROWS, TABLE, batch_size
from ._sql_transactions import TransactionCall, transaction_call


class SQLAlchemyPatcher(PoolPatcher):
    """Traces SQLAlchemy."""

    library: ClassVar[str | None] = "sqlalchemy"
    supports = ">=1.4"
    spans = (
        "`SQL` and the statement's first word in capitals, comments aside: `SQL SELECT`; below a current span, also "
        "`sqlalchemy:connect` for a new connection, `sqlalchemy:checkout` for a wait for one, `sqlalchemy:ping` for "
        "the ping of `pool_pre_ping` and, if they are switched on, `sqlalchemy:begin`, `sqlalchemy:prepare`, "
        "`sqlalchemy:commit`, `sqlalchemy:rollback`"
    )
    tags: ClassVar[Mapping[str, str]] = {
        standard.SPAN_KIND: "`client`",
        standard.COMPONENT: "`sqlalchemy`",
        standard.DATABASE_TYPE: "the dialect: `postgresql`, `sqlite`, ...",
        standard.DATABASE_INSTANCE: "the engine's URL, its password and secret query parameters masked",
        DRIVER: "the driver: `psycopg2`, `asyncpg`, ...",
        NAMESPACE: "the database",
        standard.DATABASE_USER: "the user",
        standard.PEER_HOST_IPV4: "the server's host, if it is an IPv4 address",
        PEER_HOST_IPV6: "if it is an IPv6 address",
        standard.PEER_HOSTNAME: "if it is a name",
        standard.PEER_PORT: "the server's port, if the URL names it",
        standard.DATABASE_STATEMENT: "the statement as it is sent to the driver; bound parameters are not captured",
        OPERATION: "what it does: `SELECT`, `INSERT`, ...",
        TABLE: "the table that it reads or writes first",
        BATCH_SIZE: "how many sets of parameters it is executed with, if more than one",
        ROWS: "how many rows were inserted, updated or deleted, if the driver tells",
        STATUS_CODE: "the SQLSTATE of the database's error, or its own code, if that is how it ends",
        **{tag: f"of a `sqlalchemy:checkout`: the pool's `{name}`" for tag, name in POOL_TAGS.items()},
        _sql_counts.LEFT_OUT: "of the span above: how many statements below it have no span, by filter or duration",
        _sql_counts.LEFT_OUT_TIME: "their time in milliseconds",
        _sql_counts.TRANSACTIONS: "of the span above, if transactions are traced: how many there were",
        _sql_counts.TRANSACTION_STATEMENTS: "their statements",
        _sql_counts.TRANSACTION_TIME: "their time in milliseconds",
        n_plus_one.STATEMENT: "of the span above an N+1: the statement without its values",
        n_plus_one.COUNT: "how many similar ones there were",
        n_plus_one.DURATION: "their time in milliseconds",
    }
    settings = (
        "secret_query_parameters",
        "capture_sql_parameters",
        "nest_driver_spans",
        "legacy_peer_tags",
        "sql_mask_literals",
        "sql_min_duration",
        "sql_checkout_threshold",
        "sql_trace_connects",
        "sql_trace_pings",
        "sql_trace_transactions",
        "n_plus_one_threshold",
    )

    def install_patches(self) -> None:
        """Trace all engines, as soon as SQLAlchemy is imported; nothing if that is done already."""
        _sql_engines.trace_all()
        super().install_patches()

    def reset_patches(self) -> None:
        """Trace no engine any more, be it one of all or by itself."""
        _sql_engines.trace_none()
        super().reset_patches()

    def _install_patches(self) -> None:
        super()._install_patches()
        n_plus_one.reporters.add(self)

    def _reset_patches(self) -> None:
        n_plus_one.reporters.discard(self)
        super()._reset_patches()

    @property
    def traces_all(self) -> bool:
        """Whether all engines are traced, not single ones only."""
        return _sql_engines.all_traced()

    def trace_engine(self, engine: Any, options: Options | None) -> None:
        """Trace an engine, or the class of all, with these options; or, with ``None``, as if it had none."""
        _sql_engines.trace(engine, options)
        while (wanted := _sql_engines.any_traced()) != self.patches_installed:  # another thread may change it meanwhile
            if wanted:
                super().install_patches()
            else:
                super().reset_patches()

    @staticmethod
    @on_event("sqlalchemy.engine:Engine", "before_cursor_execute")
    def before_cursor_execute(
        conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> tuple[str, Any] | None:
        """Begin the statement's span, kept on its execution context; return the statement if it gets a comment."""
        engine = traced(conn.engine)
        if not engine or context is None:
            return None
        span = None
        is_idle = idle_database()
        is_left_alone = is_idle and not n_plus_one.wanted()
        if not (is_left_alone or (_sql_events.claimants and _sql_events.is_claimed(context, statement))):
            size = batch_size(parameters, context) if executemany else 1
            span = begin(engine, cursor, statement, context, size, is_idle)
        commenter = engine.commenter
        if commenter is None:
            return None
        sent = None if not parameters and context.no_parameters else parameters
        told = current_span() if span is None and commenter.adds_context else span
        commented = commenter(statement, sent, told, executemany, is_above=span is None)
        if span is not None and commenter.options.enable_attribute_commenter:
            span.set_tag(standard.DATABASE_STATEMENT, engine.rules.shown(commented))
        return commented, parameters

    @staticmethod
    @on_event("sqlalchemy.engine:Engine", "after_cursor_execute")
    def after_cursor_execute(
        conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> None:
        """Finish the statement's span."""
        succeeded(context, cursor)

    @staticmethod
    @on_event("sqlalchemy.engine:Engine", "handle_error")
    def handle_error(exception_context: Any) -> None:
        """Finish the span of a statement that failed."""
        error = exception_context.original_exception
        failed(exception_context.execution_context, error, exception_context.parameters)

    @trace(
        "sqlalchemy.engine.base:RootTransaction._connection_begin_impl",
        "sqlalchemy.engine.base:TwoPhaseTransaction._connection_begin_impl",
    )
    def begin(self, transaction: Any) -> TransactionCall | None:
        return transaction_call(transaction.connection, "begin")

    @trace("sqlalchemy.engine.base:TwoPhaseTransaction.prepare")
    def prepare(self, transaction: Any) -> TransactionCall | None:
        return transaction_call(transaction.connection, "prepare")

    @trace(
        "sqlalchemy.engine.base:RootTransaction._connection_commit_impl",
        "sqlalchemy.engine.base:TwoPhaseTransaction._connection_commit_impl",
    )
    def commit(self, transaction: Any) -> TransactionCall | None:
        return transaction_call(transaction.connection, "commit")

    @trace(
        "sqlalchemy.engine.base:RootTransaction._connection_rollback_impl",
        "sqlalchemy.engine.base:TwoPhaseTransaction._connection_rollback_impl",
    )
    def rollback(self, transaction: Any) -> TransactionCall | None:
        return transaction_call(transaction.connection, "rollback")


def instrument_engine(engine: Any, **options: Any) -> None:
    """Trace an engine, whether or not all are, and with options of its own.

    Args:
        engine: an ``Engine`` or ``AsyncEngine``, which may be in use; or the class ``Engine``, for all that have no
            options of their own. What an engine's ``execution_options`` returned stands for that engine.
        options: ``filter``, a function that takes the text of a statement and tells whether it shall have a span;
            ``mask_literals``, ``min_duration``, ``checkout_threshold``, ``trace_connects``, ``trace_pings``,
            ``trace_transactions``: each in place of the setting ``CONFIG.sql_...`` of that name; ``enable_commenter``,
            whatever ``CONFIG.sql_comments`` says, with ``commenter_mode`` (``"full"`` or ``"static"``),
            ``commenter_options``, ``enable_attribute_commenter``, ``commenter_force`` and ``commenter_prepend``: see
            :meth:`sqlcommenter.Options.of`.

    Raises:
        TypeError: it is no engine, or there is no such option.
        ValueError: an option does not accept its value.

    Once more for the same engine: the options given last are in force. Any thread may call it at any time.
    """
    _patcher_in_force().trace_engine(_sql_engines.engine_of(engine), Options(**options))


def uninstrument_engine(engine: Any) -> None:
    """Undo :func:`instrument_engine`; nothing if that was not done. While all engines are traced, this one still is.

    Args:
        engine: the engine, as for :func:`instrument_engine`.

    Raises:
        TypeError: it is no engine.
    """
    _patcher_in_force().trace_engine(_sql_engines.engine_of(engine), None)


def _patcher_in_force() -> SQLAlchemyPatcher:
    return globals()["patcher"]  # type: ignore[no-any-return]


patcher: SQLAlchemyPatcher
set_patcher: Callable[[Patcher], None]
install_patches: Callable[[], None]
reset_patches: Callable[[], None]

SQLAlchemyPatcher.configure_hook_module(globals())
