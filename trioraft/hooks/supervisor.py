"""The supervisor: a small process that runs a node's scripts and ends them without the node's help.

A node may be killed or stopped at any moment, and its leader work must end all the same, before another node starts
its own. So a process of its own runs the scripts. The node sends it a deadline, and later ones again and again while
the lease is renewed. The supervisor acknowledges each, and ends the work at the deadline by itself. It also ends the
work on command, and when the node's end of the channel closes, because then the node has ended. To end the work, it
sends SIGTERM (and SIGCONT, so that a stopped process sees it) to all descendants, once more to those left when the
script itself has ended, and SIGKILL from the end of the grace on, until none is left. Processes that change their
session or whose parents have ended are still found: as a child subreaper, the supervisor becomes the parent of every
orphan among its descendants, so it has no child left exactly when no descendant is left.

The supervisor holds a lock (flock) on the work file from before a script runs, and every script inherits it: while
that lock is taken, work may be running. A second lock (POSIX, which no child inherits) shows whether the supervisor
itself lives. A supervisor that can take the second lock has no living predecessor, and ends the work that a dead
predecessor left behind: the processes that carry the marker which the file holds, and their descendants.

The supervisor is started as ``python -I -S supervisor.py WORK_FILE GRACE_SECONDS`` with the marker in `TRIORAFT_WORK`
and a stream socket as standard input. It starts fast that way, and for the same reason imports nothing of trioraft
but :mod:`trioraft.hooks.supervisor_output`. ``trioraft lock`` starts it with an empty work file, because a command
that is run under a lock has no predecessor, and with the number of the socket as a third argument, because the
command gets the terminal. With ``streams`` as a fourth argument it keeps its standard output and error for scripts
that write to them.

Both sides write JSON objects, one on a line; :mod:`trioraft.hooks.launcher` has them as types. Every time is in
seconds of CLOCK_BOOTTIME.
"""

import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable

TYPE_CHECKING = False  # the module `typing` costs time at every start
if TYPE_CHECKING or __name__ != "__main__":
    from trioraft.hooks.supervisor_output import Channel, Output, boottime
else:
    sys.path.insert(0, os.path.dirname(__file__))  # the program is started without it, and without all of trioraft
    from supervisor_output import Channel, Output, boottime

    del sys.path[0]

MARKER = "TRIORAFT_WORK"

_PR_SET_CHILD_SUBREAPER = 36

# The system waits on CLOCK_MONOTONIC, which stands still while the host is suspended. So the supervisor never waits
# until a deadline in one go, but compares it with its clock this often.
_TICK = 0.1
_SWEEP_INTERVAL = 0.02
_LOCK_INTERVAL = 0.05

_SHELL = "/bin/sh"
_CHUNK = 65536
# The signals that a command goes on ignoring, because `nohup` or a shell arranged that before it starts.
_left_ignored: set[int] = set()


# --- processes ----------------------------------------------------------------------------------------------


# The system gives the id of an ended process to another one some time later. So a process is identified by its id and
# the time at which it began, in ticks of the system's clock since its start.
_Began = int


def _process(pid: int) -> tuple[int, _Began] | None:
    """Return the parent of a process, and when the process began; None when it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the name in parentheses, which may have any character, parentheses included.
    fields = stat[stat.rindex(b")") + 2 :].split(None, 20)
    return None if fields[0] in {b"Z", b"X"} else (int(fields[1]), int(fields[19]))


def _processes() -> dict[int, tuple[int, _Began]]:
    """List the processes that this one can see, each with its parent and when it began."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return {pid: process for pid in pids if (process := _process(pid)) is not None}


def _with_descendants(roots: set[int], processes: dict[int, tuple[int, _Began]]) -> dict[int, _Began]:
    """List processes and their descendants, parents before their children.

    A shell whose child gets SIGTERM goes on with its next command, unless the shell got it first.
    """
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in processes.items():
        children.setdefault(parent, []).append(pid)
    found = dict.fromkeys(roots)
    queue = list(roots)
    for pid in queue:
        for child in children.get(pid, ()):
            if child not in found:
                found[child] = None
                queue.append(child)
    return {pid: processes[pid][1] for pid in found if pid in processes}


