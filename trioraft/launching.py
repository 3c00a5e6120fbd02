"""Nodes and a monitor as processes that a program starts on this machine's loopback.

Every process is started in a session of its own, so that Ctrl-C reaches only the program, which then ends the others
in order. Each holds the reading end of a pipe as its standard input; when the program is gone, however that came, the
pipe closes and they end by themselves (:func:`until_stdin_closes`).
"""

import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import IO, Final

import trio

LOOPBACK: Final = "127.0.0.1"


async def until_stdin_closes(main: Callable[[], Awaitable[None]]) -> None:
    """Run a program that ends on SIGTERM, and send that to this process when its standard input closes.

    Parameters
    ----------
    main : callable
        The program.
    """

    async def watch() -> None:
        await trio.lowlevel.wait_readable(sys.stdin.fileno())  # nothing is ever written to it: it is closed
        os.kill(os.getpid(), signal.SIGTERM)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await main()
        nursery.cancel_scope.cancel()


async def start_process(command: str, environment: Mapping[str, str], output: int | IO[bytes]) -> trio.Process:
    """Start a node or monitor that ends when this process does.

    Parameters
    ----------
    command : str
        ``node`` or ``monitor``.
    environment : mapping
        Its environment.
    output : int or file
        Where it writes: ``subprocess.PIPE`` or a file.

    Returns
    -------
    trio.Process
        The process.
    """
    return await trio.lowlevel.open_process(
        [sys.executable, "-P", "-m", "trioraft", command, "--end-with-stdin"],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )


def describe_end(status: int) -> str:
    """Describe how a process has ended.

    Parameters
    ----------
    status : int
        Its exit status, or the negative number of the signal that killed it.

    Returns
    -------
    str
        The words for a line of a log.
    """
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def node_environment(number: int, port: int, peers: str, nodes: int, directory: Path) -> dict[str, str]:
    """Compose the environment of a node's process.

    Parameters
    ----------
    number : int
        Which node it is; the first is 1.
    port : int
        Its UDP port.
    peers : str
        ``PEERS``.
    nodes : int
        How many nodes form the cluster.
    directory : Path
        Where the nodes' data is kept.

    Returns
    -------
    dict of str to str
        This process's own environment, and what makes it that node's.
    """
    name = f"node-{number}"
    return {
        **program_environment(port, peers),
        "BOOTSTRAP_EXPECT": str(nodes),
        "NODE_NAME": name,
        "DATA_DIR": str(directory.absolute() / name),
    }


def program_environment(port: int, peers: str) -> dict[str, str]:
    """Compose what the environments of a node and of a monitor have in common.

    Parameters
    ----------
    port : int
        Where the process listens.
    peers : str
        ``PEERS``.

    Returns
    -------
    dict of str to str
        This process's own environment, and that.
    """
    return {**own_environment(), "BIND_HOST": LOOPBACK, "BIND_PORT": str(port), "PEERS": peers, "LOG_FORMAT": "json"}


def own_environment() -> dict[str, str]:
    """Compose this process's environment, in which another process finds the same package."""
    root = str(Path(__file__).parents[1])
    if root == sysconfig.get_paths()["purelib"]:
        return dict(os.environ)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
