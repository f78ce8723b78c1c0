"""scripts/services: servers start, are left alone and stop; nothing is left behind, nothing else is stopped.

Moto is the server of choice here: it comes with the tests' own requirements, and needs no system package.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.house.conftest import SCRIPTS, Program, Services


def state(folder: Path) -> Any:
    return json.loads((folder / "services.json").read_text())


def eventually(path: Path) -> str:
    """The content of a file that another process is about to write."""
    deadline = time.monotonic() + 10
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, f"{path} was not written"
        time.sleep(0.02)
    return path.read_text().strip()


def runs(pid: int) -> bool:
    listing = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return listing.stdout.strip() != "" and not listing.stdout.startswith("Z")


def test_a_server_answers_after_up_and_is_gone_after_down(services: Services, folder: Path) -> None:
    up = services("up", "moto")
    assert (up.returncode, up.stdout) == (0, ""), up.stderr
    data = Path(state(folder)["run"])
    assert (folder / "run" / "moto" / "log").samefile(data / "moto" / "log")
    address = state(folder)["services"]["moto"]
    with urllib.request.urlopen(address["url"] + "/moto-api/data.json", timeout=5) as answer:
        assert answer.status == 200
    status = services("status", "moto", "redis")
    assert status.stdout == f"moto        up         {address['url']}\nredis       down\n"
    assert status.returncode == 1

    services("down")
    assert not folder.exists()
    assert not data.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address["host"], address["port"]), timeout=5)


def test_up_leaves_a_healthy_server_alone_and_replaces_a_dead_one(services: Services, folder: Path) -> None:
    services("up", "moto")
    first = state(folder)
    assert services("up", "moto").returncode == 0
    assert state(folder) == first

    os.kill(first["processes"]["moto"]["pid"], signal.SIGKILL)
    assert services("status", "moto").stdout.split()[:3] == ["moto", "no", "answer"]
    assert services("up", "moto").returncode == 0
    assert services("status", "moto").returncode == 0
    assert state(folder)["processes"] != first["processes"]


def test_down_does_not_stop_a_later_process_of_the_same_number(services: Services, folder: Path) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as bystander:
        try:
            folder.mkdir()
            recorded = {"pid": bystander.pid, "started": "1"}
            contents = {
                "run": str(folder / "data"),
                "password": "",
                "services": {"redis": {"port": 1}},
                "processes": {"redis": recorded},
                "containers": [],
            }
            (folder / "services.json").write_text(json.dumps(contents))
            assert services("down").returncode == 0
            assert not folder.exists()
            assert bystander.poll() is None
        finally:
            bystander.kill()


def start_that_waits(environment: dict[str, str], program: Program, tmp_path: Path) -> subprocess.Popen[bytes]:
    """The script, starting a server that never answers; `pid` tells the server's number."""
    program("moto_server", f"echo $$ > {tmp_path}/pid; exec sleep 60")
    return subprocess.Popen([sys.executable, str(SCRIPTS / "services"), "up", "moto"], env=environment)


def test_down_stops_what_a_killed_up_has_started(
    services: Services, environment: dict[str, str], program: Program, tmp_path: Path
) -> None:
    with start_that_waits(environment, program, tmp_path) as up:
        pid = int(eventually(tmp_path / "pid"))
        eventually(tmp_path / "scratch" / "services.json")
        up.kill()
    assert runs(pid)
    assert services("down").returncode == 0
    assert not runs(pid)


def test_an_interrupted_up_leaves_nothing_behind(
    services: Services, environment: dict[str, str], program: Program, folder: Path, tmp_path: Path
) -> None:
    with start_that_waits(environment, program, tmp_path) as up:
        pid = int(eventually(tmp_path / "pid"))
        data = Path(json.loads(eventually(folder / "services.json"))["run"])
        up.terminate()
        assert up.wait(timeout=20) == 128 + signal.SIGTERM
    assert not runs(pid)
    assert not folder.exists()
    assert not data.exists()


def test_a_failed_start_prints_the_log_and_stops_the_others(
    services: Services, program: Program, folder: Path, tmp_path: Path
) -> None:
    program("redis-server", "echo $$ > pid; exec sleep 60")
    wait = "while [ ! -s ../redis/pid ]; do sleep 0.02; done"
    program("moto_server", f"{wait}; cp ../redis/pid {tmp_path}; echo cannot open the gate; exit 1")
    up = services("up", "redis", "moto")
    assert up.returncode == 1
    assert up.stderr == "moto ended\n  moto: cannot open the gate\n"
    assert not runs(int((tmp_path / "pid").read_text()))
    assert not folder.exists()


def test_containers_are_used_where_an_engine_answers(
    services: Services, program: Program, folder: Path, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    program("docker", f'echo "$*" >> {calls}; case "$*" in *" port redis 6379") echo 127.0.0.1:4321;; esac')
    assert services("up", "redis").returncode == 0
    address = state(folder)["services"]["redis"]
    assert address["url"] == f"redis://:{address['password']}@127.0.0.1:4321/0"
    assert address["log"] == ""
    assert services("down").returncode == 0
    assert not folder.exists()
    project = Path(calls.read_text().split("--project-name ")[1].split()[0]).name
    compose = f"compose --project-name {project} --file {SCRIPTS.parent / 'docker-compose.yml'}"
    assert calls.read_text().splitlines() == [
        "info",
        "compose version",
        f"{compose} up --detach --wait --wait-timeout 90 redis",
        f"{compose} port redis 6379",
        f"{compose} down --volumes",
    ]


def test_run_gives_the_code_of_its_command_and_stops_what_it_started(
    services: Services, program: Program, folder: Path, tmp_path: Path
) -> None:
    program("docker", 'case "$*" in *" port "*) echo 127.0.0.1:4321;; esac')
    assert services("run", "sh", "-c", f"cp {folder}/services.json {tmp_path}/seen; exit 7").returncode == 7
    seen = json.loads((tmp_path / "seen").read_text())["services"]
    assert sorted(seen) == ["mariadb", "moto", "postgresql", "rabbitmq", "redis"]
    assert not folder.exists()


def test_an_unknown_server_is_refused(services: Services) -> None:
    refused = services("up", "oracle")
    assert refused.returncode == 2
    assert "oracle is none of postgresql, mariadb, redis, rabbitmq, moto" in refused.stderr
