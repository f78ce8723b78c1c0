"""What a span tells of a statement of SQLAlchemy's: its operation and table, and how many rows it is about.

They are read from the statement as SQLAlchemy has compiled it, which it keeps and executes many times, and else from
the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .._core.safety import report
from .._core.side_table import SideTable
from .._core.statements import LOOKED_AT, summarize

#: The tags, by OpenTelemetry's semantic conventions (database spans) but for the last, for which they have none.
OPERATION, TABLE, BATCH_SIZE = "db.operation.name", "db.collection.name", "db.operation.batch.size"
ROWS = "db.rows_affected"

_FIRST_WORD = re.compile(r"(?:[\s(]|--[^\n]*\n|/\*(?:[^*]|\*(?!/))*\*/)*(?!--|/\*)([^\s(;]*)", re.DOTALL)
_LOOKED_AT = 256  # characters: enough for a comment and a word, and little to remember
#: The operations that have rows affected.
WRITING = {"INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE"}


@dataclass(frozen=True, eq=False)
class Description:
    """What a statement is: the name of its span, its operation, and the tags that tell of it."""

    name: str
    operation: str
    tags: Mapping[str, str]


_descriptions: SideTable[Description] = SideTable()


def describe(statement: str, context: Any) -> Description:
    """Return what a statement is.

    Args:
        statement: its text.
        context: the execution context; some also execute statements of their own, such as the next value of a sequence
            before an ``INSERT``.
    """
    compiled = context.compiled
    if compiled is None or not _is_alike(statement, compiled.string):
        return _by_text(statement if len(statement) <= LOOKED_AT else statement[:LOOKED_AT])
    description = _descriptions.get(compiled)
    if description is None:
        description = _by_compiled(statement, compiled)
        _descriptions.put(compiled, description)
    return description


def _is_alike(statement: str, compiled: str) -> bool:
    """Tell whether a statement is what was compiled, or what listeners, or batches, have made of that."""
    return statement is compiled or span_name(statement[:_LOOKED_AT]) == span_name(compiled[:_LOOKED_AT])


@lru_cache(maxsize=1024)
def _by_text(statement: str, table: str | None = None) -> Description:
    operation, _, first_table = summarize(statement)
    tags = {OPERATION: operation, TABLE: table or first_table}
    name = span_name(statement[:_LOOKED_AT])
    return Description(name, operation, {tag: value for tag, value in tags.items() if value})


def _by_compiled(statement: str, compiled: Any) -> Description:
    table = None
    try:
        table = _table(compiled)
    except Exception as error:
        report("finding the table of a compiled statement", error)
    return _by_text(statement[:LOOKED_AT], table)


def _table(compiled: Any) -> str | None:
    """Return the name of the table that a compiled statement writes, or of the first one that it reads from."""
    statement = compiled.statement
    found = getattr(statement, "table", None)
    if found is None:
        found = getattr(statement, "element", None) if compiled.compile_state is None else _first_source(compiled)
    name = getattr(found, "fullname", None)
    return name if isinstance(name, str) else None


def _first_source(compiled: Any) -> Any:
    sources = getattr(compiled.compile_state, "froms", None)
    source: Any = sources[0] if sources else None
    while hasattr(source, "left"):  # a join
        source = source.left
    return source


@lru_cache(maxsize=1024)
def span_name(statement: str) -> str:
    """Return the span's name for a statement by the statement's first word, comments aside."""
    word = _FIRST_WORD.match(statement)
    return f"SQL {word.group(1).upper()}" if word and word.group(1) else "SQL"


def batch_size(parameters: Any, context: Any) -> int:
    """Return with how many sets of parameters a statement is executed at once; 0 if that can't be told.

    Args:
        parameters: those of the statement: a set for each execution or, where SQLAlchemy has put several rows into one
            ``INSERT``, their values in a row, besides those that stand elsewhere in it (``ON CONFLICT``).
        context: the execution context.
    """
    rows = getattr(context.compiled, "_insertmanyvalues", None)
    if rows is None or isinstance(parameters, list):
        return len(parameters)
    first = context.parameters[0]
    if isinstance(parameters, dict):  # those of rows have other names in each
        elsewhere = len(parameters.keys() & first.keys())
    else:
        elsewhere = len(first) - rows.num_positional_params_counted
    in_row = len(first) - elsewhere
    return (len(parameters) - elsewhere) // in_row if in_row else 0


def rows_affected(cursor: Any) -> int | None:
    """Return how many rows a statement has written, if the driver can tell by now."""
    rows = cursor.rowcount
    if not isinstance(rows, int) or rows < 0 or (rows == 0 and cursor.description):  # not counted until they are read
        return None
    return rows
