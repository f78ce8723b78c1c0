"""Where a server can be: behind a unix socket, a URL, a Sentinel, or as one of the nodes of a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel

from opentracing_instrumentation.client_hooks import strict_redis
from tests.opentracing_instrumentation.told import Spans, failed

from . import servers
from .conftest import Kind
from .servers import Server
from .told import command

MAJOR = int(redis.__version__.split(".")[0])


def at_node(name: str, node: Server | None = None, parent: str | None = None, **tags: Any) -> Any:
    """The span of a command of a cluster's client, with the node that it went to if there was a single one."""
    told = command(name, node, parent, **tags)
    told["tags"].pop("db.instance", None)
    return told


@pytest.mark.parametrize("by_url", [False, True])
def test_a_unix_socket_has_no_peer(by_url: bool, kind: Kind, own: Server, spans: Spans) -> None:
    if by_url:
        client = kind.open(kind.module.Redis.from_url(f"unix://{own.path}?db=2"))
    else:
        client = kind.client(unix_socket_path=own.path, db=2)
    kind.get(client.get("a"))
    assert spans() == [command("GET", key="a", **{"db.instance": "2"})]


def test_the_server_behind_a_sentinel(kind: Kind, own: Server, spans: Spans) -> None:
    """Once it has been found; what is asked of Sentinel is traced as well."""
    with servers.sentinel(own) as port:
        module = redis.asyncio.sentinel if kind.is_async else redis.sentinel
        sentinel = module.Sentinel([("127.0.0.1", port)])
        kind.open(sentinel.sentinels[0])
        client = kind.open(sentinel.master_for("orders"))
        kind.get(client.set("a", "1"))
        kind.get(client.get("a"))
        asked = {"peer.ipv4": "127.0.0.1", "peer.port": port}
        there = {"peer.ipv4": "127.0.0.1", "peer.port": own.port}
        told = spans()
        for span in told:
            span["tags"].pop("db.instance", None)
        assert told == [
            at_node("SENTINEL MASTERS", **asked),
            at_node("SET", key="a"),
            at_node("GET", key="a", **there),
        ]


@pytest.fixture
def rc(kind: Kind, nodes: list[Server]) -> Iterator[Any]:
    """A cluster's client that knows the nodes already, and an empty cluster."""
    if kind.is_async:
        pytest.importorskip("redis.asyncio.cluster")
        make: Any = redis.asyncio.cluster.RedisCluster
    else:
        make = redis.cluster.RedisCluster
    for node in nodes:
        node.ask("FLUSHALL")
    strict_redis.reset_patches()
    client = make(host=servers.HOST, port=nodes[0].port)
    if kind.is_async:
        kind.get(client.initialize())
    strict_redis.install_patches()
    yield client
    strict_redis.reset_patches()
    kind.get(getattr(client, "aclose", client.close)() if kind.is_async else client.close())


#: Keys that are on the first, second and third node.
FIRST, SECOND, THIRD = "b", "c", "a"


def test_a_clusters_command_is_one_span_with_its_node(kind: Kind, rc: Any, nodes: list[Server], spans: Spans) -> None:
    for key in FIRST, SECOND, THIRD:
        assert kind.get(rc.set(key, "1"))
    assert spans() == [at_node("SET", node, key=key) for node, key in zip(nodes, (FIRST, SECOND, THIRD), strict=True)]


def test_the_first_command_of_a_clusters_client(kind: Kind, nodes: list[Server], spans: Spans) -> None:
    """Finding the nodes does not count as going to them."""
    if kind.is_async and MAJOR == 4 and not hasattr(redis.asyncio, "cluster"):
        pytest.skip("this redis-py has no asyncio client for clusters")
    module = redis.asyncio.cluster if kind.is_async else redis.cluster
    client = module.RedisCluster(host=servers.HOST, port=nodes[0].port)
    kind.get(client.get(SECOND))
    kind.get(getattr(client, "aclose", client.close)() if kind.is_async else client.close())
    assert spans()[-1] == at_node("GET", nodes[1], key=SECOND)


def test_a_command_for_all_nodes_has_no_peer(kind: Kind, rc: Any, spans: Spans) -> None:
    kind.get(rc.flushall())
    assert spans() == [at_node("FLUSHALL")]


@pytest.fixture
def moved(rc: Any, nodes: list[Server]) -> Iterator[str]:
    """A key whose slot has moved from the first node to the second, which the client does not know yet."""
    slot = nodes[0].ask("CLUSTER KEYSLOT", FIRST)
    try:
        _assign(slot, nodes[1], nodes[0])
        yield FIRST
    finally:
        nodes[1].ask("FLUSHALL")
        _assign(slot, nodes[0], nodes[1])


def _assign(slot: int, to: Server, other: Server) -> None:
    for node in to, other:
        node.ask("CLUSTER SETSLOT", slot, "NODE", to.ask("CLUSTER MYID"))


def test_redirections_are_inside_one_span(kind: Kind, rc: Any, moved: str, nodes: list[Server], spans: Spans) -> None:
    """The node that answers is tagged."""
    assert kind.get(rc.set(moved, "1"))
    ours = [span for span in spans() if span["operation"] == "redis:SET"]
    assert ours == [at_node("SET", nodes[1], key=moved)]


