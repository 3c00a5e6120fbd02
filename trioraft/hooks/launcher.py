"""Start a node's supervisor, send it commands and receive its events: the one seam between a node and its processes.

:mod:`trioraft.hooks.supervisor` says what the supervisor does. The two share no code but the marker and the function
that kills the processes which carry it.
"""

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import msgspec
import trio
from msgspec import Struct

from trioraft.forks import keep_from_forks
from trioraft.hooks import supervisor
from trioraft.hooks.secrecy import without_keys
from trioraft.logger import Logger

_log: Final = Logger("trioraft.hooks")

WORK_FILE: Final = "work.lock"

_SWEEP_INTERVAL: Final = 0.02

# --- commands -----------------------------------------------------------------------------------------------


class Start(Struct, frozen=True, tag_field="do", tag="start"):
    """Run a script; only while none runs, and after :class:`Ready`.

    Attributes
    ----------
    path : str
        The executable.
    environment : dict of str to str
        Variables for it, beside the node's own.
    deadline : float or None
        When the supervisor ends it by itself, in seconds of CLOCK_BOOTTIME; None for when the node ends.
    arguments : list of str or None
        The arguments of a command; None for a script.
    terminal : bool
        Whether the script has this process's terminal; otherwise its output comes as events.
    streams : bool
        Whether it writes to the standard streams that the supervisor was started with instead.
    """

    path: str
    environment: dict[str, str]
    deadline: float | None
    arguments: list[str] | None = None
    terminal: bool = False
    streams: bool = False


class Extend(Struct, frozen=True, tag_field="do", tag="extend"):
    """Move the deadline; :class:`Extended` follows.

    Attributes
    ----------
    deadline : float
        The new deadline; one before the present deadline changes nothing.
    """

    deadline: float


class End(Struct, frozen=True, tag_field="do", tag="end"):
    """End the script now; nothing happens where none runs."""


class Taken(Struct, frozen=True, tag_field="do", tag="taken"):
    """Let the supervisor pass more output on.

    Attributes
    ----------
    parcels : int
        How many events with output were taken since the last command like this.
    """

    parcels: int


Command: TypeAlias = Start | Extend | End | Taken

# --- events -------------------------------------------------------------------------------------------------


class Waiting(Struct, frozen=True, tag_field="event", tag="waiting"):
    """Earlier work in the same directory has not ended yet."""


class Ready(Struct, frozen=True, tag_field="event", tag="ready"):
    """The supervisor has the lock, and no process of earlier work is left."""


class Started(Struct, frozen=True, tag_field="event", tag="started"):
    """The script has been started.

    Attributes
    ----------
    pid : int
        The id of its process.
    """

    pid: int


class Unstartable(Struct, frozen=True, tag_field="event", tag="unstartable"):
    """The script could not be run.

    Attributes
    ----------
    error : str
        The reason, in the system's words.
    """

    error: str


class Extended(Struct, frozen=True, tag_field="event", tag="extended"):
    """A command to move the deadline has been carried out."""


class Exited(Struct, frozen=True, tag_field="event", tag="exited"):
    """The script's own process has ended; processes that it started may still run.

    Attributes
    ----------
    status : int
        Its exit code, or minus the signal that ended it.
    """

    status: int


class Ending(Struct, frozen=True, tag_field="event", tag="ending"):
    """SIGTERM has been sent to all processes of the script.

    Attributes
    ----------
    cause : str
        ``command``, ``deadline``, or ``node`` for the end of the node.
    """

    cause: str


class Killing(Struct, frozen=True, tag_field="event", tag="killing"):
    """The grace is over, and SIGKILL is being sent; repeated every second until no process is left.

    Attributes
    ----------
    left : int
        The number of processes.
    denied : tuple of int
        The processes that the supervisor may not kill, because they run as another user.
    """

    left: int
    denied: tuple[int, ...]


class Ended(Struct, frozen=True, tag_field="event", tag="ended"):
    """The script and all processes that it started have ended."""


class Output(Struct, frozen=True, tag_field="event", tag="output"):
    """The script wrote lines; :class:`Taken` is expected for it.

    Attributes
    ----------
    lines : tuple of str
        The lines.
    """

    lines: tuple[str, ...]


class Dropped(Struct, frozen=True, tag_field="event", tag="dropped"):
    """The script wrote more than could be passed on.

    Attributes
    ----------
    lines : int
        The number of lines dropped since the event before.
    """

    lines: int


class Crashed(Struct, frozen=True, tag_field="event", tag="crashed"):
    """The supervisor has met an error of its own, and ends, with the script that it runs.

    Attributes
    ----------
    error, traceback : str
        The error.
    """

    error: str
    traceback: str


Event: TypeAlias = (
    Waiting
    | Ready
    | Started
    | Unstartable
    | Extended
    | Exited
    | Ending
    | Killing
    | Ended
    | Output
    | Dropped
    | Crashed
)

# --- the seam -----------------------------------------------------------------------------------------------


class Link(Protocol):
    """The channel to a supervisor that was launched."""

    def send(self, command: Command) -> None:
        """Send a command, without waiting; nothing happens when the supervisor has ended."""

    async def receive(self) -> list[Event]:
        """Wait for events; an empty list means that the supervisor is lost."""

    async def close(self) -> None:
        """Let the supervisor end its work and itself, and wait for that."""

    async def destroy(self) -> None:
        """Kill the supervisor, if it still lives, and all processes of its work, and wait for that."""