def _send_signals(found: dict[int, _Began], *signals: signal.Signals) -> set[int]:
    """Send signals to processes; return those that this user may not signal.

    A process may have ended since it was found, and its id may be another one's now. A descriptor of a process stays
    with that process. So the process is looked at once more when its descriptor is open: if it is the same still, it
    gets the signal, and else nobody does. Kernels before 5.3 have no such descriptors, and some sandboxes deny them.
    """
    denied = set()
    for pid, began in found.items():
        descriptor = _open_process(pid)
        try:
            process = _process(pid)
            if process is None or process[1] != began:
                continue
            for number in signals:
                if descriptor >= 0:
                    signal.pidfd_send_signal(descriptor, number)
                else:
                    os.kill(pid, number)
        except ProcessLookupError:
            continue
        except PermissionError:
            denied.add(pid)
        finally:
            if descriptor >= 0:
                os.close(descriptor)
    return denied


def _open_process(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1


def kill_marked(marker: str) -> int:
    """Send SIGKILL to every process that carries a marker, and to its descendants.

    A process that was just forked may be missed, so call this again until it finds none.

    Parameters
    ----------
    marker : str
        The value of `TRIORAFT_WORK` in the environment with which the processes were started.

    Returns
    -------
    int
        The number of processes found.
    """
    entry = f"{MARKER}={marker}".encode()
    processes = _processes()
    carriers = set()
    for pid in processes:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if entry in file.read().split(b"\0"):
                    carriers.add(pid)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    found = _with_descendants(carriers, processes)
    return len(found.keys() - _send_signals(found, signal.SIGKILL))


# --- the supervisor -----------------------------------------------------------------------------------------


class _Script:
    """A running script."""

    def __init__(self, pid: int, output: Output | None, deadline: float | None) -> None:
        self.pid = pid
        self.output = output
        self.deadline = deadline
        self.kill_at: float | None = None
        self.report_at = 0.0


class _Supervisor:
    """The supervisor, which runs one script at a time."""

    def __init__(self, channel: Channel, work_file: str, grace: float, streams: tuple[int, ...] = ()) -> None:
        self.channel = channel
        self.streams = streams
        self.grace = grace
        self.script: _Script | None = None
        self.locked = False
        self.waiting = False
        self.lock = -1
        if work_file:
            self.lock = os.open(work_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            os.set_inheritable(self.lock, True)
        else:
            self.locked = True
            channel.send("ready")
        self.woken, waker = os.pipe()
        os.set_blocking(self.woken, False)
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def run(self) -> None:
        """Work until the node's end of the channel is closed and everything has ended."""
        while True:
            if not self.locked:
                self.take_locks()
            self.reap()
            self.keep_time()
            if self.channel.closed and self.script is None:
                if self.lock >= 0 and self.locked:
                    os.ftruncate(self.lock, 0)
                return
            self.wait()

    def take_locks(self) -> None:
        """Take both locks, or end the work that a dead predecessor left behind."""
        alone = _attempt(fcntl.lockf, self.lock)
        stale = os.pread(self.lock, 100, 0).decode() if alone else ""
        left = kill_marked(stale) if stale else 0
        if alone and not left and _attempt(fcntl.flock, self.lock):
            os.ftruncate(self.lock, 0)
            os.pwrite(self.lock, os.environ[MARKER].encode(), 0)
            self.locked = True
            self.channel.send("ready")
        elif not self.waiting:
            self.waiting = True
            self.channel.send("waiting")

    def reap(self) -> None:
        """Collect the children that have ended, and notice when none is left."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if self.script is not None and pid == self.script.pid:
                    if self.script.output is not None:
                        self.script.output.read_rest()  # its last lines come before its end
                    self.channel.send("exited", status=os.waitstatus_to_exitcode(status))
                    if self.script.kill_at is not None:
                        # A child that was just being started may have missed the signal in its shell's handler.
                        self.ask_to_end()
        except ChildProcessError:
            if self.script is not None:
                if self.script.output is not None:
                    self.script.output.finish()
                self.script = None
                self.channel.send("ended")

    def keep_time(self) -> None:
        """End the script at its deadline, and kill its last processes when the grace is over."""
        script, now = self.script, boottime()
        if script is None:
            return
        if self.channel.closed:
            self.end("node")
        if script.deadline is not None and now >= script.deadline:
            # The node may have sent a later one while this process stood still.
            self.hear()
            if now >= script.deadline:
                self.end("deadline")
        if script.kill_at is not None and now >= script.kill_at:
            pids = self.descendants()
            denied = _send_signals(pids, signal.SIGKILL)
            if pids and now >= script.report_at:
                script.report_at = now + 1
                self.channel.send("killing", left=len(pids), denied=sorted(denied))

    @staticmethod
    def descendants() -> dict[int, _Began]:
        """List the processes that have to end."""
        found = _with_descendants({os.getpid()}, _processes())
        found.pop(os.getpid(), None)
        return found

    def end(self, cause: str) -> None:
        """Begin to end the script, unless that has begun already."""
        script, now = self.script, boottime()
        if script is None or script.kill_at is not None:
            return
        begin = now if script.deadline is None else min(now, script.deadline)
        script.kill_at = begin + self.grace
        self.ask_to_end()
        self.channel.send("ending", cause=cause)

    def ask_to_end(self) -> None:
        """Send SIGTERM to all descendants, and SIGCONT, so that those which are stopped see it."""
        _send_signals(self.descendants(), signal.SIGTERM, signal.SIGCONT)

    def obey(self, line: bytes) -> None:
        """Carry out a command of the node."""
        command = json.loads(line)
        match command.pop("do"):
            case "start":
                self.start(**command)
            case "extend":
                if self.script is not None and self.script.deadline is not None:
                    self.script.deadline = max(self.script.deadline, float(command["deadline"]))
                self.channel.send("extended")
            case "end":
                self.end("command")
            case "taken":
                if self.script is not None and self.script.output is not None:
                    self.script.output.taken(command["parcels"])
            case unknown:
                raise ValueError(f"unknown command {unknown!r}")

    def start(
        self,
        path: str,
        arguments: list[str] | None,
        environment: dict[str, str],
        deadline: float | None,
        terminal: bool,
        streams: bool,
    ) -> None:
        """Run a script or, with arguments, a command, which may have the terminal or the streams of the node."""
        if self.script is not None or not self.locked:
            raise RuntimeError("told to start a script while another one runs, or without the lock")
        if deadline is not None and boottime() >= deadline:
            self.channel.send("ending", cause="deadline")
            self.channel.send("ended")
            return
        try:
            try:
                pid, output = self.spawn(path, [path, *(arguments or [])], environment, terminal, streams)
            except OSError as error:
                if error.errno != errno.ENOEXEC or arguments is None:
                    raise
                # A file without an interpreter line is run by the shell, as shells do.
                pid, output = self.spawn(_SHELL, [_SHELL, path, *arguments], environment, terminal, streams)
        except (OSError, ValueError) as error:
            self.channel.send("unstartable", error=getattr(error, "strerror", None) or str(error))
            return
        self.script = _Script(pid, output, deadline)
        self.channel.send("started", pid=pid)

    def spawn(
        self, path: str, argv: list[str], environment: dict[str, str], terminal: bool, streams: bool
    ) -> tuple[int, Output | None]:
        """Start a process, whose output is passed on unless it has the terminal or the streams of the node."""
        if terminal:
            return self.spawn_process(path, argv, environment), None
        if streams:
            return self.spawn_apart(path, argv, environment, *self.streams), None
        reader, writer = os.pipe()
        try:
            pid = self.spawn_apart(path, argv, environment, writer, writer)
        except (OSError, ValueError):
            os.close(reader)
            raise
        finally:
            os.close(writer)
        return pid, Output(reader, self.channel)

    def spawn_apart(self, path: str, argv: list[str], environment: dict[str, str], out: int, err: int) -> int:
        """Start a process that reads nothing, writes to two descriptors, and leads a process group of its own."""
        return self.spawn_process(
            path,
            argv,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, out, 1),
                (os.POSIX_SPAWN_DUP2, err, 2),
            ],
            # A script that signals its process group (`kill 0`) must not hit the supervisor.
            setpgroup=0,
        )

    @staticmethod
    def spawn_process(path: str, argv: list[str], environment: dict[str, str], **options: object) -> int:
        """Start a process."""
        return os.posix_spawn(
            path,
            argv,
            os.environ | environment,
            setsigmask=[],
            setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP} - _left_ignored,
            **options,  # type: ignore[arg-type]
        )

    def wait(self) -> None:
        """Wait for an event or the next deadline, and read what has arrived."""
        poll = select.poll()
        poll.register(self.woken, select.POLLIN)
        if not self.channel.closed:
            poll.register(self.channel.fd, select.POLLIN | (select.POLLOUT if self.channel.outgoing else 0))
        output = self.script.output if self.script is not None else None
        if output is not None and output.wants:
            poll.register(output.fd, select.POLLIN)
        ready = dict(poll.poll(self.patience()))
        if self.woken in ready:
            os.read(self.woken, _CHUNK)
        if output is not None:
            if output.fd in ready:
                output.read()
            else:
                output.work()
        events = ready.get(self.channel.fd, 0)
        if events & select.POLLOUT:
            self.channel.flush()
        if events & ~select.POLLOUT:
            self.hear()

    def hear(self) -> None:
        """Carry out the commands that have arrived."""
        for line in self.channel.receive():
            self.obey(line)

    def patience(self) -> float | None:
        """Compute how long to wait at most, in milliseconds; None for no limit."""
        seconds = [] if self.locked else [_LOCK_INTERVAL]
        if self.script is not None and self.script.output is not None:
            due_in = self.script.output.patience()
            seconds += [] if due_in is None else [due_in]
        if self.script is not None:
            due = self.script.deadline if self.script.kill_at is None else self.script.kill_at
            if due is not None:
                left = due - boottime()
                seconds.append(min(left, _TICK) if left > 0 else _SWEEP_INTERVAL)
        return min(seconds) * 1000 if seconds else None


def _attempt(lock: Callable[[int, int], None], fd: int) -> bool:
    try:
        lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _become_subreaper() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "this system has no child subreapers")


def main() -> int:
    """Supervise until the node's end of the channel is closed.

    Returns
    -------
    int
        The exit status.
    """
    try:
        os.fstat(2)
    except OSError:
        os.open(os.devnull, os.O_WRONLY)  # takes the lowest free number, 2, which else the work file would get
    channel = Channel(int(sys.argv[3]) if len(sys.argv) > 3 else 0)
    try:
        # These signals reach a whole session or control group; this process ends by itself, after its scripts.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
            if signal.signal(number, signal.SIG_IGN) is signal.SIG_IGN and channel.fd:
                _left_ignored.add(number)
        _become_subreaper()
        work_file, grace = sys.argv[1], float(sys.argv[2])
        streams = (os.dup(1), os.dup(2)) if sys.argv[4:] == ["streams"] else ()
        supervisor = _Supervisor(channel, work_file, grace, streams)
        if channel.fd == 0:
            # From here on the node reports errors; its own log may be a pipe whose reader waits for the end.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.dup2(nowhere, 1)
        supervisor.run()
    except Exception as error:
        import traceback  # noqa: PLC0415 (costs time at every start, and is hardly ever needed)

        channel.send("crashed", error=repr(error), traceback=traceback.format_exc())
        while (left := _Supervisor.descendants()).keys() - _send_signals(left, signal.SIGKILL):
            time.sleep(_SWEEP_INTERVAL)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
