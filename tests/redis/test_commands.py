"""Commands, blocking and asyncio: one span each, with the key and never a value."""

from __future__ import annotations

import socket
import threading
from datetime import timedelta
from typing import Any

import pytest
import redis
from opentracing.mocktracer import MockTracer

from opentracing_instrumentation import span_in_context
from opentracing_instrumentation.client_hooks import set_current_span_func, strict_redis
from opentracing_instrumentation.config import CONFIG
from tests.opentracing_instrumentation.told import Spans
from tests.services import Service

from .conftest import DATABASE, Kind
from .told import command

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")

SECRET = "hunter2"
UNKNOWN = "unknown command 'NONSENSE', with args beginning with: ..."


def test_a_command_is_one_span_with_its_key(kind: Kind, client: Any, address: Service, spans: Spans) -> None:
    assert kind.get(client.set("greeting", "hello"))
    assert kind.get(client.get("greeting")) == b"hello"
    assert spans() == [command("SET", address, key="greeting"), command("GET", address, key="greeting")]


def test_native_ways_of_calling_are_kept(kind: Kind, client: Any, address: Service, spans: Spans) -> None:
    """By keyword, by position, and with the options of the library's own."""
    kind.get(client.set(name="a", value="1", ex=30))
    kind.get(client.set("b", "2", 30))
    kind.get(client.setex(name="c", time=30, value="3"))
    kind.get(client.setex("d", timedelta(minutes=1), "4"))
    kind.get(client.setnx(name="e", value="5"))
    assert kind.get(client.get(name="a")) == b"1"
    assert spans() == [
        command("SET", address, key="a"),
        command("SET", address, key="b"),
        command("SETEX", address, key="c", ttl=30),
        command("SETEX", address, key="d", ttl=60),
        command("SETNX", address, key="e"),
        command("GET", address, key="a"),
    ]


def test_a_command_without_a_key_has_none(kind: Kind, client: Any, address: Service, spans: Spans) -> None:
    kind.get(client.get("greeting"))
    assert kind.get(client.echo(SECRET)) == SECRET.encode()
    assert spans() == [command("GET", address, key="greeting"), command("ECHO", address)]


def test_the_key_is_tagged_as_given(kind: Kind, client: Any, address: Service, spans: Spans) -> None:
    kind.get(client.get(b"\xff\x00"))
    assert spans() == [command("GET", address, key=b"\xff\x00")]


def test_of_several_keys_the_first_is_tagged(kind: Kind, client: Any, address: Service, spans: Spans) -> None:
    kind.get(client.delete("a", "b"))
    kind.get(client.mget(["c", "d"]))
    assert spans() == [command("DEL", address, key="a"), command("MGET", address, key="c")]


def test_names_of_two_words(kind: Kind, client: Any, address: Service, spans: Spans) -> None:
    kind.get(client.set("a", "1"))
    kind.get(client.object("encoding", "a"))
    kind.get(client.memory_usage("a"))
    kind.get(client.config_get("maxmemory"))
    kind.get(client.client_setname("tests"))
    assert spans()[1:] == [
        command("OBJECT", address),
        command("MEMORY USAGE", address, key="a"),
        command("CONFIG GET", address),
        command("CLIENT SETNAME", address),
    ]


@pytest.mark.parametrize(
    ("words", "operation", "key"),
    [
        (("get", "a"), "GET", "a"),
        ((b"get", "a"), "GET", "a"),
        (("GET a",), "GET", "a"),
        ((b"GET a",), "GET", "a"),
        ((" set  a", SECRET), "SET", "a"),
        (("SET a " + SECRET,), "SET", "a"),
        (("config set", "maxmemory-samples", "5"), "CONFIG SET", None),
        (("CONFIG", "SET", "maxmemory-samples", "5"), "CONFIG", None),
        (("xgroup create", "s", "g", "0", "mkstream"), "XGROUP CREATE", "s"),
    ],
)
def test_raw_commands(
    words: tuple[Any, ...], operation: str, key: str | None, kind: Kind, client: Any, address: Service, spans: Spans
) -> None:
    """However a command is spelt: its span is named by the command, and values stay out."""
    kind.get(client.execute_command(*words))
    assert spans() == [command(operation, address, **({} if key is None else {"key": key}))]


@pytest.mark.parametrize(
    "words",
    [
        ("AUTH", SECRET),
        ("AUTH", "user", SECRET),
        (f"AUTH {SECRET}",),
        (f"auth user {SECRET}",),
        (b"AUTH " + SECRET.encode(),),
        ("HELLO", "3", "AUTH", "user", SECRET),
        (f"HELLO 3 AUTH user {SECRET}",),
    ],
)
def test_passwords_are_nowhere(words: tuple[Any, ...], kind: Kind, client: Any, spans: Spans) -> None:
    """Neither in tags nor in the error's log, nor are they shown to the sanitizer."""
    strict_redis.patcher.sanitize = lambda name, args: f"{name} {args}"
    with pytest.raises(redis.RedisError):
        kind.get(client.execute_command(*words))
    (span,) = spans()
    assert span["operation"] in ("redis:AUTH", "redis:HELLO")
    assert "[redacted]" in span["tags"]["db.statement"]
    assert SECRET not in str(span)


