"""A program that forks, as multiprocessing does by default: its child holds nothing of the node."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import trio

from tests.cluster.harness import LOOPBACK, ROOT, clean_environment, free_ports

PROGRAM = """
import json
import os
import sys
import time

import trio
from trioraft import NodeSettings, open_node


class Nothing:
    def apply(self, command):
        return b""

    def snapshot(self):
        return iter(())

    def restore(self, chunks):
        pass


async def main():
    async with open_node(NodeSettings.from_environ(), Nothing()) as node:
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        print(json.dumps({"id": node.id, "child": child}), flush=True)
        await trio.sleep_forever()


trio.run(main)
"""


def started(program: Path, variables: dict[str, str]) -> tuple[subprocess.Popen[str], dict[str, int]]:
    process = subprocess.Popen(
        [sys.executable, str(program)],
        env={**clean_environment(), "PYTHONPATH": str(ROOT), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if '"child"' in line:
            return process, json.loads(line)
    raise AssertionError("".join(seen))


async def test_a_node_starts_again_while_a_child_that_its_process_forked_before_a_crash_lives(tmp_path: Path) -> None:
    program = tmp_path / "forks.py"
    program.write_text(PROGRAM)
    (port,) = free_ports(1)
    variables = {
        "BIND_HOST": LOOPBACK,
        "BIND_PORT": str(port),
        "PEERS": f"{LOOPBACK}:{port}",
        "BOOTSTRAP_EXPECT": "1",
        "DATA_DIR": str(tmp_path / "data"),
    }
    children = []
    try:
        first, told = await trio.to_thread.run_sync(started, program, variables)
        children.append(told["child"])
        first.kill()
        first.wait()
        os.kill(told["child"], 0)  # it lives
        second, told_again = await trio.to_thread.run_sync(started, program, variables)
        children.append(told_again["child"])
        second.kill()
        second.wait()
        assert told_again["id"] == told["id"], "the child held the lock of its directory"
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
