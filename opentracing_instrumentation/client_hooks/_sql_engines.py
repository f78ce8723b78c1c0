"""Which of SQLAlchemy's engines are traced and how, and what the tags of their spans say of them.

All engines are, or those that were asked for one by one; an engine has options of its own or those of all. What an
engine's ``execution_options`` returned stands for that engine: they share a dialect, which no two engines do.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import Any, Literal
from weakref import WeakKeyDictionary

from opentracing.ext import tags as standard

from .. import sqlcommenter
from .._core.side_table import SideTable
from .._core.tags import redact_query
from ..config import CONFIG
from ..utils import peer_tags
from ._sql_options import Options
from ._sql_statements import Description

_REMEMBERED = 1024  # descriptions of statements, for each engine
#: The tag for the driver's name.
DRIVER = "sqlalchemy.driver"
#: The tag for the database's name (OpenTelemetry semantic conventions, database spans).
NAMESPACE = "db.namespace"


class TracedEngine:
    """An engine that is traced: its rules, what comments its statements, if anything does, and the tags of its spans.

    The tags are those that all of its spans have, and not to be changed. It holds as long as the settings do that it
    was made by: ``assignments`` and ``patterns`` are theirs.
    """

    __slots__ = ("_described", "assignments", "commenter", "patterns", "rules", "tags")

    def __init__(self, engine: Any, options: Options) -> None:
        self.assignments = CONFIG.assignments
        self.patterns: Sequence[str] = CONFIG.secret_query_parameters[:]
        self.rules = options.in_force(_is_mysql(engine))
        self.commenter = None if options.comments.mode == sqlcommenter.OFF else _commenter(engine, options.comments)
        self.tags = _tags(engine)
        self._described: dict[Description, dict[str, Any]] = {}

    def tags_of(self, description: Description) -> dict[str, Any]:
        """Return the tags for a statement of this description; they are the caller's own."""
        tags = self._described.get(description)
        if tags is None:
            tags = {**self.tags, **description.tags}
            if len(self._described) < _REMEMBERED:
                self._described[description] = tags
        return tags.copy()


_lock = threading.Lock()
#: The options of all engines; ``None``: they are not traced.
_of_all: Options | None = None
#: The options of single engines, by their dialects.
_of_one: WeakKeyDictionary[Any, Options] = WeakKeyDictionary()
_known: SideTable[TracedEngine | Literal[False]] = SideTable()


def traced(engine: Any) -> TracedEngine | Literal[False]:
    """Return what is known of an engine if it is traced."""
    known = _known.get(engine)
    if known and known.assignments == CONFIG.assignments and known.patterns == CONFIG.secret_query_parameters:
        return known
    return known if known is False else _look(engine)


def _look(engine: Any) -> TracedEngine | Literal[False]:
    table = _known
    options = _of_one.get(engine.dialect, _of_all)
    known: TracedEngine | Literal[False] = options is not None and TracedEngine(engine, options)
    table.put(engine, known)
    return known


def trace_all() -> None:
    """Trace all engines, with the options that were given for all, if any."""
    global _of_all  # noqa: PLW0603
    with _lock:
        if _of_all is None:
            _of_all = Options()
            _forget()


def trace(engine: Any, options: Options | None) -> None:
    """Trace an engine, or the class for all, with these options; or, with ``None``, as if it had none."""
    global _of_all  # noqa: PLW0603
    with _lock:
        if isinstance(engine, type):
            _of_all = options
        elif options is None:
            _of_one.pop(engine.dialect, None)
        else:
            _of_one[engine.dialect] = options
        _forget()


def trace_none() -> None:
    """Trace no engine any more."""
    global _of_all  # noqa: PLW0603
    with _lock:
        _of_all = None
        _of_one.clear()
        _forget()


def all_traced() -> bool:
    """Tell whether all engines are traced."""
    return _of_all is not None


def any_traced() -> bool:
    """Tell whether any engine may be traced."""
    return _of_all is not None or bool(_of_one)


def _forget() -> None:
    global _known  # noqa: PLW0603 - replaced: a thread that is looking puts what it finds into the old one
    _known = SideTable()


def engine_of(obj: Any) -> Any:
    """Return the engine that is meant: an asynchronous one stands for the one that it runs on.

    Raises:
        TypeError: it is none.
    """
    from sqlalchemy.engine import Engine

    loaded = sys.modules.get("sqlalchemy.ext.asyncio")
    if loaded is not None and isinstance(obj, loaded.AsyncEngine):
        obj = obj.sync_engine
    if obj is not Engine and not isinstance(obj, Engine):
        raise TypeError(f"engine={obj!r}: accepted are an Engine, an AsyncEngine, and the class Engine for all")
    return obj


def _is_mysql(engine: Any) -> bool:
    return engine.name in ("mysql", "mariadb")


def _commenter(engine: Any, options: sqlcommenter.Options) -> sqlcommenter.Commenter:
    import sqlalchemy

    return sqlcommenter.Commenter(
        options,
        driver=engine.driver,
        facts={"db_framework": f"sqlalchemy:{sqlalchemy.__version__}", "driver_paramstyle": engine.dialect.paramstyle},
        paramstyle=engine.dialect.paramstyle,
        prepares=engine.driver in sqlcommenter.PREPARING_DRIVERS,
        family="mysql" if _is_mysql(engine) else engine.name,
    )


def _tags(engine: Any) -> dict[str, Any]:
    url = engine.url
    tags = {
        standard.SPAN_KIND: standard.SPAN_KIND_RPC_CLIENT,
        standard.COMPONENT: "sqlalchemy",
        standard.DATABASE_TYPE: engine.name,
        standard.DATABASE_INSTANCE: redact_query(repr(url), CONFIG.secret_query_parameters),
        DRIVER: engine.driver,
    }
    if url.database:
        tags[NAMESPACE] = url.database
    if url.username:
        tags[standard.DATABASE_USER] = url.username
    if url.host:
        tags.update(peer_tags(url.host, url.port))
    return tags
