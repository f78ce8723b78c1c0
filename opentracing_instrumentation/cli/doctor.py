"""`opentracing-instrument doctor`: what would be traced here, and what would not and why.

Libraries are imported to find out, which nothing else of this package does; so it is done in a process of its own.
"""

from __future__ import annotations

import importlib
import operator
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import entry_points, packages_distributions, version
from itertools import zip_longest
from typing import Any

from .._core import registry
from .._core.patching import Patch
from . import tracers, tracing
from .plan import Plan


@dataclass(frozen=True)
class Target:
    """One thing that a hook patches: its `state` is "applied", "missing" in its module, or "absent" with its module."""

    target: str
    state: str
    detail: str


@dataclass(frozen=True)
class HookReport:
    """What is known of one hook.

    Arguments: `distribution` that brings the hook, None for a built-in one; the `library` by its import name, the
    version that is `installed`, the versions that the hook `supports`, and whether that one is among them; `state`:
    "patched" (as far as there are modules for it), "partly patched", "not patched", "not installed", "left out" or
    "broken"; `detail` of the last.
    """

    name: str
    distribution: str | None
    library: str | None = None
    installed: str | None = None
    supports: str = ""
    supported: bool | None = None
    state: str = "left out"
    detail: str = ""
    targets: list[Target] = field(default_factory=list)


@dataclass(frozen=True)
class Diagnosis:
    """All that the doctor knows; `problems` are things asked for that do not work, `warnings` may be traps."""

    hooks: list[HookReport]
    tracer: tracers.TracerReport | None
    problems: list[str]
    warnings: list[str]

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


def examine(plan: Plan) -> Diagnosis:
    """Install the plan's hooks, import what they patch, make its tracer, and take the hooks out again."""
    reports = [*(_report(hook, plan) for hook in tracing.hooks()), *_broken()]
    problems = list(_problems(reports, plan))
    try:
        tracer = tracers.examine(plan)
    except Exception as error:
        tracer = None
        problems.append(
            f"the tracer: {error if isinstance(error, ImportError) else f'{type(error).__name__}: {error}'}"
        )
    warnings = [*tracers.warnings(tracer), *_doubled(reports)]
    return Diagnosis(reports, tracer, problems, warnings)


def _report(hook: registry.Hook, plan: Plan) -> HookReport:
    patcher = hook.patcher
    report = HookReport(
        name=hook.name,
        distribution=hook.distribution,
        library=patcher.library,
        installed=_installed(patcher.library) if patcher.applicable else None,
        supports=patcher.supports,
    )
    facts: dict[str, Any] = {"supported": _within(report.installed, report.supports)}
    if not patcher.applicable:
        facts["state"] = "not installed"
    elif tracing.wanted(hook, plan):
        facts["targets"] = _targets(hook)
        facts["state"] = _state(facts["targets"])
    return HookReport(**{**vars(report), **facts})


def _targets(hook: registry.Hook) -> list[Target]:
    installed_before = hook.patcher.patches_installed
    hook.install()
    targets = [_target(patch) for patch in hook.patcher.all_patches]
    if not installed_before:
        hook.reset()
    return targets


def _target(patch: Patch) -> Target:
    try:
        importlib.import_module(patch.module_name)
    except Exception as error:  # whatever a module may raise
        return Target(patch.target, "absent", f"{type(error).__name__}: {error}")
    return Target(patch.target, patch.state, patch.detail)


def _state(targets: list[Target]) -> str:
    states = {target.state for target in targets}
    if "applied" not in states:
        return "not patched"
    return "partly patched" if "missing" in states else "patched"


def _installed(library: str | None) -> str | None:
    """The version of a library, by its import name: that of Python for a part of it."""
    if library is None:
        return None
    if library.partition(".")[0] in sys.stdlib_module_names:
        return platform.python_version()
    distributions = packages_distributions().get(library.partition(".")[0])
    return version(distributions[0]) if distributions else None


_COMPARED = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def _within(installed: str | None, specifier: str) -> bool | None:
    """Whether a version is among those specified; None where that can't be said."""
    clauses = re.findall(r"([<>=!]=|[<>])\s*([\d.]+)", specifier)
    if installed is None or not clauses:
        return None
    return all(_COMPARED[relation](*_comparable(installed, bound)) for relation, bound in clauses)


def _comparable(one: str, other: str) -> Iterator[tuple[int, ...]]:
    """The release numbers of two versions, of the same length."""
    numbers = [
        [int(part) for part in re.findall(r"\d+", (re.match(r"[\d.]*", each) or [""])[0])] for each in (one, other)
    ]
    return iter(zip(*zip_longest(*numbers, fillvalue=0), strict=True))


def _broken() -> Iterator[HookReport]:
    """The hooks of other distributions that the registry could not load."""
    loaded = {hook.name for hook in registry.third_party()}
    for entry_point in entry_points(group=registry.GROUP):
        if entry_point.name not in loaded:
            try:
                entry_point.load()
                detail = f"{entry_point.value} is not the module of a hook"
            except Exception as error:
                detail = f"{type(error).__name__}: {error}"
            distribution = entry_point.dist.name if entry_point.dist else None
            yield HookReport(entry_point.name, distribution, state="broken", detail=detail)


def _problems(reports: list[HookReport], plan: Plan) -> Iterator[str]:
    for report in reports:
        if report.state == "broken":
            yield f"{report.name}: {report.detail}"
        elif report.state == "not patched":
            yield f"{report.name}: {report.library} {report.installed} has nothing of what the hook patches"
        elif report.state == "not installed" and report.name in (plan.hooks or ()):
            yield f"{report.name}: {report.library} is not installed"


#: How OpenTelemetry calls the libraries of those hooks that bear another name.
_PEERS: Mapping[str, str] = {
    "botocore": "boto3",
    "mysqlclient": "mysqldb",
    "redis": "strict_redis",
    "urllib": "urllib2",
}


def _doubled(reports: list[HookReport]) -> Iterator[str]:
    """Warn of OpenTelemetry's own instrumentations that are on for what a hook traces, too."""
    traced = {name for report in reports if report.targets for name in (report.name, report.library)}
    for name, module in sorted(sys.modules.items()):
        prefix, _, peer = name.rpartition(".")
        if prefix == "opentelemetry.instrumentation" and _is_on(module):
            hook = _PEERS.get(peer, peer)
            if hook in traced:
                yield (
                    f"OpenTelemetry's own instrumentation of {peer} is on, too: each call becomes two spans; leave out"
                    f" one (--disable {hook}, or OTEL_PYTHON_DISABLED_INSTRUMENTATIONS={peer})"
                )


def _is_on(module: Any) -> bool:
    """Whether a module's instrumentor, a singleton by OpenTelemetry's convention, has been switched on."""
    classes = [each for each in vars(module).values() if isinstance(each, type)]
    return any(
        getattr(vars(each).get("_instance"), "_is_instrumented_by_opentelemetry", False)
        for each in classes
        if each.__module__ == module.__name__
    )