def test_passwords_of_new_connections_are_nowhere(kind: Kind, address: Service, spans: Spans) -> None:
    """Authentication, SELECT and the like of a new connection are no spans; neither is a URL tagged."""
    url = f"redis://:{address.password}@{address.host}:{address.port}/{DATABASE}"
    client = kind.open(kind.module.Redis.from_url(url, client_name="tests"))
    kind.get(client.ping())
    assert spans() == [command("PING", address)]
    assert address.password not in str(spans())


def test_a_wrong_password_is_an_error(kind: Kind, address: Service, spans: Spans) -> None:
    client = kind.client(address, password=SECRET)
    with pytest.raises(redis.RedisError, match="invalid username-password pair") as caught:
        kind.get(client.get("a"))
    (span,) = spans()
    expected = command("GET", address, key="a", error=True)
    expected["tags"]["error"] = expected["tags"].pop("redis.error")
    log = {"event": "error", "message": str(caught.value), "error.object": caught.value}
    assert span == {**expected, "logs": [{**log, "error.kind": type(caught.value)}]}
    assert SECRET not in str(span)


def test_an_unknown_commands_words_are_not_logged(kind: Kind, client: Any, spans: Spans) -> None:
    """The server repeats them in its reply."""
    with pytest.raises(redis.ResponseError, match=SECRET) as caught:
        kind.get(client.execute_command("NONSENSE", SECRET))
    (span,) = spans()
    (log,) = span["logs"]
    assert log == {"event": "error", "message": UNKNOWN, "error.kind": type(caught.value)}
    assert span["tags"]["error"] is True


def test_the_sanitizer_says_what_is_shown(kind: Kind, client: Any, address: Service, spans: Spans) -> None:
    def sanitize(name: str, args: tuple[Any, ...]) -> str | None:
        return f"{name} {args[0]} ?" if args else None

    strict_redis.patcher.sanitize = sanitize
    kind.get(client.set("a", SECRET))
    kind.get(client.ping())
    assert spans() == [
        command("SET", address, key="a", **{"db.statement": "SET a ?"}),
        command("PING", address),
    ]


