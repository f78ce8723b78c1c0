"""What each server of the tests is: its programs, how it is started from nothing, how it says "ready".

A server is one shell line that prepares its data and then becomes the server: one process from the first
moment on, and all of them prepare at the same time. The data is thrown away afterwards, so nothing waits
for a disk. Each `ping` speaks the server's own protocol up to the first answer of a server that is ready.
"""

from __future__ import annotations

import http.client
import os
import random
import shlex
import shutil
import signal
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from . import ROOT

HOST = "127.0.0.1"


def find(program: str) -> str | None:
    """The path of `program`; Debian keeps PostgreSQL's outside of PATH and hides RabbitMQ's behind a wrapper."""
    postgresql = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name.zfill(4))
    folders = ["/usr/lib/rabbitmq/bin", *reversed(postgresql), os.environ["PATH"], "/usr/sbin", ROOT / "env/bin"]
    return shutil.which(program, path=os.pathsep.join(map(str, folders)))


def free_port() -> int:
    """A port that is free now, from below the range out of which the system serves outgoing connections."""
    while True:
        port = random.randrange(20000, 30000)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


def _run(program: str, *arguments: object) -> str:
    return shlex.join([find(program) or program, *map(str, arguments)])


@dataclass(frozen=True)
class Server:
    """One server with a folder, a port and a password of its own."""

    home: Path
    port: int
    password: str

    name: ClassVar[str]
    programs: ClassVar[tuple[str, ...]]
    package: ClassVar[str] = ""  # Debian's; empty: comes with the virtual environment
    container_port: ClassVar[int]
    scheme: ClassVar[str]
    user: ClassVar[str] = "tester"
    database: ClassVar[str] = ""
    statements: ClassVar[str] = "log"  # the file, below `home`, in which the server notes what it was asked
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    own_account: ClassVar[bool] = True  # refuses to run as root, or is better not trusted with it

    def files(self) -> Mapping[str, str]:
        """Names and contents of the files that the server reads; they keep the password out of `ps`."""
        return {}

    def environment(self) -> Mapping[str, str]:
        """The server's environment; ours is not handed on, for `PGPORT` and the like must not reach it."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), "LC_ALL": "C.UTF-8"}

    def script(self) -> str:
        """The shell line that prepares and runs the server."""
        raise NotImplementedError

    def ping(self) -> None:
        """Return when the server answers as one that is ready; raise OSError when it does not."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """Where a client finds the server, with what it needs to get in."""
        return f"{self.scheme}://{self.user}:{self.password}@{HOST}:{self.port}/{quote(self.database, safe='')}"

    def _ask(self, question: bytes, accept: Callable[[bytes], bool]) -> None:
        with socket.create_connection((HOST, self.port), timeout=5) as connection:
            connection.sendall(question)
            answer = b""
            while not accept(answer):
                part = connection.recv(4096)
                if not part:
                    raise ConnectionError(f"{self.name} answered {answer!r}")
                answer += part


class PostgreSQL(Server):
    name = "postgresql"
    programs = ("initdb", "postgres")
    package = "postgresql"
    container_port = 5432
    scheme = "postgresql"
    database = "postgres"
    stop_signal = signal.SIGINT  # does not wait for clients to leave

    def files(self) -> Mapping[str, str]:
        return {"password": self.password}

    def script(self) -> str:
        data = self.home / "data"
        settings = {
            "listen_addresses": HOST,
            "unix_socket_directories": self.home,
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "log_statement": "all",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        account = ("-U", self.user, f"--pwfile={self.home / 'password'}", "-A", "scram-sha-256")
        prepare = _run("initdb", "-D", data, *account, "-E", "UTF8", "--locale=C", "--no-sync")
        return f"{prepare} && exec {_run('postgres', '-D', data, '-p', self.port, *options)}"

    def ping(self) -> None:
        """A ready server answers the start-up message with an authentication request, `R`."""
        parameters = f"user\0{self.user}\0database\0{self.database}\0\0".encode()
        self._ask(struct.pack("!ii", 8 + len(parameters), 196608) + parameters, lambda got: got[:1] == b"R")


class MariaDB(Server):
    name = "mariadb"
    programs = ("mariadb-install-db", "mariadbd")
    package = "mariadb-server"
    container_port = 3306
    scheme = "mysql"
    database = "test"
    statements = "general.log"

    def files(self) -> Mapping[str, str]:
        account = f"{self.user}@'%'"
        return {
            "init.sql": f"CREATE DATABASE {self.database};\n"
            f"CREATE USER {account} IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL ON {self.database}.* TO {account};\n"
        }

    def script(self) -> str:
        quick = ("--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync")
        common = ("--no-defaults", f"--datadir={self.home / 'data'}", *quick)
        prepare = _run("mariadb-install-db", *common, "--skip-test-db")
        serve = _run(
            "mariadbd",
            *common,
            f"--bind-address={HOST}",
            f"--port={self.port}",
            f"--socket={self.home / 'socket'}",
            f"--pid-file={self.home / 'pid'}",
            f"--init-file={self.home / 'init.sql'}",
            "--skip-name-resolve",
            "--general-log",
            f"--general-log-file={self.home / self.statements}",
        )
        return f"{prepare} && exec {serve}"

    def ping(self) -> None:
        """A ready server greets first: a packet header of four bytes, then protocol version 10."""
        self._ask(b"", lambda got: got[4:5] == b"\x0a")


class Redis(Server):
    name = "redis"
    programs = ("redis-server",)
    package = "redis-server"
    container_port = 6379
    scheme = "redis"
    user = ""
    database = "0"

    def files(self) -> Mapping[str, str]:
        return {
            "redis.conf": f"bind {HOST}\nport {self.port}\nrequirepass {self.password}\n"
            f'dir {self.home}\nsave ""\nappendonly no\n'
        }

    def script(self) -> str:
        return f"exec {_run('redis-server', self.home / 'redis.conf')}"

    def ping(self) -> None:
        question = f"AUTH {self.password}\r\nPING\r\n".encode()
        self._ask(question, lambda got: got == b"+OK\r\n+PONG\r\n")


class RabbitMQ(Server):
    name = "rabbitmq"
    programs = ("rabbitmq-server", "epmd")
    package = "rabbitmq-server"
    container_port = 5672
    scheme = "amqp"
    database = "/"  # the virtual host

    def files(self) -> Mapping[str, str]:
        return {
            "rabbitmq.conf": f"listeners.tcp.1 = {HOST}:{self.port}\nlog.console = true\n"
            f"default_user = {self.user}\ndefault_pass = {self.password}\n",
            "enabled_plugins": "[].",
        }

    def environment(self) -> Mapping[str, str]:
        home = self.home
        return {
            **super().environment(),
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(free_port()),
            "RABBITMQ_NODENAME": f"tests{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "logs"),
            "RABBITMQ_PID_FILE": str(home / "pid"),
        }

    def script(self) -> str:
        # Erlang would leave its port mapper behind as a daemon; the one that runs already is used instead.
        return f"{_run('epmd')} & {_run('rabbitmq-server')}; status=$?; kill $!; exit $status"

    def ping(self) -> None:
        """A ready broker answers the protocol header of AMQP 0-9-1 with the method Connection.Start."""
        self._ask(b"AMQP\0\0\x09\x01", lambda got: got[:1] == b"\x01" and got[7:11] == b"\0\x0a\0\x0a")


class Moto(Server):
    name = "moto"
    programs = ("moto_server",)
    container_port = 5000
    scheme = "http"
    own_account = False  # runs from the virtual environment, which may lie where only its owner may look

    def script(self) -> str:
        return f"exec {_run('moto_server', '-H', HOST, '-p', self.port)}"

    def ping(self) -> None:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", "/moto-api/data.json")
            if connection.getresponse().status != http.client.OK:
                raise ConnectionError("moto does not answer yet")
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()

    @property
    def url(self) -> str:
        return f"{self.scheme}://{HOST}:{self.port}"


SERVERS: dict[str, type[Server]] = {server.name: server for server in (PostgreSQL, MariaDB, Redis, RabbitMQ, Moto)}
