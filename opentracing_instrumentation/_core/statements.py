"""What an SQL statement says, by a look at its words: no parsing, and what is not understood is left out.

- :func:`summarize` tells its operations and the tables that they name: ``SELECT orders order_items``. That is what
  OpenTelemetry's conventions call a query summary ("Generating a summary of the query").
- :func:`masked` gives the statement without its values, by which similar statements are told to be so.
- :func:`frame` tells where a comment can be put, :func:`comments` which there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

_LETTER, _ESCAPE, _UNKNOWN = r"\\", r"\\.", r"\\[^{quote}]"  # what a backslash may be between quotes


def _pattern(mysql: bool, backslash: str, after_quote: str = "", end: str = "") -> re.Pattern[str]:
    """Return the pattern of a token.

    Args:
        mysql: whether what is in double quotes is a value, and no name.
        backslash: what a backslash is between quotes.
        after_quote: what can't follow a quote.
        end: what can't be there at all.
    """

    def quoted(quote: str, backslash: str = backslash) -> str:
        backslash = backslash.format(quote=quote)
        return rf"{quote}(?:[^{quote}\\]|{quote}{quote}|{backslash})*{quote}(?![{quote}{after_quote}])"

    bracketed = r"\[[^\W\d](?:[\w .$#@]|-(?=[^\W\d]))*\]"
    in_double_quotes, nothing = quoted('"'), r"(?!)"
    name = rf"(?:[^\W\d][\w$#]*|{nothing if mysql else in_double_quotes}|`[^`]+`|{bracketed})"
    names = rf"{name}(?:\.{name})*"
    prefix = "(?:[eEbBnNxX]|[uU]&)"  # of a text between quotes
    return re.compile(
        rf"""
        (?P<word>(?!{prefix}'){names})
        | (?P<blank>\s+ | --[^\n]* | /\*.*?\*/)
        | (?P<value>
            [eE]{quoted("'", _ESCAPE)} | (?![eE]){prefix}?{quoted("'")}
            | {in_double_quotes if mysql else nothing}
            | \$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$
            | (?:(?:(?<=[(,=<>[]) | (?<=[(,=<>[]\s))[+-])?
              (?<![\w$])(?:0[xX][\da-fA-F]+ | (?:\d[\d_]*(?:\.[\d_]*)? | \.\d[\d_]*)(?:[eE][+-]?\d+)?)(?![\w$])
          )
        | (?P<end>{prefix}?' | ["`] | /\* | \$(?:[^\W\d]\w*)?\${end})
        | (?P<cast>::\s*{names}(?:\s+(?i:precision|varying|with(?:out)?\s+time\s+zone))?(?:\[\])*)
        | (?P<placeholder>%[sbt](?!\w) | %\([^()]*\)[sbt] | \? | :\w+ | \$\d+)
        | (?P<mark>[(),]) | (?P<other>.)
        """,
        re.DOTALL | re.VERBOSE,
    )


_TOKENS = [_pattern(mysql, _UNKNOWN) for mysql in (False, True)]
_READINGS = [
    [_pattern(mysql, backslash, after_quote=r"\w", end=r"|\\") for backslash in (_LETTER, _ESCAPE)]
    for mysql in (False, True)
]
_TOKEN = _TOKENS[False]


def _tokens(statement: str, is_whole: bool = True, mysql: bool = False) -> Iterable[re.Match[str]]:
    """Yield the tokens of a statement, or of its beginning; in ``lastgroup``, each has the name of its kind.

    A backslash before a quote is a letter by the standard and an escape for MySQL. Where only one of the two makes
    sense of a whole statement, it is that. Else it is not known where the text ends in which the backslash stands: such
    a text begins with a token ``end``, and so does what has no end at all.
    """
    if is_whole and ("\\'" in statement or '\\"' in statement):
        readings = [_reading(pattern, statement) for pattern in _READINGS[mysql]]
        sensible = [tokens for tokens in readings if tokens is not None]
        if len(sensible) == 1:
            return sensible[0]
    return _TOKENS[mysql].finditer(statement)


def _reading(pattern: re.Pattern[str], statement: str) -> list[re.Match[str]] | None:
    """Return the tokens of a statement, or ``None`` if it makes no sense, which is known at the first ``end``."""
    tokens = []
    for token in pattern.finditer(statement):
        if token["end"]:
            return None
        tokens.append(token)
    return tokens


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

#: How many characters of a statement :func:`summarize` looks at: the rest is values, most likely.
LOOKED_AT = 2000
_LONGEST = 255  # characters, by the conventions


class Summary(NamedTuple):
    """What a statement does: its first operation, in capitals, the summary, and its first table; all may be empty."""

    operation: str
    text: str
    table: str = ""


def summarize(statement: str) -> Summary:
    """Return the summary of a statement."""
    return _summarize(statement if len(statement) <= LOOKED_AT else statement[:LOOKED_AT])


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


_MASKED = 10_000  # characters
_REST = "..."
_WORDS_FOR_VALUES = {"NULL", "TRUE", "FALSE"}
_CLOSING = {")": "(?)", "]": "[?]"}


def masked(statement: str, mysql: bool = False) -> str:
    """Return a statement without its values: similar statements become the same text, and it tells no secrets.

    - Strings and numbers are ``?``. What is in backticks or brackets is a name, and stays; so is what is in double
      quotes, unless it is for MySQL, which takes it for a string.
    - A list of nothing but values and placeholders (``?``, ``%s``, ``%(name)s``, ``:name``, ``$1``; PostgreSQL's casts
      aside) is ``(?)``, and so are several of them in a row, as in ``VALUES``. Placeholders elsewhere stay.
    - Comments are left out; white space is one space.

    Of a statement of more than 10,000 characters this is the beginning, and ``...``; so it is of one with quotes of
    which it can't be told where they end. Never raises; thread-safe; the last results are remembered.
    """
    if len(statement) <= _MASKED:
        return _masked(statement, True, mysql)
    comma = statement.rfind(",", _MASKED - 200, _MASKED)  # not in the midst of a placeholder
    return _masked(statement[: comma if comma > 0 else _MASKED], False, mysql)


@lru_cache(maxsize=1024)
def _masked(statement: str, is_whole: bool, mysql: bool) -> str:
    mask = _Mask()
    for token in _tokens(statement, is_whole, mysql):
        if token.lastgroup == "end":
            mask.token("value", "")
            return mask.cut()
        mask.token(str(token.lastgroup), token.group())
    return mask.text if is_whole else mask.cut()


class _List:
    """An open parenthesis or bracket: where it is, and what is behind it."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.has_values = False
        self.has_others = False


class _Mask:
    """Puts the masked text together, token by token."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._lists = [_List(0)]  # the statement itself, and what is open in it

    @property
    def text(self) -> str:
        return "".join(self._parts).strip()

    def token(self, kind: str, text: str) -> None:
        """Take the next token."""
        parts, inner = self._parts, self._lists[-1]
        if kind == "blank":
            if parts and parts[-1] != " ":
                parts.append(" ")
        elif text in _CLOSING and len(self._lists) > 1:
            self._close(text)
        elif text in ("(", "["):
            self._lists.append(_List(len(parts)))
            parts.append(text)
        else:
            parts.append("?" if kind == "value" else text)
            if kind in ("value", "placeholder") or text.upper() in _WORDS_FOR_VALUES:
                inner.has_values = True
            elif kind != "cast" and text != ",":
                inner.has_others = True

    def cut(self) -> str:
        """Return the text if the rest is not looked at."""
        while len(self._lists) > 1 and self._lists[-1].has_values and not self._lists[-1].has_others:
            self._close(")")
        return self.text.rstrip(", ") + _REST

    def _close(self, mark: str) -> None:
        parts, closed = self._parts, self._lists.pop()
        outer = self._lists[-1]
        if closed.has_others or not closed.has_values:
            parts.append(mark)
            outer.has_others = True
            return
        outer.has_values = True
        del parts[closed.start :]
        before = [part for part in parts[-3:] if part != " "]
        if before[-2:] == [_CLOSING[mark], ","]:  # one more row of VALUES
            while parts.pop() != ",":
                pass
        else:
            parts.append(_CLOSING[mark])


_FRAMED = 10_000  # characters
_QUOTE_OR_COMMENT = re.compile(r"""['"`\\#] | /\* | -- | \$[^\d]""", re.VERBOSE)
_HINTS = ("/*+", "/*!", "/*M!")
_COMMENT_MARKS = ("--", "/*")
#: The data of a COPY may follow its text; some databases keep the text of a definition.
_UNFRAMED = {"", ";", "COPY", "CREATE", "ALTER"}
_BLANKS_AND_SEMICOLONS = "; \t\r\n\f\v"


class Frame(NamedTuple):
    """Where a statement has its beginning and its end, if a comment is to be put there."""

    start: int  # behind the first hint, if there is one
    end: int  # in front of a closing semicolon


@lru_cache(maxsize=1024)
def _frame(statement: str, hash_comments: bool) -> Frame | None:
    if not _QUOTE_OR_COMMENT.search(statement):
        return _frame_of_plain(statement, hash_comments)
    start = end = 0
    verb = ""
    for token in _tokens(statement):
        kind, text = token.lastgroup, token.group()
        if kind == "end" or (hash_comments and "#" in text and kind in ("word", "other")):
            return None
        if kind != "blank":
            verb = verb or text.upper()
            end = end if text == ";" else token.end()
        elif text.startswith(_HINTS):
            start = start or token.end()
            end = token.end()
        elif text.startswith(_COMMENT_MARKS):
            return None
    return None if verb in _UNFRAMED else Frame(start, end)


def _frame_of_plain(statement: str, hash_comments: bool) -> Frame | None:
    """Return the frame of a statement without looking at quotes; ``None`` if anything in it could begin a comment."""
    text = statement.rstrip(_BLANKS_AND_SEMICOLONS)
    verb = text[:_FRAMED].split(None, 1)[:1]
    if not verb or verb[0].upper() in _UNFRAMED or any(mark in text for mark in _COMMENT_MARKS):
        return None
    return None if hash_comments and "#" in text else Frame(0, len(text))


def frame(statement: str, hash_comments: bool = False) -> Frame | None:
    """Tell where a comment can be put into a statement.

    Args:
        statement: the statement.
        hash_comments: whether ``#`` begins a comment, as in MySQL.

    Returns:
        the places; ``None`` if there is to be no comment: nothing is executed, or there is a comment already, or that
        can't be told, or it is a COPY or a definition. Hints (``/*+``, ``/*!``) are no comments.

    Of a statement of more than 10,000 characters, quotes are not looked at: it has no frame if any of its characters
    could begin a comment. Never raises; thread-safe; the last results are remembered.
    """
    return _frame(statement, hash_comments) if len(statement) <= _FRAMED else _frame_of_plain(statement, hash_comments)


def comments(statement: str) -> Iterable[tuple[int, str]]:
    """Yield the comments of a statement, hints aside, each with its place.

    Behind a text of which it can't be told where it ends, only what the statement ends in is looked at.
    """
    for token in _tokens(statement):
        text = token.group()
        if token.lastgroup == "blank" and text.startswith(_COMMENT_MARKS) and not text.startswith(_HINTS):
            yield token.start(), text
        elif token.lastgroup == "end":
            last = statement.rfind("/*", token.start())
            text = statement[last:].rstrip(_BLANKS_AND_SEMICOLONS)
            if last >= 0 and text.find("*/") == len(text) - 2:
                yield last, text
            return
