"""Processes that outlive the command which started them, and which nothing else may be mistaken for.

A process number alone says little: the system gives it to somebody else once the process is gone. A
number together with its start time names one process for ever, so that is what is kept and compared.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import ServiceError

PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """The leader of a process group, as it was when it was started."""

    pid: int
    started: str

    @classmethod
    def start(
        cls, command: Sequence[str], log: Path, environment: Mapping[str, str], user: str | None = None
    ) -> Process:
        """Start `command` in a session of its own, as `user` (None: as we are), its output appended to `log`."""
        account = pwd.getpwnam(user) if user else None
        with log.open("ab") as output:
            popen = subprocess.Popen(
                command,
                cwd=log.parent,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )
        started = next(row.started for row in _table() if row.pid == popen.pid)
        popen.returncode = 0  # it is meant to outlive us: no warning that it still runs
        return cls(popen.pid, started)

    def alive(self) -> bool:
        """Whether this very process runs, and not a later one of the same number."""
        return any(row.pid == self.pid and row.started == self.started and row.runs for row in _table())

    def stop(self, with_signal: signal.Signals, patience: float = 10.0) -> None:
        """End the process and its group, by force after `patience` seconds; a process that is gone is left alone."""
        if not self.alive():
            return
        for number in (with_signal, signal.SIGKILL):
            os.killpg(self.pid, number)
            if self._group_ends_within(patience):
                return
        raise ServiceError(f"process group {self.pid} does not end")

    def _group_ends_within(self, patience: float) -> bool:
        deadline = time.monotonic() + patience
        while any(row.group == self.pid and row.runs for row in _table()):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


@dataclass(frozen=True)
class _Row:
    pid: int
    group: int
    state: str
    started: str

    @property
    def runs(self) -> bool:
        return not self.state.startswith("Z")  # a zombie has ended, whether or not its parent has noticed


def _table() -> Iterator[_Row]:
    """All processes of the machine: from /proc on Linux, from ps elsewhere."""
    if not (PROC / "self" / "stat").exists():
        listing = subprocess.run(
            ["ps", "-A", "-o", "pid=,pgid=,stat=,lstart="], capture_output=True, text=True, check=True
        )
        for line in listing.stdout.splitlines():
            pid, group, state, started = line.split(None, 3)
            yield _Row(int(pid), int(group), state, started)
        return
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we read the folder
            yield _Row(int(entry.name), int(fields[2]), fields[0], fields[19])
