"""The examples of the documents, taken from there and run as they are, with real processes."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio

from tests.cluster.harness import FAST, LOOPBACK, ROOT, Cluster, clean_environment, free_ports
from tests.lint.documents import documents

TEXT = "\n".join(path.read_text("utf-8") for path in documents(ROOT))
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
EXAMPLES = dict(re.findall(r"^<!-- example: (\S+) -->\n```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE))


def example(name: str, directory: Path) -> Path:
    path = directory / name
    path.write_text(EXAMPLES[name])
    return path


def environment(**variables: str) -> dict[str, str]:
    return {**clean_environment(), "PYTHONPATH": str(ROOT), **variables}


@asynccontextmanager
async def running(
    path: Path, *arguments: str, output: Path, variables: Mapping[str, str]
) -> AsyncIterator[trio.Process]:
    with output.open("ab") as file:
        process = await trio.lowlevel.open_process(
            [sys.executable, str(path)],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=path.parent,
            env=environment(**variables),
        )
    try:
        yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


async def written(file: Path, pattern: str, seconds: float = 30) -> str:
    """Wait until a file has what a pattern matches, and return its first group."""
    text = ""
    with trio.move_on_after(seconds):
        while (found := re.search(pattern, text)) is None:
            await trio.sleep(0.05)
            text = await trio.Path(file).read_text("utf-8", "replace")
        return found[1]
    raise AssertionError(f"{pattern!r} is not in it within {seconds} s:\n{text}")


def test_every_program_in_the_documents_is_a_short_example() -> None:
    assert set(EXAMPLES) == {"counter.py", "worker.py", "client.py", "blocking.py", "with_asyncio.py"}
    assert len(BLOCKS) == len(EXAMPLES)
    for name, text in EXAMPLES.items():
        assert len(text.splitlines()) < 30, name


def test_the_examples_are_typed(tmp_path: Path) -> None:
    paths = [str(example(name, tmp_path)) for name in EXAMPLES]
    for path in paths:
        checked = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", path], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stdout


def variables_of(directory: Path) -> list[dict[str, str]]:
    """Return the environments of three nodes that run an example."""
    ports = free_ports(3)
    peers = ",".join(f"{LOOPBACK}:{port}" for port in ports)
    common = {**FAST, "PEERS": peers, "BOOTSTRAP_EXPECT": "3"}
    return [{**common, "BIND_PORT": str(port), "DATA_DIR": str(directory / str(port))} for port in ports]


async def test_the_replicated_counter_loses_nothing_when_a_node_is_killed(tmp_path: Path) -> None:
    path, nodes = example("counter.py", tmp_path), variables_of(tmp_path)
    outputs = [tmp_path / f"{number}.out" for number in range(3)]
    async with AsyncExitStack() as stack:
        processes = [
            await stack.enter_async_context(running(path, output=output, variables=variables))
            for variables, output in zip(nodes, outputs, strict=True)
        ]
        counted = [int(await written(output, r"counted (\d+)\n")) for output in outputs]
        assert sorted(counted) == [1, 2, 3], "each command was applied once"
        for output, count in zip(outputs, counted, strict=True):
            assert int(await written(output, r"the value is (\d+)\n")) >= count
        processes[0].kill()
        await processes[0].wait()
        again = tmp_path / "again.out"
        async with running(path, output=again, variables=nodes[0]):
            assert await written(again, r"the value is (\d+)\n") == "4", "nothing is lost"


async def test_the_leader_only_worker_goes_on_elsewhere_when_its_leader_is_killed(tmp_path: Path) -> None:
    path, nodes, output = example("worker.py", tmp_path), variables_of(tmp_path), tmp_path / "out"
    async with AsyncExitStack() as stack:
        for variables in nodes:
            await stack.enter_async_context(running(path, output=output, variables=variables))
        first = await written(output, r"fencing token (\d+)\n")
        await trio.sleep(0.5)
        os.kill(await leader_pid(nodes[0]["PEERS"]), signal.SIGKILL)
        await written(output, rf"fencing token (?!{first}\n)(\d+)\n")
        await trio.sleep(0.5)
        tokens = [int(token) for token in re.findall(r"fencing token (\d+)\n", output.read_text("utf-8", "replace"))]
    assert tokens == sorted(tokens), "no two worked at a time"
    assert len(set(tokens)) == 2


async def leader_pid(peers: str) -> int:
    done = await trio.run_process(
        [sys.executable, "-m", "trioraft", "status", "--format", "json", "--peers", peers],
        capture_stdout=True,
        env=environment(),
    )
    leader = re.search(rb'"role": "leader".*?"pid": (\d+)', done.stdout, re.DOTALL)
    assert leader is not None, done.stdout
    return int(leader[1])


async def test_the_clients_print_what_they_say(tmp_path: Path) -> None:
    async with Cluster(tmp_path, size=3) as cluster:
        await cluster.wait_leader()

        async def said(name: str) -> str:
            with trio.fail_after(30):
                done = await trio.run_process(
                    [sys.executable, str(example(name, tmp_path))],
                    capture_stdout=True,
                    env=environment(PEERS=cluster.peers),
                )
            return re.sub(r"token \d+", "token N", done.stdout.decode())

        assert (await said("client.py")).splitlines() == [
            "red",
            "swapped",
            "moved",
            "PUT red",
            "PUT blue",
            "DELETE ",
            "locked with fencing token N",
            "done",
        ]
        assert await said("blocking.py") == "[b'red']\nlocked with fencing token N\ndeleted 1\n"
        assert await said("with_asyncio.py") == "5 jobs\n"