def test_redirections_of_a_pipeline_are_inside_one_span(kind: Kind, rc: Any, moved: str, spans: Spans) -> None:
    pipeline = rc.pipeline()
    pipeline.set(moved, "1")
    assert kind.get(pipeline.execute()) == [True]
    ours = [span for span in spans() if span["operation"] not in ("redis:CLUSTER SLOTS", "redis:COMMAND")]
    assert ours == [at_node("PIPELINE", commands="SET", command_count=1)]


def test_the_sanitizer_sees_a_clusters_pipeline(kind: Kind, rc: Any, spans: Spans) -> None:
    strict_redis.patcher.sanitize = lambda name, args: f"{name} {args[0]}"
    pipeline = rc.pipeline()
    pipeline.set(FIRST, "1").set(SECOND, "2")
    kind.get(pipeline.execute())
    assert spans()[0]["tags"]["db.statement"] == f"SET {FIRST}\nSET {SECOND}"


def test_a_clusters_pipeline_is_one_span(kind: Kind, rc: Any, nodes: list[Server], spans: Spans) -> None:
    """With its node if it needs only one."""
    pipeline = rc.pipeline()
    for key in FIRST, SECOND, THIRD:
        pipeline.set(key, "1")
    assert kind.get(pipeline.execute()) == [True, True, True]
    pipeline.get(SECOND)
    assert kind.get(pipeline.execute()) == [b"1"]
    assert spans() == [
        at_node("PIPELINE", commands="SET, SET, SET", command_count=3),
        at_node("PIPELINE", nodes[1], commands="GET", command_count=1),
    ]


def test_an_empty_pipeline_of_a_cluster_is_no_span(kind: Kind, rc: Any, spans: Spans) -> None:
    assert kind.get(rc.pipeline().execute()) == []
    assert spans() == []


def test_the_error_of_a_clusters_pipeline(kind: Kind, rc: Any, spans: Spans) -> None:
    pipeline = rc.pipeline()
    pipeline.set(FIRST, "1")
    pipeline.lpush(FIRST, "hunter2")
    with pytest.raises(redis.ResponseError, match="hunter2"):
        kind.get(pipeline.execute())
    (span,) = spans()
    assert span["tags"]["error"] is True
    assert "WRONGTYPE" in span["logs"][0]["message"]
    assert "hunter2" not in str(span)


@pytest.mark.skipif(MAJOR < 6, reason="transactions of clusters came with redis-py 6")
def test_a_transaction_of_a_cluster(kind: Kind, rc: Any, nodes: list[Server], spans: Spans) -> None:
    pipeline = rc.pipeline(transaction=True)
    kind.get(pipeline.watch(FIRST))
    pipeline.multi()
    pipeline.set(FIRST, "1")
    assert kind.get(pipeline.execute()) in ([True], [b"OK"])
    node = None if kind.is_async else nodes[0]
    assert spans() == [
        at_node("WATCH", node, key=FIRST),
        at_node("MULTI", node, commands="SET", command_count=1),
    ]


def test_the_error_of_a_clusters_command(kind: Kind, rc: Any, nodes: list[Server], spans: Spans) -> None:
    kind.get(rc.set(FIRST, "1"))
    with pytest.raises(redis.ResponseError) as caught:
        kind.get(rc.lpush(FIRST, "2"))
    assert spans()[1] == failed(at_node("LPUSH", nodes[0], key=FIRST), caught.value)


def test_publishing_through_a_cluster(kind: Kind, rc: Any, spans: Spans) -> None:
    if not hasattr(rc, "publish"):
        pytest.skip("the asyncio client of this redis-py can't publish through a cluster")
    strict_redis.patcher.publish_context = ["orders"]
    kind.get(rc.publish("orders", "42"))
    (span,) = spans()
    assert (span["operation"], span["tags"]["message_bus.destination"]) == ("redis:PUBLISH", "orders")


def test_subscribing_through_a_cluster(nodes: list[Server], spans: Spans) -> None:
    strict_redis.patcher.publish_context = strict_redis.patcher.continue_context = ["orders"]
    client = redis.cluster.RedisCluster(host=servers.HOST, port=nodes[0].port)
    with client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe("orders")
        assert listener.get_message(timeout=1) is None
        client.publish("orders", "42")
        assert listener.get_message(timeout=1)["data"] == b"42"
    client.close()
    subscription, publication, message = spans()[-3:]
    assert subscription["operation"] == "redis:SUBSCRIBE"
    assert subscription["tags"]["peer.port"] in [node.port for node in nodes]
    assert publication["operation"] == "redis:PUBLISH"
    assert (message["operation"], message["parent"]) == ("redis:MESSAGE", "redis:PUBLISH")


def test_a_cluster_that_is_left_alone_after_reset(kind: Kind, rc: Any, spans: Spans) -> None:
    pipeline = rc.pipeline()
    strict_redis.reset_patches()
    kind.get(rc.set(FIRST, "1"))
    pipeline.get(FIRST)
    kind.get(pipeline.execute())
    assert spans() == []
