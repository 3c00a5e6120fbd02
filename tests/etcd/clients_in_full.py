"""The tests of etcd's clients by others, from their own packages, on trioraft: `tests/run full etcd-clients`.

etcd3gw is the client of OpenStack, tooz its library for locks, groups and leaders. On a real etcd 23 and 80 of their
tests pass.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import trio

from tests.etcd.serving import Serving

ETCD3GW = ("etcd3gw==2.7.0", "oslotest")
TOOZ = (
    *("tooz==9.1", *ETCD3GW, "ddt", "testtools", "fixtures", "sysv-ipc", "pymemcache", "redis", "kazoo"),
    *("PyMySQL", "psycopg2-binary"),
)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment with both packages."""
    directory = tmp_path_factory.mktemp("clients")
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, directory], check=True)
    found = directory / "bin" / "python"
    subprocess.run([uv, "pip", "install", "--quiet", "--python", found, "pytest", *TOOZ], check=True)
    return found


def _run(python: Path, environment: Mapping[str, str], *files: str) -> tuple[int, str]:
    """Run tests of a package; return how many have passed, and what was printed."""
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    done = subprocess.run(
        [python, "-m", "pytest", "-q", *(site / file for file in files)],
        env={**os.environ, **environment},
        cwd=python.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    passed = re.search(r"(\d+) passed", done.stdout)
    return (int(passed[1]) if passed and done.returncode == 0 else -1), done.stdout[-4000:]


def _of_etcd3gw(cluster: Serving, i: int) -> dict[str, str]:
    return {
        "TOOZ_TEST_HTTP_URL": f"http://{cluster.client_address(i)}",
        "TOOZ_TEST_ETCD_PORT": str(cluster.clients[i]),
    }


async def test_the_tests_of_etcd3gw_pass(python: Path, tmp_path: Path) -> None:
    async with Serving(tmp_path) as cluster:
        await cluster.wait_ready()
        passed, text = await trio.to_thread.run_sync(
            _run, python, _of_etcd3gw(cluster, 0), "etcd3gw/tests/test_etcd3gw.py"
        )
        assert passed == 23, text


async def test_the_tests_of_etcd3gw_pass_while_leaders_are_killed(python: Path, tmp_path: Path) -> None:
    async with Serving(tmp_path, 3) as cluster:
        await cluster.wait_ready()
        asked = (cluster.index(await cluster.wait_leader()) + 1) % 3

        async def kill_leaders() -> None:
            while True:
                await trio.sleep(5)
                leader = cluster.index(await cluster.wait_leader())
                if leader != asked:
                    await cluster.kill(leader)
                    await trio.sleep(3)
                    await cluster.start(leader)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill_leaders)
            passed, text = await trio.to_thread.run_sync(
                _run, python, _of_etcd3gw(cluster, asked), "etcd3gw/tests/test_etcd3gw.py"
            )
            nursery.cancel_scope.cancel()
        assert passed == 23, text


async def test_the_tests_of_tooz_pass(python: Path, tmp_path: Path) -> None:
    async with Serving(tmp_path) as cluster:
        await cluster.wait_ready()
        url = f"etcd3+http://{cluster.client_address(0)}?api_version=v3beta"
        files = ("tooz/tests/test_coordination.py", "tooz/tests/test_partitioner.py")
        passed, text = await trio.to_thread.run_sync(_run, python, {"TOOZ_TEST_URL": url}, *files)
        assert passed == 80, text
