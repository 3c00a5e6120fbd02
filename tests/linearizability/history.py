"""What concurrent clients called and what they were told, with times."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TextIO, TypeVar

import msgspec

if TYPE_CHECKING:
    from tests.linearizability.model import Model

In = TypeVar("In")
Out = TypeVar("Out")

Process = str | int
Ending = Literal["ok", "fail", "unknown"]


@dataclass(frozen=True, slots=True)
class Operation(Generic[In, Out]):
    """One call of one client.

    Parameters
    ----------
    process
        Who called; one process has one operation under way at a time.
    input
        What was asked.
    output
        What was answered; means nothing where `returned` is None.
    called, returned
        Nanoseconds on one clock; `returned` is None where the outcome is not known: the operation may take
        effect at any time after `called`, or never.
    """

    process: Process
    input: In
    output: Out | None
    called: int
    returned: int | None

    def __post_init__(self) -> None:
        if self.returned is not None and self.returned < self.called:
            raise ValueError(f"{self.input!r} of process {self.process!r} returned before it was called")


class _Line(msgspec.Struct):
    """One line of a file: a call or how it ended."""

    event: Literal["invoke", "ok", "fail", "unknown"]
    token: int
    time: int
    process: Process = ""
    value: msgspec.Raw = msgspec.Raw(b"null")


@dataclass(slots=True)
class _Call(Generic[In, Out]):
    process: Process
    input: In
    called: int
    ended: int | None = None
    ending: Ending | None = None
    output: Out | None = None


class History(Generic[In, Out]):
    """Records the operations of concurrent clients, tasks and threads of one process alike.

    Parameters
    ----------
    clock
        Nanoseconds. The default is the same clock in every process of a machine, so that their files can be
        loaded together. Events of one recorder never share a time: two in the same tick are a nanosecond apart.
    sink
        A text file that gets each event as a line before the recording call returns, so that what a killed
        client did stays known.
    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns, sink: TextIO | None = None) -> None:
        self._clock = clock
        self._sink = sink
        self._lock = threading.Lock()
        self._last = -1
        self._calls: list[_Call[In, Out]] = []
        self._busy: dict[Process, int] = {}

    def invoke(self, process: Process, operation: In) -> int:
        """Record that `process` calls `operation`, before it is sent; the token names the call.

        Raises
        ------
        ValueError
            The process still has an operation under way.
        """
        with self._lock:
            if process in self._busy:
                raise ValueError(f"process {process!r} calls {operation!r} while its call {self._busy[process]} runs")
            token = len(self._calls)
            call: _Call[In, Out] = _Call(process, operation, self._now())
            self._calls.append(call)
            self._busy[process] = token
            self._write(_line("invoke", token, call.called, call.input, process))
            return token

    def ok(self, token: int, output: Out) -> None:
        """Record that the operation took effect and answered `output`."""
        self._end(token, "ok", output)

    def fail(self, token: int) -> None:
        """Record that the operation is known never to take effect."""
        self._end(token, "fail", None)

    def unknown(self, token: int) -> None:
        """Record that the client gave up: the operation may take effect later, or never."""
        self._end(token, "unknown", None)

    def operations(self) -> list[Operation[In, Out]]:
        """Return what the checker needs: no failed ones; those still under way have an unknown outcome."""
        with self._lock:
            return [
                Operation(call.process, call.input, call.output, call.called, call.ended)
                if call.ending == "ok"
                else Operation(call.process, call.input, None, call.called, None)
                for call in self._calls
                if call.ending != "fail"
            ]

    def save(self, path: Path) -> None:
        """Write the history as JSON lines, in the order of time."""
        lines: list[tuple[int, bool, bytes]] = []
        for token, call in enumerate(self._calls):
            lines.append((call.called, False, _line("invoke", token, call.called, call.input, call.process)))
            if call.ending is not None and call.ended is not None:
                lines.append((call.ended, True, _line(call.ending, token, call.ended, call.output)))
        path.write_bytes(b"".join(line for *_, line in sorted(lines)))

    @classmethod
    def load(cls, model: "Model[Any, In, Out]", paths: Iterable[Path]) -> "History[In, Out]":
        """Read files that were saved or streamed on the clock of one machine, as one history.

        A last line that was cut off (its writer was killed) is left out: a call is recorded before it is sent.

        Raises
        ------
        ValueError
            A line is not an event of a history of this model; says which.
        """
        history: History[In, Out] = cls()
        for path in paths:
            tokens: dict[int, int] = {}
            *whole, _cut_off = path.read_bytes().split(b"\n")
            for number, line in enumerate(whole, 1):
                try:
                    history._read(msgspec.json.decode(line, type=_Line), tokens, model)
                except (msgspec.MsgspecError, KeyError, ValueError) as error:
                    raise ValueError(f"{path}:{number}: not an event of this history: {error}") from error
        return history

    def _read(self, line: _Line, tokens: dict[int, int], model: "Model[Any, In, Out]") -> None:
        self._last = max(self._last, line.time)
        if line.event == "invoke":
            tokens[line.token] = len(self._calls)
            asked: In = msgspec.json.decode(line.value, type=model.input_type)
            self._calls.append(_Call(line.process, asked, line.time))
            return
        call = self._calls[tokens[line.token]]
        if call.ending is not None:
            raise ValueError(f"call {line.token} ends twice")
        call.ended, call.ending = line.time, line.event
        if line.event == "ok":
            call.output = msgspec.json.decode(line.value, type=model.output_type)

    def _end(self, token: int, ending: Ending, output: Out | None) -> None:
        with self._lock:
            call = self._calls[token]
            if call.ending is not None:
                raise ValueError(f"call {token}, {call.input!r}, has already ended: {call.ending}")
            call.ended, call.ending, call.output = self._now(), ending, output
            del self._busy[call.process]
            self._write(_line(ending, token, call.ended, output))

    def _now(self) -> int:
        self._last = max(self._clock(), self._last + 1)
        return self._last

    def _write(self, line: bytes) -> None:
        if self._sink is not None:
            self._sink.write(line.decode())
            self._sink.flush()


def _line(event: str, token: int, at: int, value: object, process: Process | None = None) -> bytes:
    fields: dict[str, object] = {"event": event, "token": token, "time": at}
    if process is not None:
        fields["process"] = process
    if value is not None:
        fields["value"] = value
    return msgspec.json.encode(fields) + b"\n"
