"""What `opentracing-instrument run` was asked for, as it reaches the program and its children: in one variable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

#: Holds a plan as JSON, in the environment of the traced program.
VARIABLE = "OPENTRACING_INSTRUMENT"


@dataclass(frozen=True)
class Plan:
    """How a process is to be traced.

    Arguments: `service` names it in its spans, None for the name of its program; `exporter`; `tracer`, a factory as
    "module:factory", and `folder`, where its module is looked for, too; `hooks`, the names of those to install, None
    for all; `disable`, the names of those to leave out; `socket`, where the collector of the exporter "console"
    listens, and `main`, the id of the process for whose end it waits.
    """

    service: str | None = None
    exporter: str = "console"
    tracer: str | None = None
    folder: str = ""
    hooks: tuple[str, ...] | None = None
    disable: tuple[str, ...] = ()
    socket: str | None = None
    main: int | None = None

    def wants(self, hook: str) -> bool:
        """Tell whether the hook of this name is to be installed."""
        return hook not in self.disable and (self.hooks is None or hook in self.hooks)

    def to_json(self) -> str:
        """The value of the variable."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Plan | None:
        """The plan in an environment, or None where there is none. Raises ValueError for what is no plan."""
        text = environ.get(VARIABLE)
        if not text:
            return None
        values = json.loads(text)
        known = {each.name for each in fields(cls)}
        if not (isinstance(values, dict) and values.keys() <= known):
            raise ValueError(f"{VARIABLE} is not what opentracing-instrument run puts there: {text!r}")
        for name in ("hooks", "disable"):
            if values.get(name) is not None:
                values[name] = tuple(values[name])
        return cls(**values)
