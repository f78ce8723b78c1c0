"""What the words of a command are taken for, without any server."""

from __future__ import annotations

import time

import pytest

from opentracing_instrumentation.client_hooks._redis_commands import KEYED, SINGLE_NODE, without_words
from opentracing_instrumentation.client_hooks._redis_messages import seal, unseal


@pytest.mark.parametrize(
    ("message", "clean"),
    [
        (
            "Command # 1 (SET a (b) ) of pipeline caused error: x (y)",
            "Command # 1 (...) of pipeline caused error: x (y)",
        ),
        (
            "No targets were found to execute ('SET', 'a') command on",
            "No targets were found to execute (...) command on",
        ),
        ("target nodes.\nCommand: ('EVAL', 'x')", "target nodes.\nCommand: (...)"),
        ("Invalid args in command: ('GET',)", "Invalid args in command: (...)"),
        ("Too many targets for command ('SET', 'a')", "Too many targets for command (...)"),
        (
            "unknown command 'X', with args beginning with: 'a' 'b' ",
            "unknown command 'X', with args beginning with: ...",
        ),
    ],
)
def test_values_are_cut_out_of_messages(message: str, clean: str) -> None:
    """As redis-py's and the server's errors repeat them."""
    assert without_words(message) == clean


@pytest.mark.parametrize(
    "message",
    ["", "Error 111 connecting to localhost:6379. Connection refused.", "WRONGTYPE Operation (of a key)", " (", "("],
)
def test_other_messages_are_left_alone(message: str) -> None:
    assert without_words(message) == message


def test_long_messages_take_no_long_time() -> None:
    """redis-py puts values of any size into a message."""
    began = time.perf_counter()
    without_words("Command # 1 (" + " (" * 1_000_000)
    assert time.perf_counter() - began < 1


def test_the_first_argument_of_a_keyed_command_is_never_a_password() -> None:
    assert not KEYED & {"AUTH", "HELLO", "EVAL", "EVALSHA", "CONFIG SET", "ACL SETUSER", "PUBLISH", "ECHO", "MIGRATE"}
    assert SINGLE_NODE < KEYED


@pytest.mark.parametrize(
    "data", [b"\x00ot1 {", b"\x00ot1 12\n42", b"\x00ot1 \xff\n", "\x00ot1 []\n", None, 12, b"", ""]
)
def test_what_only_looks_like_an_envelope_is_left_alone(data: object) -> None:
    assert unseal(data) == ({}, data)


def test_without_a_span_there_is_no_envelope() -> None:
    assert seal(None, b"42") == b"42"
