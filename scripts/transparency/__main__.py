"""Runs the test suites of patched libraries, from their source distributions, with all hooks installed and without.

``scripts/services run env/bin/python -m scripts.transparency [NAME ...]`` prints what differs, and fails if a test that
passes without us fails with us. Tests that differ are run three more times each way, since suites have flaky tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import venv
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from .suites import SUITES, Services, Suite

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / ".transparency"
LIMIT = 1500  # seconds for one run of a suite
AGAIN = 3

Outcomes = dict[str, str]


def main(names: list[str]) -> int:
    folder = Path(os.environ.get("SERVICES_DIR") or ROOT / ".services")
    services = json.loads((folder / "services.json").read_text())["services"]
    broken = 0
    for suite in SUITES:
        if not names or suite.distribution in names:
            broken += len(_compare(suite, services))
    return 1 if broken else 0


def _compare(suite: Suite, services: Services) -> set[str]:
    source = _fetch(suite)
    without, hooked = (_run(suite, services, source, hooks) for hooks in (False, True))
    differing = {test for test in without.keys() | hooked.keys() if without.get(test) != hooked.get(test)}
    broken = {test for test in differing if without.get(test) == "passed"}
    for _ in range(AGAIN):
        if not broken:
            break
        again = [_run(suite, services, source, hooks, sorted(broken)) for hooks in (False, True)]
        broken = {test for test in broken if again[0].get(test) == "passed" and again[1].get(test) != "passed"}
    print(f"{suite.distribution} {source.name}: without {_counts(without)}; hooked {_counts(hooked)}")
    for argument, reason in suite.left_out.items():
        print(f"  left out: {argument} ({reason})")
    for test in sorted(differing):
        verdict = "BROKEN" if test in broken else "differs once"
        print(f"  {verdict}: {test}: {without.get(test)} without, {hooked.get(test)} hooked")
    return broken


def _counts(outcomes: Outcomes) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(Counter(outcomes.values()).items())) or "nothing"


def _fetch(suite: Suite) -> Path:
    """Make a virtual environment with the library and what its tests need; return the folder of its source."""
    folder = FOLDER / suite.distribution
    python = folder / "env" / "bin" / "python"
    if not python.exists():
        venv.create(folder / "env", with_pip=True)
    if not list(folder.glob("*.tar.gz")):
        _call(python, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", suite.distribution, "-d", folder,
              suite.distribution)  # fmt: skip
        _call(python, "-m", "pip", "install", "-q", "-e", ROOT, "basictracer", "pytest<9", "pytest-timeout",
              *suite.requires, *folder.glob("*.tar.gz"))  # fmt: skip
    archive = next(folder.glob("*.tar.gz"))
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    source = folder / archive.name.removesuffix(".tar.gz")
    settings = [source / name for name in ("pytest.ini", "pyproject.toml") if (source / name).exists()]
    if not any("pytest" in path.read_text() for path in settings):
        (source / "pytest.ini").write_text("[pytest]\n")  # or pytest would take the settings of this package
    return source


def _run(suite: Suite, services: Services, source: Path, hooks: bool, tests: list[str] | None = None) -> Outcomes:
    python, report = source.parent / "env" / "bin" / "python", source.parent / "report.xml"
    report.unlink(missing_ok=True)
    arguments = suite.arguments(services)
    chosen = ["-k", " or ".join({test.rpartition("::")[2].partition("[")[0] for test in tests})] if tests else []
    subprocess.run(
        [python, "-m", "pytest", "-q", "--timeout=60", "-p", "no:cacheprovider", f"--junitxml={report}",
         *(["-p", "scripts.transparency.hooked"] if hooks else []), *suite.left_out, *arguments, *chosen],
        cwd=source,
        env={**os.environ, "PYTHONPATH": str(ROOT), **suite.environment(services)},
        stdout=subprocess.DEVNULL,
        timeout=LIMIT,
        check=False,
    )  # fmt: skip
    return _read(report)


def _read(report: Path) -> Outcomes:
    outcomes = {}
    for case in ElementTree.parse(report).iter("testcase"):
        verdicts = {child.tag for child in case} & {"failure", "error", "skipped"}
        outcomes[f"{case.get('classname')}::{case.get('name')}"] = min(verdicts, default="passed")
    return outcomes


def _call(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
