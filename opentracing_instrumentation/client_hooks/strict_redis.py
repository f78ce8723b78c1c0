"""redis-py: one client span for each command and each pipeline, blocking and asyncio, on one server or on a cluster.

All commands of a client, also those of scripts, locks, modules and Sentinel, go through its ``execute_command``, those
of a watching pipeline through ``immediate_execute_command``, and subscriptions through that of ``PubSub``. A pipeline
sends what it has gathered in ``execute``. These are methods of classes and looked up at each call, so clients made
before patching are traced as well (not so a method that was taken from one before, as ``client.json()`` does).

A cluster's client routes: a call is one span whatever redirections and retries it needs. The node that
answers is learned from ``get_redis_connection`` and from the node's own methods, and tagged if it is a single one.

A published message can carry the span's context to its listeners where both want that; see
:attr:`RedisPatcher.publish_context`. ``PubSub.handle_message`` is what every received message goes through, and it
calls the message's handler, which thus runs inside the message's span.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar

from opentracing import Span
from opentracing.ext import tags as standard

from .._core.calls import idle, idle_database
from .._core.patching import CallPatch, Patch, Patcher, replace, trace
from .._core.safety import report
from .._core.tags import PEER_HOST_IPV6
from ..config import CONFIG
from ..request_context import current_span
from ..utils import child_span, peer_tags
from ._redis_commands import (
    CHANNELED,
    KEYED,
    NAMED,
    SINGLE_NODE,
    is_transaction,
    names,
    parse,
    queued,
    shown,
    text,
    without_words,
)
from ._redis_messages import Envelope, continued, matches, seal, unseal
from ._singleton import singleton

#: What versions before 4.0 took for an IPv4 address.
IPV4_RE = re.compile(r"^\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}$")
#: The methods of the client that versions before 4.0 replaced.
METHOD_NAMES = ["execute_command", "get", "set", "setex", "setnx"]
#: These methods as the library has them, while the hook is installed.
ORIG_METHODS: dict[str, Any] = {}

KEY = "redis.key"
TTL = "redis.ttl"
COMMANDS = "redis.commands"
COMMAND_COUNT = "redis.command_count"


class _Route:
    """The nodes that a call of a cluster's client goes to, in turn.

    Attributes:
        command: the command's first word as given to the client; ``None`` for a pipeline's first attempt.
        is_single: whether one node answers, and any other one redirects to it.
        nodes: host and port of each.
        is_over: whether the call is. Tasks that redis-py began during the call see the route for ever.
    """

    __slots__ = ("command", "is_over", "is_single", "nodes")

    def __init__(self, command: Any, is_single: bool) -> None:
        self.command = command
        self.is_single = is_single
        self.nodes: list[tuple[str, int]] = []
        self.is_over = False

    def peer(self) -> tuple[str, int] | None:
        """Return the one that answered, if there was a single one."""
        return self.nodes[-1] if self.nodes and (self.is_single or len(set(self.nodes)) == 1) else None


_route: ContextVar[_Route | None] = ContextVar("opentracing_instrumentation.redis", default=None)


def _route_in_force() -> _Route | None:
    route = _route.get()
    return None if route is None or route.is_over else route


class RedisPatcher(Patcher):
    """Traces redis-py.

    The attributes below that are not class variables may be changed at any time, on ``strict_redis.patcher``.
    """

    library: ClassVar[str | None] = "redis"
    supports = ">=4"
    spans = (
        "`redis:` and the command: `redis:GET`, `redis:CONFIG SET`; `redis:PIPELINE` and, for a transaction,"
        " `redis:MULTI`; `redis:MESSAGE` for a received message"
    )
    tags: ClassVar[Mapping[str, str]] = {
        standard.SPAN_KIND: "`client`; `consumer` for a received message",
        standard.PEER_SERVICE: "`redis`",
        standard.DATABASE_TYPE: "`redis`",
        standard.DATABASE_INSTANCE: "the number of the database",
        standard.PEER_HOST_IPV4: "the server's host, if it is an IPv4 address",
        PEER_HOST_IPV6: "if it is an IPv6 address",
        standard.PEER_HOSTNAME: "if it is a name",
        standard.PEER_PORT: "the server's port; neither host nor port for a unix socket or several nodes of a cluster",
        KEY: "the command's first key, if `patcher.tag_keys`; values are never tagged",
        TTL: "the time to live as given, for `SETEX`",
        COMMANDS: f"the names of a pipeline's first {NAMED} commands",
        COMMAND_COUNT: "how many commands the pipeline has",
        standard.DATABASE_STATEMENT: "what `patcher.sanitize` returns, if anything",
        standard.MESSAGE_BUS_DESTINATION: "the channel, the first one if there are several",
    }
    settings = ("legacy_peer_tags",)
    idle = staticmethod(idle_database)

    #: Whether keys are tagged.
    tag_keys: bool = True

    #: Called as ``sanitize(command, args)``, returns what may be shown of a command as ``db.statement``, or ``None``.
    #: The command's name is in upper case; the arguments are as given, but masked if there may be a password among
    #: them. It is called by the thread or task that sends the command; of a pipeline, for the first twenty. What it
    #: raises is logged once.
    sanitize: Callable[[str, tuple[Any, ...]], str | None] | None = None

    #: Patterns (:mod:`fnmatch`) of channels whose published messages carry the span's context. It is put in front of
    #: the message (from redis-py 4.1 on), so every listener has to name the channel in its ``continue_context``, in
    #: whatever process.
    publish_context: Sequence[str] = ()

    #: Patterns of channels whose received messages get a span, which continues the publisher's trace if they carry it.
    #: A message handler runs inside that span; without one, ``message["span_context"]`` is there to be continued.
    continue_context: Sequence[str] = ()

    @staticmethod
    def message_of(error: BaseException) -> str:
        """Return an error's message without what it says of values."""
        return without_words(str(error))

    def patches(self) -> Iterable[Patch]:
        """Return the patches of this hook."""
        yield _FormerNames("redis.client:Redis")
        yield from super().patches()
        for module in "redis.client", "redis.asyncio.client":
            # the context has to be taken out of a message even while there is no tracer
            yield CallPatch(f"{module}:PubSub.handle_message", self.message, activate=True, idle=self._deaf)

    def _deaf(self) -> bool:
        return not self.continue_context

    @trace(
        "redis.client:Redis.execute_command",
        "redis.asyncio.client:Redis.execute_command",
        "redis.client:Pipeline.immediate_execute_command",
        "redis.asyncio.client:Pipeline.immediate_execute_command",
        "redis.client:PubSub.execute_command",
        "redis.asyncio.client:PubSub.execute_command",
    )
    def command(self, client: Any, *args: Any, **options: Any) -> Any:
        return self._begin(client, args)

    @trace(
        "redis.cluster:RedisCluster.execute_command",
        "redis.asyncio.cluster:RedisCluster.execute_command",
        "redis.cluster:ClusterPubSub.execute_command",
        "redis.cluster:TransactionStrategy._immediate_execute_command",
        "redis.asyncio.cluster:TransactionStrategy._immediate_execute_command",
    )
    def routed_command(self, client: Any, *args: Any, **options: Any) -> Generator[Any, Any, None]:
        route = _route_in_force()
        if route is not None:  # a pipeline sends one of its commands again
            route.command = args[0]
            return
        span = self._begin(client, args)
        if span is not None:
            yield from _routed(span, _Route(args[0], is_single=parse(args)[0] in SINGLE_NODE))

    @trace("redis.client:Pipeline.execute", "redis.asyncio.client:Pipeline.execute")
    def pipeline(self, pipeline: Any) -> Any:
        stack = pipeline.command_stack
        if not stack:
            return None  # nothing is sent
        first = tuple([args[0] for args, _ in stack[:NAMED]])  # of a list: half as long as of a generator
        tags = _tags_of_pipeline(_server(pipeline), first, len(stack), CONFIG.legacy_peer_tags).copy()
        if self.sanitize is not None:
            self._show(tags, [args for args, _ in stack[:NAMED]])
        is_transaction = pipeline.transaction
        if callable(is_transaction):  # a method of asyncio's
            is_transaction = pipeline.is_transaction
        is_multi = is_transaction or pipeline.explicit_transaction
        return child_span("redis:MULTI" if is_multi else "redis:PIPELINE", tags)

    @trace("redis.cluster:ClusterPipeline.execute", "redis.asyncio.cluster:ClusterPipeline.execute")
    def routed_pipeline(self, pipeline: Any) -> Generator[Any, Any, None]:
        commands = queued(pipeline)
        count = len(commands) or len(pipeline)
        if not count:
            return
        first = tuple([args[0] for args in commands[:NAMED]])
        tags = _tags_of_pipeline(_server(pipeline), first, count, CONFIG.legacy_peer_tags).copy()
        if self.sanitize is not None:
            self._show(tags, commands[:NAMED])
        span = child_span("redis:MULTI" if is_transaction(pipeline) else "redis:PIPELINE", tags)
        yield from _routed(span, _Route(None, is_single=False))

    @trace("redis.cluster:RedisCluster.get_redis_connection")
    def node_chosen(self, cluster: Any, node: Any) -> None:
        route = _route_in_force()
        if route is not None:
            route.nodes.append((node.host, node.port))

    @trace("redis.asyncio.cluster:ClusterNode.execute_command")
    def node_commanded(self, node: Any, *args: Any, **options: Any) -> None:
        route = _route_in_force()
        if route is not None and route.command == args[0]:  # and not what the client asks on its own account
            route.nodes.append((node.host, node.port))

    @trace("redis.asyncio.cluster:ClusterNode.execute_pipeline")
    def node_given_pipeline(self, node: Any) -> None:
        self.node_chosen(None, node)

    @replace("redis.commands.core:PubSubCommands.publish", "redis.commands.core:PubSubCommands.spublish")
    def publish(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method that puts the context in front of a message where that is wanted, and publishes it."""
        _, channel, message = list(inspect.signature(original).parameters)[:3]
        command = original.__name__.upper()

        @functools.wraps(original)
        def publish(client: Any, *args: Any, **kwargs: Any) -> Any:
            if self.publish_context and self.patches_installed and not idle():
                try:
                    given = dict(zip((channel, message), args, strict=False)) | kwargs
                    if len(given) >= 2:  # else the library says what is missing
                        given[message] = self._sealed(client, command, given[channel], given[message])
                        args, kwargs = args[2:], given
                except Exception as error:
                    report("putting the span context into a Redis message", error)
            return original(client, *args, **kwargs)

        return publish

    def message(self, pubsub: Any, response: Any) -> Generator[Span, Any, None]:
        """Describe the handling of a received message."""
        if not isinstance(response, list) or text(response[0]) not in ("message", "pmessage", "smessage"):
            return
        channel = text(response[-2])
        if not matches(channel, tuple(self.continue_context)):
            return
        carrier, response[-1] = unseal(response[-1])
        tags = _client_tags(pubsub)
        tags[standard.SPAN_KIND] = standard.SPAN_KIND_CONSUMER
        tags[standard.MESSAGE_BUS_DESTINATION] = channel
        span = continued("redis:MESSAGE", carrier, tags)
        message = yield span
        if isinstance(message, dict):
            message["span_context"] = span.context

    def _begin(self, client: Any, args: Sequence[Any]) -> Span | None:
        if not args:
            return None
        if type(args[-1]) is Envelope:
            return args[-1].span
        name, rest = parse(args)
        tags = _client_tags(client)
        if rest:
            if name in KEYED:
                if self.tag_keys:
                    tags[KEY] = rest[0]
                if name == "SETEX" and len(rest) > 1:
                    tags[TTL] = rest[1]
            elif name in CHANNELED:
                tags[standard.MESSAGE_BUS_DESTINATION] = text(rest[0])
        if self.sanitize is not None:
            self._show(tags, [args])
        return child_span(f"redis:{name}", tags)

    def _show(self, tags: dict[str, Any], commands: Iterable[Sequence[Any]]) -> None:
        try:
            assert self.sanitize is not None
            parsed = [parse(command) for command in commands]
            statements = [self.sanitize(name, shown(name, args)) for name, args in parsed]
            statement = "\n".join(filter(None, statements))
        except Exception as error:
            report("the sanitizer of Redis commands", error)
        else:
            if statement:
                tags[standard.DATABASE_STATEMENT] = statement

    def _sealed(self, client: Any, command: str, channel: Any, message: Any) -> Any:
        if not matches(text(channel), tuple(self.publish_context)):
            return message
        get_encoder = getattr(client, "get_encoder", None) or client.connection_pool.get_encoder
        payload = get_encoder().encode(message)
        if hasattr(type(client), "execute"):  # a pipeline sends it later, in a span that has not begun
            return seal(current_span(), payload)
        span = self._begin(client, (command, channel, message))
        envelope = Envelope(seal(span, payload))
        envelope.span = span
        return envelope


def _routed(span: Span, route: _Route) -> Generator[Any, Any, None]:
    """Yield the span; meanwhile gather the nodes of a cluster that the call goes to, and tag the one that answers."""
    outer = _route.get()
    _route.set(route)
    try:
        yield span
    finally:
        _route.set(outer)
        route.is_over = True
        for tag, value in peer_tags(*route.peer() or (None, None)).items():
            span.set_tag(tag, value)


_NOWHERE: Mapping[str, Any] = {}


def _server(client: Any) -> tuple[Any, Any, Any]:
    """Return host, port and database of a client, each ``None`` if unknown."""
    pool = getattr(client, "connection_pool", None)
    where = getattr(pool, "connection_kwargs", _NOWHERE)
    host, port = where.get("host"), where.get("port")
    if host is None and "path" not in where:
        host, port = getattr(pool, "master_address", None) or (None, None)  # as Sentinel said last
    return host, port, where.get("db")


def _client_tags(client: Any) -> dict[str, Any]:
    """Return the tags that all spans of a client have, in a dict of the caller's own."""
    return _tags_of_server(_server(client), CONFIG.legacy_peer_tags).copy()


@functools.lru_cache(maxsize=1024)
def _tags_of_server(server: tuple[Any, Any, Any], _legacy_peer_tags: bool) -> dict[str, Any]:
    host, port, database = server
    tags: dict[str, Any] = {
        standard.SPAN_KIND: standard.SPAN_KIND_RPC_CLIENT,
        standard.PEER_SERVICE: "redis",
        standard.DATABASE_TYPE: "redis",
        **peer_tags(host, port and int(port)),
    }
    if database is not None:
        tags[standard.DATABASE_INSTANCE] = str(database)
    return tags


@functools.lru_cache(maxsize=1024)
def _tags_of_pipeline(
    server: tuple[Any, Any, Any], first: tuple[Any, ...], count: int, _legacy_peer_tags: bool
) -> dict[str, Any]:
    listed = names(first) if count <= NAMED else f"{names(first)}, ..."
    return {**_tags_of_server(server, _legacy_peer_tags), COMMANDS: listed, COMMAND_COUNT: count}


class _FormerNames(Patch):
    """Keeps what users of versions before 4.0 find on the client and in this module, while the hook is installed."""

    effect = "gets a method `peer_tags()`"

    def apply(self, module: Any) -> None:
        self._client = module.Redis
        ORIG_METHODS.update({name: getattr(self._client, name) for name in METHOD_NAMES})
        self._client.peer_tags = _peer_tags

    def revert(self) -> None:
        ORIG_METHODS.clear()
        if vars(self._client).get("peer_tags") is _peer_tags:
            del self._client.peer_tags


def _peer_tags(client: Any) -> list[tuple[str, Any]]:
    """Return the tags for the address of a client's server, as pairs."""
    host, port, _ = _server(client)
    return list(peer_tags(host, port and int(port)).items())


patcher: RedisPatcher
set_patcher: Callable[[Patcher], None]
install_patches: Any
reset_patches: Callable[[], None]

RedisPatcher.configure_hook_module(globals(), run_once=singleton)
