"""The doctor's diagnosis as text for a terminal, within its width."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .doctor import Diagnosis, HookReport
from .tracers import TracerReport

_STYLES = {"patched": "green", "partly patched": "yellow", "not patched": "red", "broken": "red"}


def show(diagnosis: Diagnosis) -> None:
    """Print a diagnosis on standard output; in colour on a terminal only."""
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(_table(diagnosis.hooks))
    for report in diagnosis.hooks:
        for unpatched in _unpatched(report):
            console.print(unpatched)
    console.print()
    for line in _tracer(diagnosis.tracer):
        console.print(line)
    for warning in diagnosis.warnings:
        console.print(Text.assemble(("warning: ", "yellow"), warning))
    for problem in diagnosis.problems:
        console.print(Text.assemble(("problem: ", "bold red"), problem))
    if not diagnosis.problems:
        console.print("Everything asked for works.")


def _table(hooks: list[HookReport]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("hook", "library", "installed", "supported", "state"):
        table.add_column(heading, header_style="bold", overflow="fold")
    for hook in hooks:
        name = f"{hook.name} ({hook.distribution})" if hook.distribution else hook.name
        supports = f"{hook.supports} !" if hook.supported is False else hook.supports
        state = Text(hook.state, _STYLES.get(hook.state, "dim"))
        if hook.targets:
            applied = sum(target.state == "applied" for target in hook.targets)
            state.append(f" ({applied}/{len(hook.targets)})", "dim")
        table.add_row(Text(name), hook.library or "", hook.installed or "", supports, state)
    return table


def _unpatched(hook: HookReport) -> Iterator[Padding]:
    for target in hook.targets:
        if target.state != "applied":
            line = Text.assemble((f"{hook.name}: ", "yellow"), f"{target.target} {target.state}: {target.detail}")
            yield Padding(line, (0, 0, 0, 2))


def _tracer(report: TracerReport | None) -> Iterator[Text]:
    if report is None:
        return
    yield Text.assemble(("tracer ", "bold"), report.tracer)
    yield Text.assemble(("scopes ", "bold"), report.scope_manager)
    for form, headers in report.propagation.items():
        written = "not supported" if headers is None else ", ".join(headers) or "nothing"
        yield Text.assemble((f"{form} ", "bold"), written)
