"""Sessions in snapshots: what is taken over, and how long an event loop has to wait for it."""

import gc
import time
from collections.abc import Iterable, Iterator

import cbor2
import msgspec
import pytest

from trioraft.messages import Entry, EntryKind
from trioraft.replica.sessions import SESSIONS_MAX, Replica, Result, SessionCommand

# A tenth of the default heartbeat, in seconds of the processor.
LOOP_WAITS_MAX = 0.05


class Counter:
    """A state machine that numbers the commands it has carried out."""

    def __init__(self) -> None:
        self.count = 0

    def apply(self, command: bytes) -> bytes:
        self.count += 1
        return b"%d %s" % (self.count, command)

    def query(self, question: bytes) -> bytes:
        return b""

    def snapshot(self) -> Iterator[bytes]:
        yield b"%d" % self.count
        yield b"end"

    def restore(self, chunks: Iterable[bytes]) -> None:
        count, end = chunks
        assert end == b"end"
        self.count = int(count)


def opened(sessions: int) -> Replica:
    replica = Replica(Counter())
    for index in range(1, sessions + 1):
        replica.apply(index, Entry(1, EntryKind.OPEN_SESSION))
    return replica


def command(replica: Replica, session: int, number: int, data: bytes = b"x") -> Result:
    body = cbor2.dumps(msgspec.to_builtins(SessionCommand(session, number, 1, data), builtin_types=(bytes,)))
    return replica.apply(replica.applied_index + 1, Entry(1, EntryKind.SESSION_COMMAND, body))


def test_a_command_that_was_answered_before_a_snapshot_is_not_carried_out_again_after_it() -> None:
    replica = opened(3)
    large = b"." * 200_000  # more than a chunk
    answers = {(session, number): command(replica, session, number, large) for session in (1, 3) for number in (1, 2)}
    chunks = replica.snapshot()
    after = command(replica, 2, 1)
    taken = list(chunks)
    assert max(map(len, taken)) <= 64 * 1024

    again = Replica(Counter())
    again.restore(replica.applied_index - 1, taken)
    assert again.sessions == replica.sessions
    assert {asked: command(again, *asked, large) for asked in answers} == answers
    assert command(again, 2, 1) == after, (
        "it came after the snapshot was taken, so it is carried out, for the first time"
    )
    assert command(again, 4, 1).refused


def test_a_generator_function_gives_the_state_at_the_time_of_its_call() -> None:
    replica = Replica(Counter())
    replica.apply(1, Entry(1, EntryKind.COMMAND, b"x"))
    chunks = replica.snapshot()
    replica.apply(2, Entry(1, EntryKind.COMMAND, b"x"))
    again = Replica(Counter())
    again.restore(1, chunks)
    assert again.apply(2, Entry(1, EntryKind.COMMAND, b"x")) == Result(data=b"2 x")


def test_a_snapshot_without_sessions_can_be_restored() -> None:
    chunks = list(opened(0).snapshot())
    again = Replica(Counter())
    again.restore(7, chunks)
    assert (again.sessions, again.applied_index) == (frozenset(), 7)


@pytest.fixture
def small_heap() -> Iterator[None]:
    """Keep the garbage collector from objects of other tests, as a node keeps it from those that stay."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("small_heap")
def test_as_many_sessions_as_there_may_be_do_not_keep_an_event_loop_waiting() -> None:
    replica = opened(SESSIONS_MAX)
    for session in range(1, SESSIONS_MAX + 1):
        for number in range(1, 6):
            command(replica, session, number)
    steps: list[float] = []

    def timed(step: Iterator[bytes]) -> bytes | None:
        start = time.thread_time()
        chunk = next(step, None)
        steps.append(time.thread_time() - start)
        return chunk

    start = time.thread_time()
    chunks = replica.snapshot()
    steps.append(time.thread_time() - start)
    while timed(chunks) is not None:
        pass
    assert len(steps) > 10
    assert max(steps) < LOOP_WAITS_MAX
