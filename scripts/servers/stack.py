"""The servers that run for one checkout: started together, remembered in a file, stopped by that file.

The file `services.json` in the scratch folder is all there is to know: where each server listens, how to
get in, and which process it is. It is written before a server is waited for, so that whatever interrupts
the start can still be undone.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from . import ServiceError, compose, packages
from .kinds import HOST, SERVERS, Server, find, free_port
from .processes import Process

SECONDS_TO_START = 90.0
UNPRIVILEGED = "nobody"


@contextmanager
def locked(folder: Path) -> Iterator[Stack]:
    """The stack of the scratch folder, for one command at a time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder.parent, os.O_RDONLY)  # the folder itself comes and goes
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Stack.load(folder)
    finally:
        os.close(lock)


@dataclass
class Stack:
    """The servers of one scratch folder."""

    folder: Path
    run: Path  # data and logs; a short path, for Unix sockets, that an unprivileged server may reach
    password: str
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    containers: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, folder: Path) -> Stack:
        """What the folder says; a new stack without servers when it says nothing."""
        try:
            state = json.loads((folder / "services.json").read_text())
        except FileNotFoundError:
            return cls(folder, Path("/tmp", f"services-{secrets.token_hex(4)}"), secrets.token_hex(8))
        processes = {name: Process(**process) for name, process in state["processes"].items()}
        ports = {name: entry["port"] for name, entry in state["services"].items()}
        return cls(folder, Path(state["run"]), state["password"], ports, processes, state["containers"])

    def save(self) -> None:
        """Write the file anew, in one step for those who read it."""
        state = {
            "run": str(self.run),
            "password": self.password,
            "services": {name: self._address(self.server(name)) for name in self.ports},
            "processes": {name: asdict(process) for name, process in self.processes.items()},
            "containers": self.containers,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / "services.json.new"
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(state, indent=2) + "\n")
        draft.replace(self.folder / "services.json")

    def _address(self, server: Server) -> dict[str, object]:
        return {
            "host": HOST,
            "port": server.port,
            "user": server.user,
            "password": server.password,
            "database": server.database,
            "url": server.url,
            "log": str(server.home / server.statements) if server.name in self.processes else "",
        }

    def server(self, name: str) -> Server:
        """The server `name` as it is described, whether or not it runs."""
        return SERVERS[name](self.run / name, self.ports[name], self.password)

    def healthy(self, name: str) -> bool:
        """Whether the server runs, is ours and answers."""
        if name not in self.ports or (name in self.processes and not self.processes[name].alive()):
            return False
        try:
            self.server(name).ping()
        except OSError:
            return False
        return True

    def up(self, names: Sequence[str]) -> list[str]:
        """Start those of `names` that are not healthy and return them; on failure none of them is left."""
        wanted = [name for name in names if not self.healthy(name)]
        if not wanted:
            return []
        self.down([name for name in wanted if name in self.ports])
        try:
            if compose.engine_answers():
                self._start_containers(wanted)
            else:
                self._start_processes(wanted)
        except BaseException:
            self.down(wanted)
            raise
        return wanted

    def _start_containers(self, names: Sequence[str]) -> None:
        self.ports.update(dict.fromkeys(names, 0))
        self.containers += names
        self.save()
        compose.up(self.run.name, self.password, names, SECONDS_TO_START)
        for name in names:
            self.ports[name] = compose.port(self.run.name, name, SERVERS[name].container_port)
        self.save()

    def _start_processes(self, names: Sequence[str]) -> None:
        _install(names)
        self.run.mkdir(exist_ok=True)
        self.run.chmod(0o711)
        for name in names:
            self.ports[name] = free_port()
            self.processes[name] = _start(self.server(name))
            self.save()
        link = self.folder / "run"
        if not link.is_symlink():
            link.symlink_to(self.run)
        self._wait(names)

    def _wait(self, names: Sequence[str]) -> None:
        deadline = time.monotonic() + SECONDS_TO_START
        waiting = set(names)
        while waiting:
            dead = [name for name in waiting if not self.processes[name].alive()]
            if dead or time.monotonic() > deadline:
                how = "ended" if dead else f"does not answer after {SECONDS_TO_START:.0f} s"
                raise ServiceError("\n".join(f"{name} {how}\n{self._log_tail(name)}" for name in dead or waiting))
            waiting = {name for name in waiting if not self.healthy(name)}
            time.sleep(0.1)

    def _log_tail(self, name: str) -> str:
        lines = (self.run / name / "log").read_text(errors="replace").splitlines()
        return "\n".join(f"  {name}: {line}" for line in lines[-20:])

    def down(self, names: Sequence[str]) -> None:
        """Stop the servers `names`, whatever state they are in; with the last one go all files."""
        contained = [name for name in names if name in self.containers]
        for name in names:
            if name in self.processes:
                self.processes.pop(name).stop(SERVERS[name].stop_signal)
                shutil.rmtree(self.run / name, ignore_errors=True)
            self.ports.pop(name, None)
        if contained:
            compose.down(self.run.name, contained, everything=not self.ports)
            self.containers = [name for name in self.containers if name not in contained]
        if self.ports:
            self.save()
        else:
            self._clean()

    def _clean(self) -> None:
        shutil.rmtree(self.run, ignore_errors=True)
        for name in ("services.json", "services.json.new", "run"):
            (self.folder / name).unlink(missing_ok=True)
        if self.folder.exists() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def _install(names: Sequence[str]) -> None:
    """See to it that the programs of the servers `names` are there."""
    missing = [SERVERS[name] for name in names if not all(map(find, SERVERS[name].programs))]
    lacking = [server.name for server in missing if not server.package]
    if lacking:
        raise ServiceError(f"missing: {' '.join(lacking)} comes with the virtual environment: make bootstrap")
    if missing:
        packages.install([server.package for server in missing])


def _start(server: Server) -> Process:
    user = UNPRIVILEGED if server.own_account and os.geteuid() == 0 else None
    server.home.mkdir(mode=0o700)
    for name, content in server.files().items():
        (server.home / name).touch(mode=0o600)
        (server.home / name).write_text(content)
    if user:
        for path in (server.home, *server.home.iterdir()):
            os.chown(path, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    command = ["sh", "-c", server.script()]
    return Process.start(command, server.home / "log", server.environment(), user)
