"""Writes the parts of the documentation that the code can tell: the tables of hooks and settings, a page for each hook.

``python scripts/reference.py`` brings README.md, docs/settings.md and docs/hooks/ up to date. The example on a hook's
page is what one call of it left behind; ``--examples`` captures all of them anew with the calls of
tests/contract/calls.py, some of which need the servers of the tests:
``scripts/services run env/bin/python scripts/reference.py --examples``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import opentracing
from opentracing.mocktracer import MockTracer
from opentracing.scope_managers.contextvars import ContextVarsScopeManager

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from opentracing_instrumentation._core import registry  # noqa: E402
from opentracing_instrumentation._core.registry import Hook  # noqa: E402
from opentracing_instrumentation.client_hooks import BUILT_IN  # noqa: E402
from opentracing_instrumentation.config import PREFIX, SETTINGS  # noqa: E402

HOOKS = sorted(registry.built_in(BUILT_IN), key=lambda hook: hook.name)
EXAMPLE = re.compile(r"```text\n.*?```\n", re.DOTALL)


def table(header: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def title(hook: Hook) -> str:
    return str(hook.module.__doc__).partition(":")[0].replace("`", "")


def summary(hook: Hook) -> str:
    first = str(hook.module.__doc__).partition("\n\n")[0].partition(":")[2].strip()
    return " ".join(first.split()).rstrip(".")


def versions(hook: Hook) -> str:
    supports = hook.patcher.supports
    return f"`{supports}`" if supports.startswith(">") else supports


def hooks_table() -> str:
    rows = ((f"[{title(h)}](docs/hooks/{h.name}.md)", versions(h), summary(h)) for h in HOOKS)
    return table(("library", "versions", "spans"), rows)


def readme() -> str:
    text = (ROOT / "README.md").read_text()
    return re.sub(r"(<!-- hooks -->\n).*(<!-- /hooks -->)", rf"\1\n{hooks_table()}\n\2", text, flags=re.DOTALL)


def settings_page() -> str:
    rows = (
        (f"`{name}`", setting.purpose, f"`{setting.default!r}`", setting.kind.accepted, setting.kind.accepted_text)
        for name, setting in SETTINGS.items()
    )
    header = ("`CONFIG.…`", "what it is for", "default", "accepted", "in the environment")
    return f"""# Settings

Each setting is an attribute of `opentracing_instrumentation.config.CONFIG`, read whenever it is needed. It takes its
first value from the environment variable `{PREFIX}` with its name in capitals. A wrong value is a `ValueError` at
start-up that names setting, value and what is accepted.

{table(header, rows)}
```python
from opentracing_instrumentation.config import CONFIG

CONFIG.app_name = "shop"
CONFIG.callee_name_headers = ["X-Service"]
CONFIG.disabled_hooks = ["urllib2"]
```
"""


def markdown(text: str) -> str:
    """Turn the markup of docstrings into Markdown."""
    return re.sub(r":\w+:`[~.]*([^`]+)`", r"`\1`", text.strip()).replace("``", "`")


def hook_page(hook: Hook, example: str) -> str:
    _, _, reasons = str(hook.module.__doc__).partition("\n\n")
    patcher = hook.patcher
    targets = ((f"`{patch.target}`", patch.effect) for patch in patcher.all_patches)
    settings = ((f"`{name}`", SETTINGS[name].purpose) for name in patcher.settings)
    tags = ((f"`{name}`", meaning) for name, meaning in patcher.tags.items())
    return f"""# {title(hook)}

{summary(hook)[0].upper()}{summary(hook)[1:]}. Versions: {versions(hook)}.

{markdown(reasons)}

## Targets

{table(("target", "what is done with it"), targets)}
## Spans

Name: {patcher.spans}.

{table(("tag", "meaning"), tags)}
An example, as captured:

{example}
## Settings

{table(("`CONFIG.…`", "what it is for"), settings)}"""


def capture(hook: Hook) -> str:
    """Make one call of the hook and show its spans."""
    return "```text\n" + "\n".join(f"{span.operation_name}\n{_tags(span)}" for span in spans(hook, _find)) + "```\n"


def spans(hook: Hook, find: Callable[[str], Any]) -> list[Any]:
    """Make one call of the hook, below a span, and return the finished spans of the hook.

    Args:
        hook: the hook, which is installed for the time of the call.
        find: returns a server by its name, as the fixture ``service`` does.
    """
    from tests.contract.calls import CALLS

    before, opentracing.tracer = opentracing.tracer, MockTracer(ContextVarsScopeManager())
    hook.install()
    try:
        with opentracing.tracer.start_active_span("request"):
            CALLS[hook.name](find)
        return list(opentracing.tracer.finished_spans()[:-1])
    finally:
        hook.reset()
        opentracing.tracer = before


def _find(name: str) -> object:
    from tests.services import FOLDER, Service

    return Service(name, **json.loads((FOLDER / "services.json").read_text())["services"][name])


def _tags(span: object) -> str:
    tags: dict[str, object] = span.tags  # type: ignore[attr-defined]
    width = max(map(len, tags), default=0)
    return "".join(f"    {name:{width}}  {json.dumps(value, default=str)}\n" for name, value in tags.items())


def pages(new_examples: bool = False) -> dict[Path, str]:
    """Return all files that are made here, with what they shall hold."""
    made = {ROOT / "README.md": readme(), ROOT / "docs" / "settings.md": settings_page()}
    for hook in HOOKS:
        path = ROOT / "docs" / "hooks" / f"{hook.name}.md"
        known = EXAMPLE.search(path.read_text()) if path.exists() and not new_examples else None
        made[path] = hook_page(hook, known.group() if known else capture(hook))
    return made


def main() -> None:
    for path, text in pages("--examples" in sys.argv).items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
