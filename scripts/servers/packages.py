"""Debian packages: what the tests need besides Python, installed where that may be done, else named."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from . import ServiceError

# invoke-rc.d asks this program whether a package may start its server; 101 means "no"
POLICY = Path("/usr/sbin/policy-rc.d")
NO_STARTS = "#!/bin/sh\nexit 101\n"


def install(packages: Sequence[str]) -> None:
    """Install Debian `packages` without starting any server; raise ServiceError where we may not."""
    names = " ".join(packages)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ServiceError(f"missing: {names} (as Debian calls them); install them and try again")
    sys.stderr.write(f"installing {names}\n")
    with _no_server_starts():
        _apt_get("update")
        _apt_get("install", "-y", "--no-install-recommends", *packages)


def _apt_get(*arguments: str) -> None:
    done = subprocess.run(
        ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", *arguments],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ServiceError(f"{done.stdout}missing: apt-get {' '.join(arguments)} failed")


@contextmanager
def _no_server_starts() -> Iterator[None]:
    """Keep packages from starting their servers; the folder is locked, for another run may do the same."""
    folder = os.open(POLICY.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    kept = POLICY.with_suffix(".d.kept")
    if POLICY.exists() and not kept.exists():  # a run that was killed has left ours in its place
        POLICY.rename(kept)
    try:
        POLICY.write_text(NO_STARTS)
        POLICY.chmod(0o755)
        yield
    finally:
        POLICY.unlink(missing_ok=True)
        if kept.exists():
            kept.rename(POLICY)
        os.close(folder)


def install_headers() -> None:
    """Install what building mysqlclient takes, for it comes without wheels; the other clients have some."""
    needed = []
    if shutil.which("cc") is None:
        needed += ["gcc", "libc6-dev"]
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        needed.append(f"python3.{sys.version_info.minor}-dev")
    if shutil.which("pkg-config") is None:
        needed.append("pkg-config")
    if not any(_has_headers(library) for library in ("mysqlclient", "mariadb", "libmariadb")):
        needed.append("libmariadb-dev")
    if needed:
        install(needed)


def _has_headers(library: str) -> bool:
    try:
        return subprocess.run(["pkg-config", "--exists", library], check=False).returncode == 0
    except FileNotFoundError:
        return False
