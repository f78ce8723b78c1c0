"""Comments as text: what they say, where they stand, and that nothing else of a statement changes."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from opentracing_instrumentation.sqlcommenter import Commenter, Options, append, parse, serialize, strip

PARTS = [
    *(
        "'",
        '"',
        "`",
        "''",
        "\\",
        "\\'",
        "$$",
        "$a$",
        "E'",
        "N'",
        "%",
        "%s",
        "%%",
        "/*",
        "*/",
        "--",
        "#",
        "\n",
        ";",
        " ",
    ),
    *(
        "/*+ SeqScan(t) */",
        "/*! STRAIGHT_JOIN */",
        "/* note */",
        "-- note\n",
        "/*a='b'*/",
        "'x'",
        "$$it's$$",
        "E'it\\'s'",
    ),
    *("SELECT", "FROM t", "1", "a = 'b'", ",", "(", ")", "[", "]", "::int", "\N{NO-BREAK SPACE}", "é", "\0"),
]
STATEMENTS = st.one_of(
    st.text(), st.lists(st.sampled_from(PARTS)).map("".join), st.lists(st.sampled_from(PARTS)).map(" ".join)
)
ATTRIBUTES = st.dictionaries(
    st.text(), st.one_of(st.none(), st.text(), st.integers(), st.sampled_from(PARTS)), max_size=5
)


def told(attributes: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in attributes.items() if value is not None}


@given(STATEMENTS, ATTRIBUTES)
@example("SELECT 1 -- /*a='b'*/", {"c": 1})
@example("SELECT 'a\\' /*c='d'*/", {"c": 1})
@example("SELECT '/*a=''b''*/", {"c": 1})
@example("SELECT $$/*a='b'*/$$;", {"c": 1})
def test_a_comment_can_be_read_and_taken_out(sql: str, attributes: dict[str, Any]) -> None:
    """A statement that says something already stays as it is."""
    commented = append(sql, attributes)
    if parse(sql):
        assert commented == sql
        return
    assert strip(sql) == sql
    assert strip(commented) == sql
    assert parse(commented) == ({} if commented == sql else told(attributes))


@pytest.mark.parametrize("prepend", [False, True])
@given(sql=STATEMENTS, attributes=ATTRIBUTES)
@example(sql="/*+ SeqScan(t) */SELECT 1", attributes={"a": "b"})
@example(sql=" SELECT 1 ; ", attributes={"a": "b"})
def test_so_can_that_of_a_driver(sql: str, attributes: dict[str, Any], prepend: bool) -> None:
    """Where the driver makes one percent sign of two, the server gets the same."""
    assume("" not in attributes and not parse(sql))
    values = {key: value for key, value in attributes.items() if not key.startswith("db")}
    options = Options.of(commenter_options={"db_driver": False, **values}, prepend=prepend)
    commented = Commenter(options, driver="d", paramstyle="qmark")(sql, ())
    assert strip(commented) == sql
    assert parse(commented) in ({}, told(values))
    formatting = Commenter(options, driver="d", paramstyle="format")
    assert formatting(sql, None) == commented
    assert formatting(sql.replace("%", "%%"), ()) % () == commented


#: Quotes that SQLite does not know leave an open one in a statement, which it refuses with another message, then.
OF_SQLITE = [part for part in PARTS if not set(part) & set(";$\\")]


@given(st.lists(st.sampled_from(OF_SQLITE)).map(" ".join), ATTRIBUTES)
def test_a_database_gets_the_same_statement(sql: str, attributes: dict[str, Any]) -> None:
    """SQLite has an opinion on both texts, and it is the same."""

    def outcome(sql: str) -> Any:
        with closing(sqlite3.connect(":memory:")) as connection:
            try:
                return connection.execute(f"SELECT {sql}").fetchall()
            except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
                return type(error), getattr(error, "sqlite_errorcode", None)

    assert outcome(append(sql, attributes)) == outcome(sql)


@given(ATTRIBUTES)
def test_a_text_says_everything_in_letters_that_mean_nothing_to_a_database(attributes: dict[str, Any]) -> None:
    text = serialize(attributes)
    assert re.fullmatch(r"(?:[A-Za-z0-9_.~%-]*='[A-Za-z0-9_.~%-]*'(?:,(?!\Z)|\Z))*", text)
    assert text.split(",") == sorted(text.split(","))


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({}, ""),
        ({"route": None}, ""),
        (
            {"tracestate": "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"},
            "tracestate='congo%3Dt61rcWkgMzE%2Crojo%3D00f067aa0ba902b7'",
        ),
        (
            {"route": "/polls 1000", "name": "DROP TABLE USERS'"},
            "name='DROP%20TABLE%20USERS%27',route='%2Fpolls%201000'",
        ),
        ({"1": 1234, "b c": "*/;--"}, "1='1234',b%20c='%2A%2F%3B--'"),
        ({"b": 1, "a%": 2, "a-": 3}, "a%25='2',a-='3',b='1'"),
        ({"a": "\ud800"}, "a='%3F'"),
    ],
)
def test_pairs_are_encoded_then_sorted(attributes: dict[str, Any], text: str) -> None:
    assert serialize(attributes) == text


@pytest.mark.parametrize(
    ("sql", "commented"),
    [
        ("SELECT 1", "SELECT 1 /*a='b'*/"),
        ("SELECT 1;", "SELECT 1 /*a='b'*/;"),
        ("SELECT 1 ;\n", "SELECT 1 /*a='b'*/ ;\n"),
        ("SELECT 1; SELECT 2;", "SELECT 1; SELECT 2 /*a='b'*/;"),
        ("SELECT '/*', \"--\", $$--$$, E'\\'--'", "SELECT '/*', \"--\", $$--$$, E'\\'--' /*a='b'*/"),
        ("/*+ SeqScan(t) */ SELECT 1", "/*+ SeqScan(t) */ SELECT 1 /*a='b'*/"),
        ("SELECT /*! STRAIGHT_JOIN */ 1", "SELECT /*! STRAIGHT_JOIN */ 1 /*a='b'*/"),
        ("INSERT INTO t VALUES ('it\\'s --')", "INSERT INTO t VALUES ('it\\'s --') /*a='b'*/"),
        ("SELECT data #> '{a}'", "SELECT data #> '{a}' /*a='b'*/"),
        *((sql, sql) for sql in ("", " ", ";", "\n;", "-- note", "/* note */", "/*+ hint */", "/*! 1 */;")),
        *(
            (sql, sql)
            for sql in ("SELECT 1 -- note", "SELECT /* note */ 1", "SELECT 1 /*c='d'*/", "/*c='d'*/ SELECT 1")
        ),
        *((sql, sql) for sql in ("SELECT 'a", "SELECT $$a", 'SELECT "a', "SELECT /* a", "SELECT 'a\\' || '\\'b'")),
        *(
            (sql, sql)
            for sql in ("COPY t FROM STDIN", "copy t to stdout", "CREATE VIEW v AS SELECT 1", "alter view v ...")
        ),
    ],
)
def test_a_comment_stands_at_the_end_of_what_has_none(sql: str, commented: str) -> None:
    assert append(sql, {"a": "b"}) == commented
    assert append(sql, {"a": None}) == sql


@pytest.mark.parametrize(
    ("sql", "commented"),
    [
        ("SELECT 1;", "/*a='b'*/ SELECT 1;"),
        ("/*+ SeqScan(t) */ SELECT 1", "/*+ SeqScan(t) */ /*a='b'*/ SELECT 1"),
        ("SELECT /*+ NO_INDEX_MERGE(t) */ 1", "SELECT /*+ NO_INDEX_MERGE(t) */ /*a='b'*/ 1"),
        ("SELECT/*! STRAIGHT_JOIN */1", "SELECT/*! STRAIGHT_JOIN */ /*a='b'*/1"),
        ("SELECT 1 -- note", "SELECT 1 -- note"),
    ],
)
def test_in_front_it_stands_behind_a_hint(sql: str, commented: str) -> None:
    options = Options.of(commenter_options={"db_driver": False, "a": "b"}, prepend=True)
    assert Commenter(options, driver="d")(sql) == commented
    assert strip(commented) == sql


@pytest.mark.parametrize(
    ("sql", "attributes", "stripped"),
    [
        ("SELECT 1 /*a='b',c='it%27s'*/", {"a": "b", "c": "it's"}, "SELECT 1"),
        ("SELECT 1/*a='it\\'s'*/;", {"a": "it's"}, "SELECT 1;"),
        ("/*dddbs='orders',ddps='shop'*/ SELECT 1", {"dddbs": "orders", "ddps": "shop"}, "SELECT 1"),
        (
            "SELECT 1 /*db_driver='psycopg2%%3A2.9',dbapi_threadsafety=2*/",
            {"db_driver": "psycopg2%:2.9", "dbapi_threadsafety": "2"},
            "SELECT 1",
        ),
        ("SELECT 1 /* a='b' */", {"a": "b"}, "SELECT 1"),
        ("SELECT 1 /*route='/a/*'*/", {"route": "/a/*"}, "SELECT 1"),
        ("SELECT 1 /*a='b'*/ /*c='d'*/", {"c": "d"}, "SELECT 1 /*a='b'*/"),
        ("SELECT 'a\\' || '\\'b' /*a='b'*/;", {"a": "b"}, "SELECT 'a\\' || '\\'b';"),
        *((sql, {}, sql) for sql in ("SELECT '/*a=''b''*/'", "SELECT 1 -- /*a='b'*/", "SELECT $$/*a='b'*/$$")),
        *(
            (sql, {}, sql)
            for sql in ("SELECT 1 /* a */", "SELECT 1 /*a=1*/", "SELECT 1 /*a='b'", "/*+a='b'*/ SELECT 1", "")
        ),
    ],
)
def test_comments_of_others_are_read(sql: str, attributes: dict[str, str], stripped: str) -> None:
    assert parse(sql) == attributes
    assert strip(sql) == stripped


def test_a_long_statement_is_not_read_word_by_word() -> None:
    """Where quotes are not looked at, whatever looks like a comment is one."""
    rows = ", ".join(["(1, 'x')"] * 5000)
    assert append(f"INSERT INTO t VALUES {rows};\n", {"a": "b"}) == f"INSERT INTO t VALUES {rows} /*a='b'*/;\n"
    assert strip(f"INSERT INTO t VALUES {rows} /*a='b'*/;\n") == f"INSERT INTO t VALUES {rows};\n"
    for text in (f"INSERT INTO t VALUES {rows}, (2, '--')", f"COPY {rows}", " " * 20_000, f"SELECT 1 /* {rows} */"):
        assert append(text, {"a": "b"}) == text