class Launcher(Protocol):
    """The way to start supervisors."""

    async def launch(self, directory: Path, grace: float, streams: bool = False) -> Link:
        """Start a supervisor for the work of a data directory.

        Parameters
        ----------
        directory : pathlib.Path
            The node's data directory.
        grace : float
            Seconds between SIGTERM and SIGKILL.
        streams : bool
            Whether its scripts may be given the standard output and error of this process.

        Returns
        -------
        Link
            The supervisor. Its first event is :class:`Ready` or :class:`Waiting`.

        Raises
        ------
        OSError
            If no process can be started.
        """


class SupervisorLauncher:
    """Supervisors as processes of this machine."""

    async def launch(self, directory: Path, grace: float, streams: bool = False) -> Link:
        """Start a supervisor process; see :meth:`Launcher.launch`."""
        return await _launch(str(directory / WORK_FILE), grace, streams=streams)


async def end_earlier_scripts(launcher: Launcher, directory: Path, grace: float, ended: Callable[[], None]) -> None:
    """End what is left of the scripts of earlier processes of a node that has none now; a supervisor does.

    Parameters
    ----------
    launcher : Launcher
        Starts the supervisor, where there has ever been one.
    directory : pathlib.Path
        The node's data directory.
    grace : float
        Seconds between SIGTERM and SIGKILL.
    ended : callable
        Called when nothing is left; never where that is not known.
    """
    if (directory / WORK_FILE).exists():
        try:
            link = await launcher.launch(directory, grace)
        except OSError as error:
            _log.error("scripts of an earlier process may be left", reason=str(error))
            return
        try:
            events: list[Event] = [Waiting()]
            while events and Ready() not in events:
                events = await link.receive()
        finally:
            with trio.move_on_after(grace, shield=True):
                await link.close()
        if not events:
            _log.error("scripts of an earlier process may be left", reason="the supervisor that ends them has ended")
            return
    ended()


async def launch_command_supervisor(grace: float) -> Link:
    """Start a supervisor for a command, with this process's terminal, directory, and environment without its keys.

    Parameters
    ----------
    grace : float
        Seconds between SIGTERM and SIGKILL.

    Returns
    -------
    Link
        The supervisor; its first event is :class:`Ready`.

    Raises
    ------
    OSError
        If no process can be started.
    """
    return await _launch("", grace, terminal=True)


async def _launch(work_file: str, grace: float, *, terminal: bool = False, streams: bool = False) -> Link:
    marker = secrets.token_hex(16)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    keep_from_forks(ours)
    command = [sys.executable, "-I", "-S", supervisor.__file__, work_file, repr(grace)]
    options: dict[str, Any]
    if terminal:
        theirs.set_inheritable(True)
        command.append(str(theirs.fileno()))
        options = {"close_fds": False}  # the command inherits what this process did
    else:
        options = {"stdin": theirs, "start_new_session": True}
        if streams:
            command += ["0", "streams"]
        else:
            options["stdout"] = subprocess.DEVNULL
    try:
        environment = without_keys(os.environ) | {supervisor.MARKER: marker}
        process = await trio.lowlevel.open_process(command, env=environment, **options)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return _ProcessLink(ours, process, marker)


class _ProcessLink:
    def __init__(self, channel: socket.socket, process: trio.Process, marker: str) -> None:
        self._channel = channel
        self._process = process
        self._marker = marker
        self._incoming = b""
        self._outgoing = bytearray()
        self._full = trio.Event()
        self._decoder = msgspec.json.Decoder(Event)

    def send(self, command: Command) -> None:
        # The standard library's encoder can write paths that are not UTF-8.
        self._outgoing += json.dumps(msgspec.to_builtins(command)).encode() + b"\n"
        self._flush()

    def _flush(self) -> None:
        """Send as much as the socket takes; :meth:`receive` sends the rest while it waits."""
        try:
            while self._outgoing:
                del self._outgoing[: self._channel.send(self._outgoing)]
        except BlockingIOError:
            self._full.set()
        except (BrokenPipeError, ConnectionResetError):
            self._outgoing.clear()  # receive() finds the end

    async def receive(self) -> list[Event]:
        while True:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_rest)
                await trio.lowlevel.wait_readable(self._channel)
                nursery.cancel_scope.cancel()
            # No checkpoint comes after the read: what a cancelled task has read would be lost.
            try:
                data = self._channel.recv(65536)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                data = b""
            if not data:
                return []
            *lines, self._incoming = (self._incoming + data).split(b"\n")
            if lines:
                return [self._decoder.decode(line) for line in lines]

    async def _send_rest(self) -> None:
        while True:
            while self._outgoing:
                await trio.lowlevel.wait_writable(self._channel)
                self._flush()
            await self._full.wait()
            self._full = trio.Event()

    async def close(self) -> None:
        self._channel.close()
        await self._process.wait()

    async def destroy(self) -> None:
        self._channel.close()
        # The supervisor carries the marker too, so that its descendants are found while it lives.
        while await trio.to_thread.run_sync(supervisor.kill_marked, self._marker):  # noqa: ASYNC110 (no event comes)
            await trio.sleep(_SWEEP_INTERVAL)
        await self._process.wait()
