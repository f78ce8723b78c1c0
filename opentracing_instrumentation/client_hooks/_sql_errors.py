"""What an error of a database may say in a log: not the values of a statement, which drivers and servers repeat.

A server quotes the line with the error after psycopg2 has put the parameters into it, and names the values that a
constraint forbids. The caller gets all of that; a span's log gets the message without it, as long as
``CONFIG.capture_sql_parameters`` is off.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import Any

from opentracing import Span

from ..config import CONFIG
from ..utils import log_error

# PostgreSQL's parts of a message that quote stored rows, and the statement as psycopg2 has put the parameters into it.
_OF_ROWS = re.compile(r"\n(?:DETAIL|CONTEXT):.*", re.DOTALL)
_OF_ROWS_AND_PARAMETERS = re.compile(r"\n(?:DETAIL|CONTEXT|LINE \d+):.*", re.DOTALL)
_QUOTED = re.compile(r"""["'].*["']""", re.DOTALL)

_LOOKED_AT = 1000  # values: a message repeats one or two, and of a large batch mostly of its beginning
_SHORT = 2  # characters: a shorter value is found in any message, and tells nothing


def log_without_values(span: Span, error: BaseException, parameters: Any) -> bool:
    """Log an error that says more than it may: as ``with span:`` does, but for the values and the error itself.

    Args:
        span: the statement's span.
        error: what the driver raised.
        parameters: the statement's bound parameters, in any form that drivers take.

    Returns:
        whether it does; if it says nothing that it may not, nothing is logged.
    """
    if CONFIG.capture_sql_parameters:
        return False
    full = str(error).strip()
    message = without_values(full, parameters)
    if message == full:
        return False
    log_error(span, error, message)
    return True


def without_values(message: str, parameters: Any) -> str:
    """Return a message without what it quotes of rows and parameters, and with ``?`` for each bound value in it."""
    message = (_OF_ROWS_AND_PARAMETERS if parameters else _OF_ROWS).sub("", message)
    if isinstance(parameters, Iterator):  # the driver has read it, and nobody can once more
        return _QUOTED.sub("?", message)
    texts = {str(value) for value in islice(_values(parameters), _LOOKED_AT)}
    for text in sorted(texts, key=len, reverse=True):
        if len(text) > _SHORT and text in message:
            message = message.replace(text, "?")
    return message


def _values(parameters: Any) -> Iterator[Any]:
    """Return the values in parameters: of one statement or of many, by position or by name."""
    if isinstance(parameters, str):
        yield parameters
    elif isinstance(parameters, bytes | bytearray | memoryview):
        yield bytes(parameters).decode("utf-8", "replace")
    elif isinstance(parameters, Mapping):
        for value in parameters.values():
            yield from _values(value)
    elif isinstance(parameters, Collection):
        for value in parameters:
            yield from _values(value)
    elif parameters is not None:
        yield parameters
