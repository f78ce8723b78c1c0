"""Packages are installed without starting their servers, and the machine's own rule for that comes back."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType

import pytest

from tests.house.conftest import SCRIPTS


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("servers.packages")


@pytest.fixture
def policy(packages: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "policy-rc.d"
    monkeypatch.setattr(packages, "POLICY", path)
    return path


def test_servers_are_kept_from_starting_for_the_time_of_the_installation(packages: ModuleType, policy: Path) -> None:
    with packages._no_server_starts():
        assert os.access(policy, os.X_OK)
        assert policy.read_text() == "#!/bin/sh\nexit 101\n"
    assert not any(policy.parent.iterdir())


def test_the_rule_of_the_machine_comes_back_after_a_failure(packages: ModuleType, policy: Path) -> None:
    policy.write_text("the machine's own")
    with pytest.raises(OSError, match="no network"), packages._no_server_starts():
        assert policy.read_text() == "#!/bin/sh\nexit 101\n"
        raise OSError("no network")
    assert [path.read_text() for path in policy.parent.iterdir()] == ["the machine's own"]


def test_the_rule_of_the_machine_comes_back_after_a_killed_installation(packages: ModuleType, policy: Path) -> None:
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.with_name("policy-rc.d.kept").write_text("the machine's own")
    with packages._no_server_starts():
        pass
    assert [path.read_text() for path in policy.parent.iterdir()] == ["the machine's own"]


def test_who_may_not_install_is_told_what_is_missing(packages: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(packages.ServiceError, match=r"^missing: redis-server mariadb-server \(as Debian calls them\)"):
        packages.install(["redis-server", "mariadb-server"])
