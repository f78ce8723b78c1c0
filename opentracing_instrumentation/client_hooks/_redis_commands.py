"""What the words of a Redis command mean: its name, which of its arguments is a key, and which may be shown.

Values are the application's data and may be secrets, so they are told from keys by a list of the commands that are
known to begin with a key or a channel (the table that a server gives by ``COMMAND``, as of Redis 8). An argument of a
command that is not in the list is never looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._core.tags import REDACTED

_KEYED = """
    APPEND BITCOUNT BITFIELD BITFIELD_RO BITPOS BLMOVE BLPOP BRPOP BRPOPLPUSH BZPOPMAX BZPOPMIN COPY DECR DECRBY DEL
    DUMP EXISTS EXPIRE EXPIREAT EXPIRETIME GEOADD GEODIST GEOHASH GEOPOS GEORADIUS GEORADIUSBYMEMBER
    GEORADIUSBYMEMBER_RO GEORADIUS_RO GEOSEARCH GEOSEARCHSTORE GET GETBIT GETDEL GETEX GETRANGE GETSET HDEL HEXISTS
    HEXPIRE HEXPIREAT HEXPIRETIME HGET HGETALL HGETDEL HGETEX HINCRBY HINCRBYFLOAT HKEYS HLEN HMGET HMSET HPERSIST
    HPEXPIRE HPEXPIREAT HPEXPIRETIME HPTTL HRANDFIELD HSCAN HSET HSETEX HSETNX HSTRLEN HTTL HVALS INCR INCRBY
    INCRBYFLOAT LCS LINDEX LINSERT LLEN LMOVE LPOP LPOS LPUSH LPUSHX LRANGE LREM LSET LTRIM MGET MOVE MSET MSETNX
    PERSIST PEXPIRE PEXPIREAT PEXPIRETIME PFADD PFCOUNT PFMERGE PSETEX PTTL RENAME RENAMENX RESTORE RPOP RPOPLPUSH
    RPUSH RPUSHX SADD SCARD SDIFF SDIFFSTORE SET SETBIT SETEX SETNX SETRANGE SINTER SINTERSTORE SISMEMBER SMEMBERS
    SMISMEMBER SMOVE SORT SORT_RO SPOP SRANDMEMBER SREM SSCAN STRLEN SUBSTR SUNION SUNIONSTORE TOUCH TTL TYPE UNLINK
    VADD VCARD VDIM VEMB VGETATTR VINFO VISMEMBER VLINKS VRANDMEMBER VREM VSETATTR VSIM WATCH XACK XACKDEL XADD
    XAUTOCLAIM XCLAIM XDEL XDELEX XLEN XPENDING XRANGE XREVRANGE XSETID XTRIM ZADD ZCARD ZCOUNT ZDIFFSTORE ZINCRBY
    ZINTERSTORE ZLEXCOUNT ZMSCORE ZPOPMAX ZPOPMIN ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANGESTORE ZRANK ZREM
    ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE
    ZUNIONSTORE JSON.ARRAPPEND JSON.ARRINDEX JSON.ARRINSERT JSON.ARRLEN JSON.ARRPOP JSON.ARRTRIM JSON.CLEAR JSON.DEL
    JSON.FORGET JSON.GET JSON.MERGE JSON.MGET JSON.MSET JSON.NUMINCRBY JSON.NUMMULTBY JSON.OBJKEYS JSON.OBJLEN
    JSON.RESP JSON.SET JSON.STRAPPEND JSON.STRLEN JSON.TOGGLE JSON.TYPE
"""

#: The commands whose first argument is a key.
KEYED = frozenset(_KEYED.split()) | {
    *("MEMORY USAGE", "OBJECT ENCODING", "OBJECT FREQ", "OBJECT IDLETIME", "OBJECT REFCOUNT"),
    *("XGROUP CREATE", "XGROUP CREATECONSUMER", "XGROUP DELCONSUMER", "XGROUP DESTROY", "XGROUP SETID"),
    *("XINFO CONSUMERS", "XINFO GROUPS", "XINFO STREAM"),
}

#: The commands of one key, which a cluster keeps on one node; a client may spread those of several keys over more.
SINGLE_NODE = KEYED - {"DEL", "EXISTS", "MGET", "MSET", "TOUCH", "UNLINK"}

#: The commands whose first argument is a channel, or a pattern of channels.
CHANNELED = frozenset(
    {"PUBLISH", "SPUBLISH"} | {"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"}
)

#: The commands whose name has a second word, which redis-py writes into the same argument.
_CONTAINERS = frozenset(
    {"ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DEBUG", "FUNCTION", "HIMPORT", "HOTKEYS", "LATENCY", "MEMORY"}
    | {"MODULE", "OBJECT", "PUBSUB", "SCRIPT", "SENTINEL", "SLOWLOG", "XGROUP", "XINFO", "FT.CONFIG", "FT.CURSOR"}
)

#: The commands, by the first word of the name, among whose arguments may be a password.
_SECRET = frozenset({"ACL", "AUTH", "CONFIG", "HELLO", "MIGRATE", "SENTINEL"})

#: As many commands of a pipeline are named.
NAMED = 20


def parse(args: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    """Return the name of a command, in upper case, and its arguments.

    Args:
        args: the command as given to ``execute_command``, not empty. Its first item may hold more than the name: like
            redis-py, this splits it at white space.
    """
    name = args[0]
    if type(name) is not str or " " in name:
        return _split(text(name).split(), args[1:])
    return name.upper(), args[1:]


def _split(words: list[str], rest: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    length = 2 if words and words[0].upper() in _CONTAINERS else 1
    return " ".join(words[:length]).upper(), (*words[length:], *rest)


def shown(name: str, args: Sequence[Any]) -> tuple[Any, ...]:
    """Return the arguments of a command as anybody may see them: none of a command that may have a password."""
    return (REDACTED,) * len(args) if name.partition(" ")[0] in _SECRET else tuple(args)


def text(word: Any) -> str:
    """Return a word of a command as text, to be read by people."""
    return word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word)


def names(first: Sequence[Any]) -> str:
    """Return the names of commands with commas between them, of the first item of each, as for :func:`parse`."""
    return ", ".join(parse((item,))[0] for item in first)


def queued(pipeline: Any) -> list[Sequence[Any]]:
    """Return the commands that wait in a cluster's pipeline, each as given to ``execute_command``.

    Where a pipeline keeps them differs between redis-py's versions. One that keeps them elsewhere seems to have none.
    """
    strategy = getattr(pipeline, "_execution_strategy", None)
    stack = (
        getattr(pipeline, "command_stack", None)
        or getattr(pipeline, "_command_stack", None)
        or getattr(strategy, "_command_queue", None)
        or ()
    )
    return [command.args for command in stack]


def is_transaction(pipeline: Any) -> bool:
    """Tell whether a cluster's pipeline sends its commands as a transaction."""
    return type(getattr(pipeline, "_execution_strategy", None)).__name__ == "TransactionStrategy"


# What stands before and after the words of a command in the messages of errors.
_AROUND_WORDS = (
    (" (", ") of pipeline caused error"),
    ("execute (", ") command on"),
    ("ommand: (", ")"),
    ("for command (", ")"),
    ("with args beginning with: ", ""),  # the server's; the others are redis-py's
)


def without_words(message: str) -> str:
    """Return an error's message without the words of the command, values among them, that some messages repeat."""
    for before, after in _AROUND_WORDS:
        start = message.find(before)
        if start >= 0:
            start += len(before)
            end = message.rfind(after, start)
            if end >= start:
                message = f"{message[:start]}...{message[end:]}"
    return message
