"""Hosts with several addresses: nodes that are bound to all of them answer from the one where they were asked."""

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.cluster.harness import FAST, ROOT, Cluster, Place, clean_environment, free_ports
from tests.cluster.namespaces import why_not

SECONDS = 30.0


async def put(host: str, port: int, within: Sequence[str] = ()) -> None:
    """Write a key by a command that knows one address only."""
    with trio.fail_after(SECONDS):
        done = await trio.run_process(
            [*within, sys.executable, "-m", "trioraft", "put", "key", host, "--peers", f"{host}:{port}"],
            env={**clean_environment(), "PYTHONPATH": str(ROOT)},
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("bind_host", ["0.0.0.0", "::"])  # noqa: S104 - what is tested
async def test_nodes_and_commands_find_each_other_at_any_address_of_a_host(tmp_path: Path, bind_host: str) -> None:
    places = [Place(f"127.0.0.{i + 2}", bind_host) for i in range(3)]
    async with Cluster(tmp_path, 3, places=places) as cluster:
        await cluster.wait_leader(SECONDS)
        await put("127.0.0.77", cluster.ports[0])
        for i in range(3):
            log = cluster.log_file(i).read_text()
            met = set(re.findall(r'"event": "peer".*"address": "(.*?)"', log))
            assert met >= {cluster.address(j) for j in range(3) if j != i}, (
                "nodes meet where they look for each other"
            )


@asynccontextmanager
async def open_host(*addresses: str) -> AsyncIterator[tuple[str, ...]]:
    """Have a network namespace whose loopback device has more addresses; return what a command is run with in it."""
    name = f"trioraft-several-{os.getpid()}"

    async def ip(*arguments: str) -> None:
        await trio.run_process(["ip", *arguments], start_new_session=True)

    with trio.CancelScope(shield=True):
        await ip("netns", "add", name)
    try:
        await ip("-n", name, "link", "set", "lo", "up")
        for address in addresses:
            await ip("-n", name, "addr", "add", address, "dev", "lo", "nodad")
        yield ("ip", "netns", "exec", name)
    finally:
        with trio.CancelScope(shield=True):
            await ip("netns", "delete", name)


@pytest.mark.skipif(bool(why_not()), reason=f"no network namespaces: {why_not()}")
async def test_ipv6_and_addresses_of_one_link_answer_too(tmp_path: Path) -> None:
    async with open_host("198.18.0.1/32", "fd00::1/128", "fd00::2/128", "fe80::1/64", "fe80::2/64") as within:
        [port] = free_ports(1)
        node = await trio.lowlevel.open_process(
            [*within, sys.executable, "-m", "trioraft", "node", "--end-with-stdin"],
            stdin=subprocess.PIPE,
            env={
                **clean_environment(),
                **FAST,
                "PYTHONPATH": str(ROOT),
                "BIND_HOST": "::",
                "UNSEALED": "allowed",
                "BIND_PORT": str(port),
                "BOOTSTRAP_EXPECT": "1",
                "PEERS": f"[::1]:{port}",
                "DATA_DIR": str(tmp_path),
                "LOG_FORMAT": "json",
            },
        )
        try:
            for host in ("[fd00::2]", "198.18.0.1", "[fe80::2%1]"):
                await put(host, port, within)
        finally:
            node.kill()
            await node.wait()
