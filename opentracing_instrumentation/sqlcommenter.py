"""Comments in SQL statements that tell a database's logs and statistics who asks: ``/*service='shop'*/``.

The format is sqlcommenter's (OpenTelemetry, "SQL commenter"). :func:`serialize`, :func:`append`, :func:`parse` and
:func:`strip` work on any text. The hooks have a :class:`Commenter` for each driver or engine, and comment when
``CONFIG.sql_comments``, :func:`configure` or their own :class:`Options` say so:

- ``static`` comments have few different values, such as the service and the route of the request, so that a statement
  keeps its place in caches of statements and in statistics.
- ``full`` comments have the context of the statement's span besides, as the tracer injects it: each is another text.

A comment changes nothing else: where it can't be made, or might do harm, the statement stays as it is.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

import opentracing
from opentracing import Format, Span, UnsupportedFormatException

from ._core.safety import logger, report
from ._core.statements import comments, frame
from .config import CONFIG, SQL_COMMENT_MODES

OFF, STATIC, FULL = SQL_COMMENT_MODES

#: Drivers that prepare statements, or whose databases keep them compiled, by their text; by the names that SQLAlchemy
#: has for them, and by those of their modules.
PREPARING_DRIVERS = frozenset(
    {
        *("asyncpg", "psycopg", "psycopg_async", "sqlite3", "pysqlite", "pysqlcipher", "aiosqlite"),
        *("oracledb", "oracledb_async", "cx_oracle", "pyodbc", "aioodbc", "pymssql", "pytds"),
    }
)
#: Drivers whose paramstyle has percent signs, but which do not take two of them for one between quotes.
_NOT_FORMATTING = {"mysqlconnector", "mysql.connector", "pymssql", "pg8000"}

#: What is known of a driver, by its key, and whether it is told unless ``commenter_options`` say otherwise.
_FACTS = {
    "db_driver": True,
    "db_framework": True,
    **dict.fromkeys(("dbapi_level", "dbapi_threadsafety", "driver_paramstyle"), False),
    **dict.fromkeys(("libpq_version", "mysql_client_version"), False),
}
_CONTEXT = "opentelemetry_values"

_PLAIN = re.compile("[A-Za-z0-9_.~-]*")
_COMMENT = re.compile(
    r"/\*\s*(?=[^*]*')((?:[^\s'=,*/]*=(?:'(?:[^'\\*]|\\.|\*(?!/))*'|\d+)(?:,|(?=\s*\*/)))+)\s*\*/", re.DOTALL
)
_PAIR = re.compile(r"([^=,]*)=(?:'((?:[^'\\]|\\.)*)'|(\d+))", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
#: Baggage is the application's data, and no place to look for it is the database's log.
_BAGGAGE = ("baggage", "uberctx-", "ot-baggage-")

_Pairs = tuple[tuple[str, str], ...]
_Sources = tuple[str | None, _Pairs, _Pairs]  # the application's name, what functions return, and what a block says


def serialize(attributes: Mapping[str, Any]) -> str:
    """Return what a comment says, without ``/*`` and ``*/``.

    Args:
        attributes: keys with their values, of which ``None`` is left out, and text is made.

    Returns:
        ``key='value'`` pairs with commas between them, URL-encoded and sorted; an empty text if there are none.
    """
    return ",".join(sorted(_serialized(attributes.items())))


def _serialized(items: Any) -> list[str]:
    return [f"{_encoded(str(key))}='{_encoded(str(value))}'" for key, value in items if value is not None]


def _encoded(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else quote(text, safe="", errors="replace")


def append(sql: str, attributes: Mapping[str, Any]) -> str:
    """Return a statement with a comment at its end, in front of a closing semicolon.

    It stays as it is if there is nothing to say, nothing to execute, or a comment already; so do COPY and definitions
    (``CREATE``, ``ALTER``), and a statement of which it can't be told where its quotes end. Never raises.
    """
    found = frame(sql)
    text = serialize(attributes)
    return sql if found is None or not text else _inserted(sql, found.end, text)


def _inserted(sql: str, place: int, text: str) -> str:
    return f"/*{text}*/ {sql}" if place == 0 else f"{sql[:place]} /*{text}*/{sql[place:]}"


def _last_comment(sql: str) -> tuple[int, str, str]:
    """Return the last comment of this kind: where it is, its text, and what it says."""
    found = (-1, "", "")
    if "/*" in sql:
        for place, text in comments(sql):
            match = _COMMENT.fullmatch(text)
            if match:
                found = place, text, match.group(1)
    return found


def parse(sql: str) -> dict[str, str]:
    """Return what the comment of a statement says: the last one of this kind, whoever made it. Never raises."""
    pairs = _PAIR.findall(_last_comment(sql)[2])
    return {_decoded(key): _decoded(text) if text else number for key, text, number in pairs}


def _decoded(text: str) -> str:
    return unquote(_ESCAPED.sub(r"\1", text))


def strip(sql: str) -> str:
    """Return a statement without the comment that :func:`parse` reads, as it was before. Never raises."""
    place, text, _ = _last_comment(sql)
    if place < 0:
        return sql
    before, after = sql[:place], sql[place + len(text) :]
    return before.removesuffix(" ") + after if before else after.removeprefix(" ")


def _checked(setting: str, value: Any, accepted: bool, what: str) -> None:
    if not accepted:
        raise ValueError(f"{setting} = {value!r}: accepted is {what}")


@dataclasses.dataclass(frozen=True, eq=False)
class Options:
    """What is put into comments, and where. Made by :meth:`of`; immutable, so any thread may use it."""

    mode: str
    facts: frozenset[str]
    values: Mapping[str, Any]
    has_context: bool
    enable_attribute_commenter: bool
    force: bool
    prepend: bool

    @classmethod
    def of(
        cls,
        mode: str = STATIC,
        commenter_options: Mapping[str, Any] | None = None,
        *,
        enable_attribute_commenter: bool = False,
        force: bool = False,
        prepend: bool = False,
    ) -> Options:
        """Check options and return them.

        Args:
            mode: ``"off"``, ``"static"``, or ``"full"``.
            commenter_options: as OpenTelemetry spells it, ``True`` or ``False`` tells what is known of the driver or
                leaves it out: ``db_driver`` and ``db_framework``, which are told by default, ``dbapi_level``,
                ``dbapi_threadsafety``, ``driver_paramstyle``, ``libpq_version`` and ``mysql_client_version``, which
                are not; ``opentelemetry_values`` does so for the context of the span in ``full`` comments. Any other
                key (``service``, ``route``, ``controller``, ``action``, ...) has a text or a number for its value, or a
                mapping of keys to such; ``None`` is left out. A function that returns one of these is called for each
                statement.
            enable_attribute_commenter: have the span's tag show the comment, too.
            force: make ``full`` comments even where each defeats the cache of a driver that prepares statements.
            prepend: put the comment in front, but behind a hint, where the end of long statements is cut off in logs.

        Raises:
            ValueError: one of these is something else.
        """
        _checked("mode", mode, mode in SQL_COMMENT_MODES, " or ".join(map(repr, SQL_COMMENT_MODES)))
        for name, flag in (
            ("enable_attribute_commenter", enable_attribute_commenter),
            ("force", force),
            ("prepend", prepend),
        ):
            _checked(name, flag, isinstance(flag, bool), "True or False")
        given = {} if commenter_options is None else commenter_options
        _checked("commenter_options", given, isinstance(given, Mapping), "a mapping or None")
        facts = {key for key, told in _FACTS.items() if told}
        values = {}
        for key, value in given.items():
            _checked("a key of commenter_options", key, isinstance(key, str) and key != "", "a text")
            name = f"commenter_options[{key!r}]"
            if isinstance(value, bool):
                _checked(name, value, key in _FACTS or key == _CONTEXT, _ACCEPTED)
                facts = facts | {key} if value else facts - {key}
            else:
                _checked(name, value, key != _CONTEXT, "True or False")
                _checked(name, value, value is None or callable(value) or _is_value(value), _ACCEPTED)
                values[key] = value
        has_context = bool(given.get(_CONTEXT, True))
        return cls(mode, frozenset(facts), values, has_context, enable_attribute_commenter, force, prepend)


_ACCEPTED = (
    "a text, a number, None, a mapping of keys to such, or a function that returns one of these; "
    f"True or False for {', '.join([*_FACTS, _CONTEXT])}"
)


def _is_value(value: Any) -> bool:
    return isinstance(value, str | int | float | Mapping)


#: What the context manager :func:`attributes` has put down.
_attributes: ContextVar[_Pairs] = ContextVar("opentracing_instrumentation.sqlcommenter", default=())


@contextmanager
def attributes(**values: Any) -> Iterator[None]:
    """Have the comments of all statements in a block say more: ``with attributes(route="/orders", action="list"):``.

    Args:
        values: keys with their values, of which ``None`` takes away what an outer block says. They take precedence over
            ``commenter_options``.

    The block is one of the present task or thread (contextvars), and of what it begins; blocks may be nested.
    """
    inner = {
        **dict(_attributes.get()),
        **{key: value if value is None else str(value) for key, value in values.items()},
    }
    token = _attributes.set(tuple((key, value) for key, value in inner.items() if value is not None))
    try:
        yield
    finally:
        try:
            _attributes.reset(token)
        except ValueError:  # the block of a generator may end in another context, where it never began
            pass


#: The options of hooks that have none of their own, by their mode.
_configured = {mode: Options.of(mode) for mode in SQL_COMMENT_MODES}


def configure(mode: str | None = None, commenter_options: Mapping[str, Any] | None = None, **options: Any) -> None:
    """Set what the comments of all hooks say, where these have no options of their own.

    Args:
        mode: sets ``CONFIG.sql_comments`` besides, unless it is ``None``.
        commenter_options: see :meth:`Options.of`.
        options: ``enable_attribute_commenter``, ``force`` and ``prepend`` of :meth:`Options.of`.

    Raises:
        ValueError: one of these is not accepted; nothing has been changed then.

    It holds for the next statement; any thread may call it.
    """
    made = Options.of(CONFIG.sql_comments if mode is None else mode, commenter_options, **options)
    _configured.update({mode: dataclasses.replace(made, mode=mode) for mode in SQL_COMMENT_MODES})
    CONFIG.sql_comments = made.mode


def default_options() -> Options:
    """Return the options for whoever has none of their own: the same object until they change."""
    return _configured[CONFIG.sql_comments]


_REMEMBERED = 10_000  # characters
_warned: set[str] = set()


def _warn_of_preparing(driver: str) -> None:
    if driver not in _warned:
        _warned.add(driver)
        logger.warning(
            "SQL comments: %s prepares statements, and the context of a span would make each of them a new one; "
            "comments are 'static' there (force=True makes them 'full' all the same)",
            driver,
        )


class Commenter:
    """Comments the statements of one driver or engine; make one and keep it. Thread- and async-safe.

    Args:
        options: what comments say.
        driver: the driver's name, which is the value of ``db_driver`` unless ``facts`` have one.
        facts: what else is known of the driver, by the keys of :meth:`Options.of`.
        paramstyle: the driver's ``paramstyle`` (PEP 249).
        prepares: whether the driver or its database keeps statements by their text; see :data:`PREPARING_DRIVERS`.
        family: of databases; ``"mysql"`` has comments that begin with ``#``, and drivers that send the rows of an
            ``executemany`` in one statement only as long as that has no comment.
    """

    def __init__(
        self,
        options: Options,
        *,
        driver: str,
        facts: Mapping[str, Any] | None = None,
        paramstyle: str = "",
        prepares: bool = False,
        family: str = "",
    ) -> None:
        self.options = options
        self._driver = driver
        known = {"db_driver": driver, **(facts or {})}
        self._facts = {key: value for key, value in known.items() if key in options.facts}
        self._constants = {key: value for key, value in options.values.items() if not callable(value)}
        self._functions = {key: value for key, value in options.values.items() if callable(value)}
        self._formats = paramstyle in ("format", "pyformat") and driver not in _NOT_FORMATTING
        self._is_mysql = family == "mysql"
        #: Whether comments tell the context of the span.
        self.adds_context = options.mode == FULL and options.has_context
        if self.adds_context and prepares and not options.force:
            self.adds_context = False
            _warn_of_preparing(driver)
        self._is_off = options.mode == OFF
        self._pairs = lru_cache(maxsize=256)(self._made_pairs)
        self._remembered = lru_cache(maxsize=1024)(self._commented)

    def __call__(
        self, statement: Any, parameters: Any = None, span: Any = None, many: bool = False, is_above: bool = False
    ) -> Any:
        """Return a statement with its comment, of the same type; or the very object, if it gets none.

        Args:
            statement: the statement as it goes to the driver; text, or bytes in UTF-8.
            parameters: what is executed with it. Percent signs are doubled where the driver makes one of two.
            span: the span whose context is told, if :attr:`adds_context`.
            many: whether the statement is executed for each of the parameters.
            is_above: whether the span is not the statement's own, but what the next one is likely to be below, too.

        Never raises: failures of ours, or of functions in ``commenter_options``, are reported once.
        """
        if type(statement) is bytes:
            try:
                text = statement.decode()
            except UnicodeDecodeError:
                return statement
            commented = self(text, parameters, span, many, is_above)
            return statement if commented is text else commented.encode()
        if type(statement) is not str or self._is_off or (many and self._is_mysql):
            return statement
        try:
            return self._applied(statement, parameters, span, is_above)
        except Exception as error:
            report(f"SQL comments for {self._driver}", error)
            return statement

    def _applied(self, statement: str, parameters: Any, span: Any, is_above: bool) -> str:
        doubled = self._formats and parameters is not None
        sources = CONFIG.app_name, self._called() if self._functions else (), _attributes.get()
        commented = self._commented if len(statement) > _REMEMBERED else self._remembered
        text, place, pairs = commented(statement, doubled, sources)
        if place < 0 or span is None or not self.adds_context:
            return text
        context = _context_above(span) if is_above else _context_of(span)
        return _inserted(statement, place, _text([*pairs, *context], doubled)) if context else text

    def _commented(self, statement: str, doubled: bool, sources: _Sources) -> tuple[str, int, list[str]]:
        """Return a statement with a comment without the context, where that is, or -1 for nowhere, and its pairs."""
        places = frame(statement, self._is_mysql)
        if places is None:
            return statement, -1, []
        place = places.start if self.options.prepend else places.end
        if doubled and _ends_in_placeholder(statement[:place]):
            return statement, -1, []  # the driver is about to say so
        pairs = self._pairs(sources)
        return _inserted(statement, place, _text(pairs, doubled)) if pairs else statement, place, pairs

    def _made_pairs(self, sources: _Sources) -> list[str]:
        """Return the sorted pairs of a comment without the context; of sources, the later ones take precedence."""
        app_name, *later = sources
        known = {**self._facts, "service": app_name, **dict(_flat(self._constants))}
        for pairs in later:
            known.update(pairs)
        return sorted(_serialized(known.items()))

    def _called(self) -> _Pairs:
        results = {key: function() for key, function in self._functions.items()}
        return tuple((key, str(value)) for key, value in _flat(results) if value is not None)


def _ends_in_placeholder(text: str) -> bool:
    """Tell whether a text ends in the midst of what begins with a percent sign."""
    before, sign, after = text.rpartition("%")
    is_doubled = (len(before) - len(before.rstrip("%"))) % 2 == 1
    return sign != "" and not is_doubled and not any(map(str.isalpha, after))


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from ((str(inner), value[inner]) for inner in value)
        else:
            yield key, value


def _text(pairs: list[str], doubled: bool) -> str:
    """Return what a comment says: pairs in their order, percent signs doubled or not."""
    text = ",".join(sorted(pairs))
    return text.replace("%", "%%") if doubled else text


#: The context of the span that a statement was last below, and what is told of it.
_last_above: ContextVar[tuple[Any, list[str]]] = ContextVar(
    "opentracing_instrumentation.sqlcommenter.above", default=(None, [])
)


def _context_above(span: Any) -> list[str]:
    """Return the same as :func:`_context_of`, worked out once for the statements below one span."""
    context = span.context
    last = _last_above.get()
    if last[0] is not context:
        last = context, _context_of(span)
        _last_above.set(last)
    return last[1]


def _context_of(span: Any) -> list[str]:
    """Return the pairs of what the span's tracer injects; of a span that does not know its tracer, the global one.

    As text, since HTTP headers may come URL-encoded already, and that is done here.
    """
    if type(span) is Span:  # the API's own, which stands for none
        return []
    carrier: dict[str, str] = {}
    try:
        (span.tracer or opentracing.tracer).inject(span.context, Format.TEXT_MAP, carrier)
    except UnsupportedFormatException:  # a tracer may well have no way to travel
        return []
    return [f"{name}='{_encoded(str(value))}'" for key, value in carrier.items() if (name := _context_key(key))]


@lru_cache(maxsize=1024)
def _context_key(key: str) -> str:
    """Return a key of the context for a comment; an empty text for one of baggage."""
    return "" if key.lower().startswith(_BAGGAGE) else _encoded(key)
