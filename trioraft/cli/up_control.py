"""``trioraft up ctl``: what is done to a node of a cluster that ``trioraft up`` runs, told over a socket in a file.

One line goes each way: the action and the node, and what has become of it. The socket lies beside the file that
announces the cluster to commands, in a directory of this user alone.
"""

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import trio

from trioraft.cli.exits import WRONG, CommandError
from trioraft.cli.local import control_socket, controlled_clusters

ACTIONS: Final = ("kill", "pause", "resume", "restart")

_LINE_MAX: Final = 4096
_REFUSED: Final = "refused: "
# A node that is restarted may take the grace of its scripts to end.
_PATIENCE: Final = 60.0


class ControlError(Exception):
    """Something cannot be done to a node; one line that says why."""


@asynccontextmanager
async def controlled(peers: str, act: Callable[[str, str], Awaitable[str]]) -> AsyncIterator[None]:
    """Obey ``trioraft up ctl`` for as long as the block lasts.

    Parameters
    ----------
    peers : str
        The nodes, as ``PEERS`` has them.
    act : callable
        Does an action to a node, and returns what has become of it; it may raise :class:`ControlError`.

    Yields
    ------
    None
        The cluster runs uncontrolled where there is no place for the socket.
    """
    path = control_socket(peers)

    async def serve(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            line = (await stream.receive_some(_LINE_MAX)).decode("utf-8", "replace")
            action, _, node = line.strip().partition(" ")
            try:
                answer = await act(action, node)
            except ControlError as error:
                answer = f"{_REFUSED}{error}"
            await stream.send_all(f"{answer}\n".encode())
        await stream.aclose()

    listening = trio.socket.socket(trio.socket.AF_UNIX)
    try:
        await listening.bind(os.fspath(path))
    except OSError:
        listening.close()
        yield
        return
    try:
        listening.listen(8)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, serve, [trio.SocketListener(listening)])
            yield
            nursery.cancel_scope.cancel()
    finally:
        with suppress(OSError):
            path.unlink()


def control(action: str, node: str, base_port: int | None) -> str:
    """Have an action done to a node of the cluster that ``trioraft up`` runs.

    Parameters
    ----------
    action : str
        One of `ACTIONS`.
    node : str
        The name of the node.
    base_port : int or None
        The UDP port of the cluster's first node; None where only one cluster runs.

    Returns
    -------
    str
        What has become of it.

    Raises
    ------
    CommandError
        If there is no such cluster or node, or it cannot be done.
    """
    found = controlled_clusters()
    if base_port is not None:
        found = [path for path in found if path.name.partition(".ctl")[0].endswith(f":{base_port}")]
    if len(found) != 1:
        raise CommandError(
            "no `trioraft up` of this user runs here" if not found else "several clusters run: say --base-port", WRONG
        )
    answer = _ask(found[0], f"{action} {node}\n")
    if answer.startswith(_REFUSED):
        raise CommandError(answer.removeprefix(_REFUSED), WRONG)
    return answer


def _ask(path: Path, line: str) -> str:
    data = b""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(_PATIENCE)
        try:
            stream.connect(os.fspath(path))
            stream.sendall(line.encode())
            while chunk := stream.recv(_LINE_MAX):
                data += chunk
        except OSError as error:
            raise CommandError(f"`trioraft up` does not answer at {path}: {error.strerror or error}") from None
    return data.decode("utf-8", "replace").strip()
