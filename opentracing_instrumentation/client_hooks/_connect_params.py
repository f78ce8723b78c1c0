"""The arguments of a driver's ``connect`` as they may be tagged: in their shape, and without any secret."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from .._core.tags import REDACTED, is_secret_name, redact_url
from ..config import CONFIG

_OMITTED = ("passwd", "password", "conv")  # MySQLdb's converters are long and tell nothing
_KEYS = ("*key", "*passphrase*")  # besides CONFIG.secret_query_parameters: libpq's scram_client_key and the like
_ORACLE_PASSWORD = re.compile(r"^([^/@:=\s]+)/.*@", re.DOTALL)
_NAME = re.compile(r"[\w.-]+(?=\s*=)")


class Arguments(NamedTuple):
    """The arguments of a call, as they are tagged."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def is_secret(name: str) -> bool:
    """Tell whether a parameter of this name is a secret. A DSN is none as a whole: see :func:`redact_dsn`."""
    return name != "dsn" and is_secret_name(name, (*CONFIG.secret_query_parameters, *_KEYS))


def redact_dsn(dsn: str) -> str:
    """Return a data source name without secrets: a URL, parameters as of libpq or ODBC, or Oracle's user/password@.

    Parameters end before the value of the first secret: drivers do not agree on how such a value is quoted, and where
    it ends.
    """
    if "://" in dsn:
        return redact_url(dsn, (*CONFIG.secret_query_parameters, *_KEYS))
    if "@" in dsn:
        dsn = _ORACLE_PASSWORD.sub(rf"\1/{REDACTED}@", dsn)
    for name in _NAME.finditer(dsn):
        if is_secret(name[0]):
            return f"{dsn[: name.start()]}{name[0]}={REDACTED}"
    return dsn


def shown(args: tuple[Any, ...], kwargs: Mapping[str, Any], names: tuple[str, ...] = ()) -> Arguments:
    """Return the arguments of a call of ``connect`` without secrets.

    Args:
        args: the positional ones.
        kwargs: the keyword arguments; secrets are left out.
        names: what is known of the names of the positional ones. Text without a name may be a password: only the first
            argument never is (PEP 249 has the data source there; drivers a host or a file).
    """

    def is_hidden(index: int, value: Any) -> bool:
        return is_secret(names[index]) if index < len(names) else index > 0 and isinstance(value, str | bytes)

    positional = (REDACTED if is_hidden(index, value) else _show(value) for index, value in enumerate(args))
    kept = (name for name in kwargs if name not in _OMITTED and not is_secret(name))
    return Arguments(tuple(positional), {name: _show(kwargs[name]) for name in kept})


def _show(value: Any) -> Any:
    if isinstance(value, str):
        return redact_dsn(value)
    if isinstance(value, dict):
        return {name: REDACTED if is_secret(str(name)) else _show(item) for name, item in value.items()}
    return value


def positional_names(function: Any) -> tuple[str, ...]:
    """Return the names of a function's positional parameters, as far as it tells."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some functions in C do not
        return ()
    return tuple(item.name for item in parameters if item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD))
