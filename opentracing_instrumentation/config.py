"""Every setting of the package: its name, type, default and environment variable, in one table.

A setting is an attribute of :data:`CONFIG`; it is read when it is needed, so it may be changed at any time. At import
each takes its value from the environment variable ``OPENTRACING_INSTRUMENTATION_<NAME>`` where there is one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

PREFIX = "OPENTRACING_INSTRUMENTATION_"

_BOOLEANS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
#: What SQL comments may tell; see :mod:`sqlcommenter`.
SQL_COMMENT_MODES = ("off", "static", "full")


def _text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _counted(text: str) -> int:
    """Return the number of a text of digits: ``int`` takes a sign and underscores as well."""
    if not (text.strip().isascii() and text.strip().isdigit()):
        raise ValueError(text)
    return int(text)


def _names(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


@dataclass(frozen=True)
class _Kind:
    accepts: Callable[[object], bool]
    accepted: str
    parse: Callable[[str], object]
    accepted_text: str


_TEXT = _Kind(_text, "a string or None", str, "any text")
#: The kind of a setting that is on or off.
FLAG = _Kind(_flag, "True or False", lambda text: _BOOLEANS[text.strip().lower()], ", ".join(_BOOLEANS))
_SECONDS = _Kind(
    lambda value: isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf,
    "a number of seconds, not below 0",
    float,
    "seconds, not below 0",
)
_MODE = _Kind(
    lambda value: value in SQL_COMMENT_MODES,
    " or ".join(map(repr, SQL_COMMENT_MODES)),
    lambda text: SQL_COMMENT_MODES[SQL_COMMENT_MODES.index(text.strip().lower())],
    ", ".join(SQL_COMMENT_MODES),
)
_COUNT = _Kind(_count, "a whole number, 0 or more", _counted, "a whole number, 0 or more")
_NAMES = _Kind(
    _names,
    "a list or tuple of strings",
    lambda text: [name.strip() for name in text.split(",") if name.strip()],
    "names with commas between them",
)


@dataclass(frozen=True)
class Setting:
    """One setting: what kind of value it takes, its default, and what it is for."""

    kind: _Kind
    default: object
    purpose: str


SETTINGS: Mapping[str, Setting] = {
    "app_name": Setting(_TEXT, None, "Name of this application."),
    "caller_name_headers": Setting(
        _NAMES, [], "Headers of an incoming request that name its caller; the first one present becomes peer.service."
    ),
    "callee_name_headers": Setting(
        _NAMES, [], "Headers of an outgoing request that name the called service; the first becomes peer.service."
    ),
    "callee_endpoint_headers": Setting(
        _NAMES, [], "Headers of an outgoing request that name the endpoint; the first joins the operation's name."
    ),
    "secret_query_parameters": Setting(
        _NAMES,
        [
            *("*password*", "*passwd*", "*passphrase*", "pwd", "pass", "*secret*", "*token*", "jwt", "otp", "code"),
            *("*api*key*", "*access*key*", "*private*", "*auth*", "*signature*", "sig", "*credential*"),
            *("*session*", "*sessid*", "odbc_connect", "dsn"),
        ],
        "Patterns (fnmatch, any case) of URL parameters whose values never reach a tag.",
    ),
    "capture_sql_parameters": Setting(
        FLAG, False, "Tag SQL spans with the statement's bound parameters, and log the database's errors in full."
    ),
    "legacy_peer_tags": Setting(FLAG, False, "Put any host, even a name, into peer.ipv4, as versions before 4.0 did."),
    "nest_driver_spans": Setting(
        FLAG, False, "Put the driver's own span below SQLAlchemy's for the same statement, instead of leaving it out."
    ),
    "sql_mask_literals": Setting(FLAG, False, "Show SQLAlchemy's statements with ? in place of literal values."),
    "sql_min_duration": Setting(
        _SECONDS, 0.0, "Seconds that a statement of SQLAlchemy's must take to have a span; failed ones have one anyway."
    ),
    "sql_checkout_threshold": Setting(
        _SECONDS, 0.001, "Seconds that the wait for a connection of SQLAlchemy's pool must take to have a span."
    ),
    "sql_trace_connects": Setting(FLAG, True, "Trace each new connection that SQLAlchemy's pool makes."),
    "sql_trace_pings": Setting(FLAG, True, "Trace the pings of SQLAlchemy's pool_pre_ping."),
    "sql_trace_transactions": Setting(
        FLAG, False, "Trace begin, commit and rollback of SQLAlchemy, and count transactions on the span above them."
    ),
    "sql_comments": Setting(
        _MODE, "off", "What SQL statements tell the database of in a comment: what has few values, or the span as well."
    ),
    "n_plus_one_threshold": Setting(
        _COUNT, 10, "So many similar statements below one span are reported as an N+1; 0 reports none."
    ),
    "aws_propagation": Setting(
        FLAG, False, "Have SQS and SNS messages carry the span's context in their attributes, where there is room."
    ),
    "disabled_hooks": Setting(_NAMES, [], "Hooks that install_all_patches() leaves out, by name."),
}


class _Config:
    """The settings as attributes. Assigning a wrong value raises ``ValueError``; any thread may read or assign.

    Attributes:
        assignments: how often any was assigned, for who keeps what follows from them. A list may change besides.
    """

    assignments = 0

    app_name: str | None
    caller_name_headers: list[str]
    callee_name_headers: list[str]
    callee_endpoint_headers: list[str]
    secret_query_parameters: list[str]
    capture_sql_parameters: bool
    legacy_peer_tags: bool
    nest_driver_spans: bool
    sql_mask_literals: bool
    sql_min_duration: float
    sql_checkout_threshold: float
    sql_trace_connects: bool
    sql_trace_pings: bool
    sql_trace_transactions: bool
    sql_comments: str
    n_plus_one_threshold: int
    aws_propagation: bool
    disabled_hooks: list[str]

    def __init__(self, app_name: str | None = None, environ: Mapping[str, str] | None = None) -> None:
        """Take defaults, then the environment, then ``app_name``.

        Args:
            app_name: name of this application; ``None`` leaves it to the environment.
            environ: where to look for the variables; nowhere by default.

        Raises:
            ValueError: a variable has a value that its setting does not accept, or there is no such setting.
        """
        for name, setting in SETTINGS.items():
            default = setting.default
            setattr(self, name, list(default) if isinstance(default, list) else default)
        for variable, text in (environ or {}).items():
            if variable.startswith(PREFIX):
                self._read(variable, text)
        if app_name is not None:
            self.app_name = app_name

    def _read(self, variable: str, text: str) -> None:
        name = variable.removeprefix(PREFIX).lower()
        if name not in SETTINGS:
            known = ", ".join(PREFIX + name.upper() for name in SETTINGS)
            raise ValueError(f"{variable}={text!r}: there is no such setting; there are {known}")
        kind = SETTINGS[name].kind
        try:
            value = kind.parse(text)
        except (KeyError, ValueError):
            value = None
        if value is None or not kind.accepts(value):
            raise ValueError(f"{variable}={text!r}: accepted are {kind.accepted_text}")
        setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        setting = SETTINGS.get(name)
        if setting is None:
            raise AttributeError(f"CONFIG.{name}: there is no such setting; there are {', '.join(SETTINGS)}")
        if not setting.kind.accepts(value):
            raise ValueError(f"CONFIG.{name} = {value!r}: accepted is {setting.kind.accepted}")
        object.__setattr__(self, name, value)
        object.__setattr__(self, "assignments", self.assignments + 1)


#: The settings in force.
CONFIG = _Config(environ=os.environ)