def test_a_failing_sanitizer_changes_nothing_else(
    lenient: None, kind: Kind, client: Any, address: Service, spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    def sanitize(name: str, args: tuple[Any, ...]) -> str:
        raise LookupError("no rule")

    strict_redis.patcher.sanitize = sanitize
    assert kind.get(client.set("a", "1")) is True
    kind.get(client.set("b", "1"))
    assert spans() == [command("SET", address, key="a"), command("SET", address, key="b")]
    assert [record.getMessage() for record in caplog.records] == [
        "the sanitizer of Redis commands failed; the call itself goes on (reported once)"
    ]


def test_keys_can_be_left_out(kind: Kind, client: Any, address: Service, spans: Spans) -> None:
    strict_redis.patcher.tag_keys = False
    kind.get(client.set("a", "1"))
    assert spans() == [command("SET", address)]


def test_the_parent_is_the_current_span(
    kind: Kind, client: Any, address: Service, spans: Spans, tracer: MockTracer
) -> None:
    """By whatever function was set; a client span is not made current itself."""
    with tracer.start_active_span("request"):
        kind.get(client.get("a"))
    with tracer.start_span("elsewhere") as elsewhere:
        set_current_span_func(lambda: elsewhere)
        kind.get(client.get("b"))
    assert [span for span in spans() if span["operation"] == "redis:GET"] == [
        command("GET", address, parent="request", key="a"),
        command("GET", address, parent="elsewhere", key="b"),
    ]


def test_a_host_name_is_a_hostname(kind: Kind, address: Service, spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name goes to ``peer.hostname``; the setting ``legacy_peer_tags`` brings the former ``peer.ipv4`` back."""
    client = kind.client(address, host="localhost", port=str(address.port))
    kind.get(client.ping())
    CONFIG.legacy_peer_tags = True
    kind.get(client.ping())
    place = {"peer.port": address.port}
    assert spans() == [
        command("PING", **{"peer.hostname": "localhost", **place}),
        command("PING", **{"peer.ipv4": "localhost", **place}),
    ]


def test_a_single_connection_client_is_traced(kind: Kind, address: Service, spans: Spans) -> None:
    client = kind.client(address, single_connection_client=True)
    kind.get(client.set("a", "1"))
    assert spans() == [command("SET", address, key="a")]


def test_a_client_of_before_is_traced_and_stops_at_reset(
    kind: Kind, client: Any, address: Service, spans: Spans
) -> None:
    strict_redis.reset_patches()
    kind.get(client.get("before"))
    strict_redis.install_patches()
    kind.get(client.get("meanwhile"))
    strict_redis.reset_patches()
    kind.get(client.get("after"))
    assert spans() == [command("GET", address, key="meanwhile")]


def test_threads_that_share_a_client_do_not_mix_up_keys(address: Service, spans: Spans) -> None:
    """Of four threads two read keys; no PING of the others bears one, and each key is on its own thread's span."""
    client = redis.Redis(address.host, address.port, DATABASE, password=address.password)

    def work(number: int) -> None:
        for turn in range(250):
            if number < 2:
                client.get(f"{number}-{turn}")
            else:
                client.ping()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()
    keys = sorted(span["tags"]["redis.key"] for span in spans() if span["operation"] == "redis:GET")
    assert keys == sorted(f"{number}-{turn}" for number in range(2) for turn in range(250))
    pings = [span for span in spans() if span["operation"] == "redis:PING"]
    assert pings == [command("PING", address)] * 500


def test_a_script_is_traced(kind: Kind, client: Any, spans: Spans) -> None:
    """Also the first attempt, for which the server does not know it yet."""
    script = client.register_script("return redis.call('SET', KEYS[1], ARGV[1])")
    kind.get(script(keys=["a"], args=[SECRET]))
    told = spans()
    assert [span["operation"] for span in told] == ["redis:EVALSHA", "redis:SCRIPT LOAD", "redis:EVALSHA"]
    assert ["error" in span["tags"] for span in told] == [True, False, False]
    assert SECRET not in str(told)


@pytest.mark.skipif(redis.__version__ == "4.2.0", reason="it mixes up the scripts of its two kinds of locks")
def test_a_lock_is_traced(kind: Kind, client: Any, address: Service, spans: Spans) -> None:
    lock = client.lock("guard", timeout=5)
    assert kind.get(lock.acquire())
    kind.get(lock.release())
    told = spans()
    assert told[0] == command("SET", address, key="guard")
    assert told[-1] == command("EVALSHA", address)


def test_a_blocking_command_is_a_span_of_its_length(
    kind: Kind, client: Any, address: Service, spans: Spans, tracer: MockTracer
) -> None:
    assert kind.get(client.blpop(["queue"], timeout=1)) is None
    assert spans() == [command("BLPOP", address, key="queue")]
    (span,) = tracer.finished_spans()
    assert 0.9 < span.finish_time - span.start_time < 5


def test_no_arguments_are_the_librarys_error(kind: Kind, client: Any, spans: Spans) -> None:
    with pytest.raises(IndexError):
        kind.get(client.execute_command())
    assert spans() == []


def test_an_iteration_is_a_span_for_each_command(kind: Kind, client: Any, address: Service, spans: Spans) -> None:
    async def collect() -> list[bytes]:
        return [key async for key in client.scan_iter("*")]

    kind.get(client.set("a", "1"))
    found = kind.get(collect()) if kind.is_async else list(client.scan_iter("*"))
    assert found == [b"a"]
    assert spans() == [command("SET", address, key="a"), command("SCAN", address)]


def test_no_tracer_means_no_work(kind: Kind, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(*_: Any) -> None:
        raise AssertionError("described")

    monkeypatch.setattr(type(strict_redis.patcher), "_begin", begin)
    assert kind.get(client.set("a", "1")) is True


def test_what_versions_before_offered_is_still_there(address: Service) -> None:
    assert strict_redis.METHOD_NAMES == ["execute_command", "get", "set", "setex", "setnx"]
    assert set(strict_redis.ORIG_METHODS) == set(strict_redis.METHOD_NAMES)
    assert strict_redis.IPV4_RE.match("127.0.0.1")
    with redis.StrictRedis(address.host, address.port) as client:
        assert client.peer_tags() == [("peer.ipv4", "127.0.0.1"), ("peer.port", address.port)]
    strict_redis.reset_patches()
    strict_redis.reset_patches()
    assert strict_redis.ORIG_METHODS == {}
    assert not hasattr(redis.Redis, "peer_tags")


def test_installing_keeps_the_interface_of_a_singleton() -> None:
    original = redis.Redis.execute_command
    strict_redis.install_patches()
    assert redis.Redis.execute_command is original
    strict_redis.install_patches.reset()
    strict_redis.install_patches()
    assert redis.Redis.execute_command is original


def test_a_socket_that_nobody_listens_on_is_an_error(kind: Kind, spans: Spans) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = kind.client(host="127.0.0.1", port=taken.getsockname()[1])
        with span_in_context(None), pytest.raises(redis.ConnectionError) as caught:
            kind.get(client.get("a"))
    (span,) = spans()
    assert span["tags"]["error"] is True
    assert span["logs"][0]["error.object"] is caught.value
