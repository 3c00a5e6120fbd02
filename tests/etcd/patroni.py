"""Patroni with PostgreSQL, as processes on loopback, for the tests of it."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.conftest import unavailable

_BIN: Final = Path("/usr/lib/postgresql")
_USER: Final = "postgres"


def postgresql_binaries() -> Path:
    """Find PostgreSQL; the test is skipped, or fails as root, where there is none."""
    found = sorted(_BIN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        unavailable("there is no PostgreSQL: apt-get install postgresql")
    return found[-1].parent


def _as_postgres() -> list[str]:
    """Return the command that becomes a user that PostgreSQL allows, who can read what this user can read."""
    if os.geteuid():
        return []
    reading = "+dac_override,+dac_read_search"
    return [
        "setpriv",
        f"--reuid={_USER}",
        f"--regid={_USER}",
        "--init-groups",
        f"--inh-caps={reading}",
        f"--ambient-caps={reading}",
    ]


class Replica:
    """A Patroni with its PostgreSQL.

    Parameters
    ----------
    number : int
        Which one it is.
    ports : tuple of int
        The ports of Patroni's REST API and of PostgreSQL.
    etcd : list of str
        Where etcd's API is.
    directory : Path
        The directory of its files.
    options : dict
        Settings of the cluster that differ from `SETTINGS`; and ``scope``, its name.
    """

    SETTINGS: Final = {"ttl": 20, "loop_wait": 1, "retry_timeout": 9, "maximum_lag_on_failover": 1048576}

    def __init__(self, number: int, ports: tuple[int, int], etcd: list[str], directory: Path, **options: Any) -> None:
        self.name = f"pg{number}"
        self._scope = str(options.pop("scope", "batman"))
        self.rest, self.port = ports
        self.directory = directory
        directory.mkdir(parents=True)
        self.file = directory / "patroni.yaml"
        self.file.write_text(yaml.safe_dump(self._configuration(etcd, options)), "utf-8")
        if os.geteuid() == 0:
            shutil.chown(directory, _USER, _USER)
        self.log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def _configuration(self, etcd: list[str], options: dict[str, Any]) -> dict[str, Any]:
        postgresql = {
            "use_pg_rewind": False,
            "parameters": {"fsync": "off", "max_connections": 20, "shared_buffers": "16MB", "wal_keep_size": "64MB"},
        }
        return {
            "scope": self._scope,
            "name": self.name,
            "restapi": {"listen": f"127.0.0.1:{self.rest}", "connect_address": f"127.0.0.1:{self.rest}"},
            "etcd3": {"hosts": etcd},
            "bootstrap": {
                "dcs": {**self.SETTINGS, **options, "postgresql": postgresql},
                "initdb": [{"encoding": "UTF8"}, {"auth": "trust"}, "no-sync"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}",
                "connect_address": f"127.0.0.1:{self.port}",
                "data_dir": str(self.directory / "data"),
                "bin_dir": str(postgresql_binaries()),
                "pgpass": str(self.directory / "pgpass"),
                "authentication": {
                    "replication": {"username": "replicator", "password": "r"},
                    "superuser": {"username": "postgres", "password": "s"},
                },
                "parameters": {"unix_socket_directories": str(self.directory)},
                "pg_hba": [
                    "local all all trust",
                    "host all all 127.0.0.1/32 trust",
                    "host replication all 127.0.0.1/32 trust",
                ],
                "basebackup": {"checkpoint": "fast"},
            },
        }

    def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_as_postgres(), sys.executable, "-m", "patroni", str(self.file)],
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,
                env={**os.environ, "HOME": str(self.directory)},
            )

    def kill(self) -> None:
        """Kill Patroni and PostgreSQL, so that neither can tidy up."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        pid_file = self.directory / "data" / "postmaster.pid"
        if pid_file.exists():
            pid = int(pid_file.read_text("utf-8").split()[0])
            _kill_group(pid)

    def signal(self, number: int) -> None:
        """Send Patroni a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def rest_api(self, path: str, body: dict[str, Any] | None = None, method: str = "") -> tuple[int, Any]:
        """Ask Patroni; the status is 0 where it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.rest, timeout=5)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method or ("GET" if body is None else "POST"), path, data)
            response = connection.getresponse()
            text = response.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, None
        finally:
            connection.close()
        try:
            return response.status, json.loads(text)
        except ValueError:
            return response.status, text

    @property
    def is_primary(self) -> bool:
        """Whether Patroni says that it holds the leader lock."""
        return self.rest_api("/leader")[0] == 200

    def query(self, statement: str) -> str | None:
        """Have PostgreSQL carry out a statement; None where it does not."""
        command = [
            str(postgresql_binaries() / "psql"),
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            "postgres",
            "-qAt",
        ]
        environment = {**os.environ, "PGCONNECT_TIMEOUT": "3"}
        found = subprocess.run(
            [*command, "-c", statement], capture_output=True, text=True, timeout=20, check=False, env=environment
        )
        return found.stdout.strip() if found.returncode == 0 else None


def _kill_group(pid: int) -> None:
    """Kill a postmaster and what it has started."""
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    for one in (pid, *map(int, children.stdout.split())):
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def wait_until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Wait until something is so; the test fails where it does not come in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := condition():
            return found
        time.sleep(0.2)
    return pytest.fail(f"not within {seconds} s: {what}")
