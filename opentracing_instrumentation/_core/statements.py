"""A short text of few different values for an SQL statement: ``SELECT orders order_items``.

That is what OpenTelemetry's conventions call a query summary ("Generating a summary of the query"): the operations of
a statement and the tables that they name, in their order, and no value. It is found by a look at the words, not by
parsing; what is not understood is left out.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_NAME = r'(?:"[^"]+"|`[^`]+`|\[[^\]]+\]|[^\W\d][\w$#]*)'
_TOKEN = re.compile(
    rf"""
    --[^\n]* | /\*.*?\*/ | '(?:[^'\\]|'')*' | \$(\w*)\$.*?\$\1\$  # comments and values
    | (?P<end>'(?:[^'\\]|'')*(?:\\|\Z))  # a value of which it is unknown where it ends
    | (?P<word>{_NAME}(?:\.{_NAME})*) | (?P<mark>[(),])
    """,
    re.DOTALL | re.VERBOSE,
)

_QUERIES = {"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"}
_DEFINITIONS = {"CREATE", "DROP", "ALTER", "TRUNCATE"}
_CALLS = {"CALL", "EXEC", "EXECUTE", "REPLACE"}
_VERBS = _QUERIES | _DEFINITIONS
_NAMED_BY_NEXT = {"UPDATE", "TRUNCATE", *_CALLS}
_OBJECTS = {"TABLE", "VIEW", "INDEX", "SEQUENCE", "SCHEMA", "DATABASE", "FUNCTION", "PROCEDURE", "TRIGGER", "TYPE"}
_BEFORE_TABLE = {"FROM", "JOIN", "INTO", "USING"}
_END_OF_TABLES = {"WHERE", "GROUP", "ORDER", "LIMIT", "HAVING", "UNION", "SET", "VALUES", "RETURNING", "SELECT"}
_NO_NAMES = {"ONLY", "LATERAL", "IF", "NOT", "EXISTS", "CONCURRENTLY", "IGNORE", "TABLE", "AS", "SELECT", "VALUES"}
#: What makes a verb after it part of something else: FOR UPDATE, ON DELETE, DO UPDATE, ON DUPLICATE KEY UPDATE.
_NO_VERB_AFTER = {"FOR", "ON", "DO", "THEN", "KEY", "BEFORE", "AFTER", "OR", "GRANT", "REVOKE", ","}

_LOOKED_AT = 2000  # characters: the rest is values, most likely
_LONGEST = 255  # characters, by the conventions


class Summary(NamedTuple):
    """What a statement does: its first operation, in capitals, the summary, and its first table; all may be empty."""

    operation: str
    text: str
    table: str = ""


def summarize(statement: str) -> Summary:
    """Return the summary of a statement."""
    return _summarize(statement if len(statement) <= _LOOKED_AT else statement[:_LOOKED_AT])


@lru_cache(maxsize=1024)
def _summarize(statement: str) -> Summary:
    reader = _Reader()
    for token in _TOKEN.finditer(statement):
        if token["word"]:
            reader.word(token["word"])
        elif token["mark"]:
            reader.mark(token["mark"])
        elif token["end"]:
            break
    parts = reader.parts or [reader.first]
    table = next((part for part in parts[1:] if part not in _VERBS), "")
    return Summary(parts[0].partition(" ")[0], _shortened(parts), table)


def _shortened(parts: list[str]) -> str:
    text = " ".join(parts)
    return text if len(text) <= _LONGEST else text[: _LONGEST + 1].rpartition(" ")[0]


class _Reader:
    """Reads the words of a statement one by one."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.first = ""
        self._previous = ""
        self._before = ""  # the word before the previous one
        self._queries = [False]  # for each open parenthesis, whether it has a query in it
        self._tables = 0  # how deep in parentheses there is a list of tables; 0 for none
        self._wants_name = False
        self._common: set[str] = set()  # names of common table expressions

    def mark(self, mark: str) -> None:
        """Read a parenthesis or a comma."""
        if mark == "(":
            if self._previous in ("AS", "MATERIALIZED"):
                self._common.add(self._before)
            self._queries.append(False)
            self._wants_name = False
        elif mark == ")":
            if len(self._queries) > 1:
                self._queries.pop()
        else:
            self._wants_name = self._tables == len(self._queries)
        self._previous = mark

    def word(self, word: str) -> None:
        """Read a word or a dotted name."""
        upper = word.upper()
        is_first, self.first = not self.first, self.first or upper
        if (upper in _VERBS and self._previous not in _NO_VERB_AFTER) or (is_first and upper in _CALLS):
            self.parts.append(upper)
            self._queries[-1] = True
            self._wants_name = upper in _NAMED_BY_NEXT
            self._tables = 0
        elif upper in _BEFORE_TABLE and self._queries[-1] and self._previous != "DISTINCT":
            self._wants_name = True
            self._tables = len(self._queries) if upper in ("FROM", "JOIN") else 0
        elif upper in _OBJECTS and self.parts and self.parts[-1] in _DEFINITIONS:
            self.parts[-1] += f" {upper}"
            self._wants_name = True
        elif upper in _END_OF_TABLES:
            self._tables, self._wants_name = 0, False
        elif self._wants_name and upper not in _NO_NAMES:
            self._wants_name = False
            if word not in self._common:
                self.parts.append(word)
        if upper != "NOT":
            self._before, self._previous = (self._before if upper in ("AS", "MATERIALIZED") else word), upper
