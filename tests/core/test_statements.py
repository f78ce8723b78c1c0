"""Statements without their values: what is one, where it ends, and which statements are similar."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentracing_instrumentation._core.statements import masked, summarize


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("", ""),
        (" \n", ""),
        ("SELECT  a,\n\tb FROM t", "SELECT a, b FROM t"),
        (
            "SELECT a FROM t WHERE b = %s AND c = :name AND d = $1",
            "SELECT a FROM t WHERE b = %s AND c = :name AND d = $1",
        ),
        ("SELECT 1, 'it''s', -2.5e-3, 0xFF, .5, 1_000;", "SELECT ?, ?, ?, ?, ?, ?;"),
        ("SELECT a-1, b- 2, (-3), c=-4, d = -5", "SELECT a-?, b- ?, (?), c=?, d = ?"),
        ("SELECT E'it\\'s', N'n', x'1F', U&'d\\0061'", "SELECT ?, ?, ?, ?"),
        ("SELECT $$it's$$, $tag$ $$ $tag$, $1, a$b$c", "SELECT ?, ?, $1, a$b$c"),
        (
            'SELECT "it\'s 1", "a""b", `it\'s 2`, [order details]',
            'SELECT "it\'s 1", "a""b", `it\'s 2`, [order details]',
        ),
        ("SELECT a1, _2, 2fa FROM t1, s2.t3", "SELECT a1, _2, 2fa FROM t1, s2.t3"),
        ("-- it's\nSELECT/* it's */1 -- 2", "SELECT ?"),
        ("SELECT /*+ SeqScan(t) */ a", "SELECT a"),
        ("WHERE a IN (1, 2)", "WHERE a IN (?)"),
        ("WHERE a IN ( ?,?,? )", "WHERE a IN (?)"),
        ("WHERE a IN (%s)", "WHERE a IN (?)"),
        ("WHERE a IN (%(a_1)s, %(a_2)s)", "WHERE a IN (?)"),
        ("WHERE a IN (:a, :b, :c)", "WHERE a IN (?)"),
        ("WHERE a IN ($1::INTEGER, $2::VARCHAR[])", "WHERE a IN (?)"),
        ("WHERE a IN ($1::TIMESTAMP WITHOUT TIME ZONE, 'x'::numeric(10, 2))", "WHERE a IN (?)"),
        ("WHERE (a, b) IN ((1, 'x'), (2, 'y'))", "WHERE (a, b) IN (?)"),
        ("WHERE a = ANY (ARRAY[1, 2, 3])", "WHERE a = ANY (ARRAY[?])"),
        ("INSERT INTO t VALUES (1, NULL, 'x'), (%s, TRUE, -3)", "INSERT INTO t VALUES (?)"),
        ("INSERT INTO t VALUES (1),\n(2) ,(3) RETURNING id", "INSERT INTO t VALUES (?) RETURNING id"),
        ("INSERT INTO t VALUES (lower('A'), 1), (lower('B'), 2)", "INSERT INTO t VALUES (lower(?), ?), (lower(?), ?)"),
        ("SELECT f(), g(a, 1), h(1, 2), (SELECT 1)", "SELECT f(), g(a, ?), h(?), (SELECT ?)"),
        ("SELECT NULL, true, (1", "SELECT NULL, true, (?"),
        ("SELECT a) FROM t", "SELECT a) FROM t"),
    ],
)
def test_values_are_masked_and_lists_of_them_are_one(statement: str, text: str) -> None:
    assert masked(statement) == text
    assert masked(text) == text


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ('SELECT "a" FROM `t"s` WHERE b = "it\'s" OR c = \'"\'', 'SELECT ? FROM `t"s` WHERE b = ? OR c = ?'),
        ('WHERE a IN ("x", "y""z")', "WHERE a IN (?)"),
        ('WHERE a = "\\"secret" AND b = 1', "WHERE a = ? AND b = ?"),
        ('WHERE a = "secret', "WHERE a = ?..."),
        ('WHERE a = _utf8"secret"', "WHERE a = _utf8?"),
    ],
)
def test_for_mysql_what_is_in_double_quotes_is_a_value(statement: str, text: str) -> None:
    assert masked(statement, mysql=True) == text
    assert masked(text, mysql=True) == masked(text) == text


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("WHERE a = 'it\\'s' AND b = 'c'", "WHERE a = ? AND b = ?"),  # MySQL
        ("WHERE a = 'C:\\' AND b = 'D:\\'", "WHERE a = ? AND b = ?"),  # the standard
        ("WHERE a = 'x\\\\' AND b = 'c\\n'", "WHERE a = ? AND b = ?"),  # the same to both
        ("WHERE \"a\\\" = 'it is' AND \"b\" = 'c'", 'WHERE "a\\" = ? AND "b" = ?'),
        ("WHERE a = 'C:\\', b = '\\'c'", "WHERE a = ?..."),  # either may be right
        ("WHERE a IN ('b', 'it\\'s'', c", "WHERE a IN (?)..."),  # neither is
        ("WHERE a = 'b", "WHERE a = ?..."),
        ("WHERE a = E'b\\'", "WHERE a = ?..."),
        ("WHERE a = $$b", "WHERE a = ?..."),
        ('WHERE "a', "WHERE ?..."),
        ("WHERE a /* b", "WHERE a ?..."),
    ],
)
def test_a_backslash_is_an_escape_or_a_letter_and_a_text_may_have_no_end(statement: str, text: str) -> None:
    """No value is shown in case of doubt."""
    assert masked(statement) == text


@pytest.mark.parametrize("row", ["(1, 'x')", "(%s, %s)", "(%(a)s, NULL)", "('it''s', 2.5)", "($1::TEXT, 'it\\n')"])
def test_long_statements_of_one_kind_have_one_text(row: str) -> None:
    texts = {masked(f"INSERT INTO t VALUES {' ' * blanks}{', '.join([row] * 5000)}") for blanks in range(20)}
    assert texts == {"INSERT INTO t VALUES (?)..."}


def test_a_long_statement_ends_in_no_half_of_a_value() -> None:
    for length in range(9_970, 10_000):
        assert not set(masked(f"SELECT '{'x' * length}' || 1234567890 || 'secret'")) - set("SELECT ?|.")


NAME = st.sampled_from(["a", "t.b", '"c d"', "`e f`", "[g h]", "SELECT", "FROM", "café"])
SIGN = st.sampled_from(["=", "+", "-", "*", "<", "::int", "||", ";", "#>", "@", "\\", "{", "?|"])
SECRET = "zQ7"
INSIDE = st.lists(st.sampled_from([SECRET, " ", "a", '"', "`", "--", "/*", "*/", "%s", ",", "(", "\n", "''"])).map(
    "".join
)
VALUE = st.one_of(
    INSIDE.map(lambda text: f"'{SECRET}{text}'"),
    INSIDE.map(lambda text: f"E'\\'{text}'"),
    INSIDE.map(lambda text: f"$x$it's{text}$x$"),
    st.integers(0).map(lambda number: f"77{number}"),
    st.floats(0, allow_nan=False, allow_infinity=False).map(lambda number: f"77{number}"),
)
COMMENT = INSIDE.map(lambda text: f"/*{text.replace('*/', '')}*/")
PART = st.one_of(NAME, SIGN, VALUE, COMMENT, st.sampled_from(["%s", ":p", "$1", "(", ")", "[", "]", ","]))


@given(st.lists(PART).map(" ".join))
def test_no_value_is_shown_in_any_statement(statement: str) -> None:
    text = masked(statement)
    assert SECRET not in text
    assert "77" not in text
    assert masked(text) == text


@given(st.text())
def test_any_text_is_masked(text: str) -> None:
    assert len(masked(text)) <= len(text) + 4
    summarize(text)


@pytest.mark.parametrize(
    "part",
    [
        "1",
        "1x",
        "%(",
        "$a$ ",
        "'a'' ",
        "'\\'",
        "*/\\'\\\"]",
        "/* ",
        "[a",
        'a."b',
        "(",
        "((1),",
        "[a-",
        ":: ",
        "a::b with time ",
        "--",
        ". ",
        "E'",
    ],
)
def test_time_is_linear(part: str) -> None:
    """Whatever begins and does not end, ten thousand characters take no second."""
    statement = (part * 10_000)[:9_999]
    begin = time.process_time()
    masked(statement)
    masked(statement + "x" * 100_000)
    assert time.process_time() - begin < 0.5
