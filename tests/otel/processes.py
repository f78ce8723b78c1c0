"""Programs of their own, for what can be seen only when a process ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

#: Seconds within which a program of its own must get on: to import the SDK alone takes a busy machine ten of them.
PATIENCE = 120

ROOT = Path(__file__).parent.parent.parent


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program with these variables in its environment; it must end well."""
    done = subprocess.run([sys.executable, "-c", code], **options(environment), check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done


def options(environment: dict[str, str]) -> dict[str, Any]:
    """Return the arguments of ``subprocess`` for a program that finds the package."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, paths))
    return {"env": {**inherited, "PYTHONPATH": path, **environment}, "text": True, "capture_output": True}
