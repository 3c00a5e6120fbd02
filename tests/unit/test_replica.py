"""Commands once each, whatever the log holds: sessions, their bounds, and nonsense of every kind."""

from collections.abc import Iterable, Iterator

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioraft.kv.codec import decode_result, encode_command, pack
from trioraft.kv.commands import Compare, CompareOperator, CompareTarget, DeleteRange, LeaseGrant, Put, Range, Txn
from trioraft.kv.questions import LeaseKeepAlive, LeaseList, LeaseTimeToLive, WatchEvents
from trioraft.kv.service import KeyValueService
from trioraft.messages import TERM_LEAP, Entry, EntryKind, Refusal
from trioraft.replica.sessions import RESULT_BYTES_MAX, RESULT_BYTES_MAX_OF_ALL, Replica, Result


class Recorder:
    """Remembers its commands; each is the size of its result."""

    def __init__(self) -> None:
        self.applied: list[bytes] = []

    def apply(self, command: bytes) -> bytes:
        self.applied.append(command)
        return bytes(int(command))

    def query(self, question: bytes) -> bytes:
        return b""

    def snapshot(self) -> Iterator[bytes]:
        yield b"\n".join(self.applied)

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.applied = b"".join(chunks).split(b"\n")


class Log:
    """Hands entries to a replica."""

    def __init__(self, machine: Recorder | KeyValueService) -> None:
        self.replica = Replica(machine)

    def add(self, kind: EntryKind, data: bytes = b"") -> Result:
        return self.replica.apply(self.replica.applied_index + 1, Entry(1, kind, data))

    def open(self) -> int:
        return self.add(EntryKind.OPEN_SESSION).session

    def end(self, session: int) -> None:
        self.add(EntryKind.END_SESSION, session.to_bytes(8, "big"))

    def command(self, session: int, number: int, answered_below: int, data: bytes) -> Result:
        return self.add(EntryKind.SESSION_COMMAND, cbor2.dumps((session, number, answered_below, data)))


# --- once ---------------------------------------------------------------------------------------------------


def test_a_command_that_comes_again_gets_its_first_result_even_after_a_snapshot() -> None:
    log = Log(Recorder())
    session = log.open()
    first = log.command(session, 1, 1, b"7")
    log.command(session, 3, 1, b"8")  # the second one comes later
    other = Log(Recorder())
    other.replica.restore(log.replica.applied_index, log.replica.snapshot())
    for each in (log, other):
        assert each.command(session, 1, 1, b"7") == first
        each.command(session, 2, 1, b"9")
        each.command(session, 2, 1, b"9")
    assert log.replica.machine.applied == other.replica.machine.applied == [b"7", b"8", b"9"]  # type: ignore[attr-defined]
    assert b"".join(log.replica.snapshot()) == b"".join(other.replica.snapshot())


def test_a_command_whose_result_the_client_has_is_refused() -> None:
    log = Log(Recorder())
    session = log.open()
    log.command(session, 2, 2, b"7")
    for number, below in ((1, 1), (1, 2), (3, 4)):
        assert log.command(session, number, below, b"8").code == Refusal.REFUSED
    assert log.replica.machine.applied == [b"7"]  # type: ignore[attr-defined]


def test_a_command_that_comes_after_the_end_of_its_session_is_refused_however_often() -> None:
    log = Log(Recorder())
    session = log.open()
    log.command(session, 1, 1, b"7")
    log.end(session)
    log.end(session)
    assert log.open() != session
    for number in (1, 2):
        assert log.command(session, number, 1, b"7").code == Refusal.SESSION_ENDED
    assert log.replica.machine.applied == [b"7"]  # type: ignore[attr-defined]


def test_a_command_that_was_refused_as_busy_is_carried_out_when_it_comes_again() -> None:
    log = Log(Recorder())
    session, size = log.open(), b"%d" % (RESULT_BYTES_MAX // 2)
    for number in (1, 2):
        log.command(session, number, 1, size)
    assert log.command(session, 3, 1, b"1").code == Refusal.BUSY
    assert log.command(session, 3, 2, b"1").data == bytes(1)
    assert log.command(session, 3, 2, b"1").data == bytes(1)
    assert log.replica.machine.applied == [size, size, b"1"]  # type: ignore[attr-defined]


def test_the_first_command_that_a_client_waits_for_is_never_refused() -> None:
    # Later commands have overtaken it. Their results, which are dropped only when it has its own, fill the session.
    log = Log(Recorder())
    session, size = log.open(), b"%d" % (RESULT_BYTES_MAX // 2)
    for number in (2, 3):
        log.command(session, number, 1, size)
    assert log.command(session, 4, 1, b"1").code == Refusal.BUSY
    assert not log.command(session, 1, 1, b"1").refused
    assert not log.command(session, 4, 4, b"1").refused


def test_the_results_of_all_sessions_are_bounded_and_no_client_is_locked_out() -> None:
    log = Log(Recorder())
    size = b"%d" % RESULT_BYTES_MAX
    sessions = [log.open() for _ in range(RESULT_BYTES_MAX_OF_ALL // RESULT_BYTES_MAX)]
    for session in sessions:
        log.command(session, 1, 1, size)
    restored = Log(Recorder())
    restored.replica.restore(log.replica.applied_index, log.replica.snapshot())
    for replicas in (log, restored):
        late = replicas.open()
        assert not replicas.command(late, 1, 1, b"1").refused, "one at a time always works"
        assert "the clients have too many" in replicas.command(late, 2, 1, b"1").refused
        replicas.command(sessions[0], 2, 2, b"1")
        assert not replicas.command(late, 2, 1, b"1").refused
        replicas.command(late, 3, 1, size)
        other = replicas.open()
        assert replicas.command(other, 2, 1, b"1").code == Refusal.BUSY
        replicas.end(sessions[1])
        replicas.end(sessions[1])
        assert not replicas.command(other, 2, 1, b"1").refused


# --- a state machine that is not as it should be ------------------------------------------------------------


class Broken(Recorder):
    def apply(self, command: bytes) -> bytes:
        if command == b"raise":
            raise KeyError("no such account")
        return None  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("command", "error", "text"),
    [
        (b"raise", KeyError, "no such account"),
        (b"x", TypeError, "apply must return bytes, and has returned NoneType"),
    ],
)
@pytest.mark.parametrize("once", [True, False])
def test_an_error_of_the_state_machine_comes_out_and_names_the_entry(
    command: bytes, error: type[Exception], text: str, once: bool
) -> None:
    log = Log(Broken())
    session = log.open()
    data = cbor2.dumps((session, 1, 1, command)) if once else command
    with pytest.raises(error, match=text) as caught:
        log.add(EntryKind.SESSION_COMMAND if once else EntryKind.COMMAND, data)
    assert caught.value.__notes__ == [f"Broken.apply failed at entry 2 of the log, {command!r}"]


# --- nonsense -----------------------------------------------------------------------------------------------

KEYS = st.sampled_from([b"", b"a", b"b", b"a\xff", bytes(1537)])
NUMBERS = st.sampled_from([-1, 0, 1, 2, 7, 2**31, 2**62, 2**63 - 1, 2**63, 2**64, 2**70])
OPERATIONS = (
    st.builds(Put, KEYS, st.binary(max_size=3), NUMBERS, st.booleans())
    | st.builds(Range, KEYS, KEYS, NUMBERS, NUMBERS, st.booleans(), st.booleans())
    | st.builds(DeleteRange, KEYS, KEYS, st.booleans())
)
COMMANDS = (
    OPERATIONS
    | st.builds(
        Txn,
        st.lists(
            st.builds(
                Compare, KEYS, st.sampled_from(list(CompareTarget)[:3]), st.sampled_from(CompareOperator), NUMBERS
            ),
            max_size=2,
        ).map(tuple),
        st.lists(OPERATIONS, max_size=3).map(tuple),
        st.lists(OPERATIONS, max_size=3).map(tuple),
    )
    | st.builds(LeaseGrant, NUMBERS, NUMBERS)
)
QUESTIONS = (
    st.builds(WatchEvents, KEYS, KEYS, NUMBERS, st.booleans())
    | st.builds(LeaseKeepAlive, NUMBERS)
    | st.builds(LeaseTimeToLive, NUMBERS, st.booleans())
    | st.builds(LeaseList)
)
LEAVES = st.none() | st.booleans() | NUMBERS | st.floats() | st.binary(max_size=9) | st.text(max_size=9)
ITEMS = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(LEAVES, inner, max_size=2))
CBOR = st.one_of(
    ITEMS.map(cbor2.dumps),
    st.tuples(st.integers(0, 9), ITEMS, ITEMS).map(cbor2.dumps),  # with the tag of a command in front
    st.builds(cbor2.CBORTag, st.integers(0, 300), ITEMS).map(cbor2.dumps),
)


def cut_or_not(whole: bytes, at: int) -> bytes:
    return whole[: at % len(whole)] if at and whole else whole


def nonsense(structs: st.SearchStrategy[object]) -> st.SearchStrategy[bytes]:
    """Draw bytes of any kind: none, CBOR, structs with fields that are out of bounds; some of them cut short."""
    return st.builds(cut_or_not, st.binary(max_size=40) | CBOR | structs.map(pack), st.just(0) | st.integers(0, 60))


COUNTERS = st.sampled_from([0, 1, 2, 3, 5, 2**31, 2**62])


@given(st.lists(st.tuples(nonsense(COMMANDS), COUNTERS, COUNTERS, COUNTERS, st.booleans()), max_size=8))
def test_any_bytes_can_be_applied_and_replicas_agree(
    steps: list[tuple[bytes, int, int, int, bool]],
) -> None:
    logs = Log(KeyValueService()), Log(KeyValueService())
    results = []
    for log in logs:
        log.open()
        results.append(
            [
                log.command(session, number, below, data) if within else log.add(EntryKind.COMMAND, data)
                for data, session, number, below, within in steps
            ]
        )
        for result in results[-1]:
            assert result.refused or decode_result(result.data)
    assert results[0] == results[1]
    assert b"".join(logs[0].replica.snapshot()) == b"".join(logs[1].replica.snapshot())


@given(nonsense(QUESTIONS), nonsense(COMMANDS))
def test_any_bytes_can_be_asked_and_change_nothing(question: bytes, query: bytes) -> None:
    service = KeyValueService()
    service.apply(encode_command(Put(b"a", b"b")))
    before = service.store.digest()
    answers: list[bytes] = []
    service.answer(question, answers.append)
    assert len(answers) == 1
    assert decode_result(service.query(query))
    assert service.store.digest() == before


def test_a_cluster_made_of_old_data_gives_no_session_a_number_that_was_given_before() -> None:
    old, new = Log(Recorder()), Log(Recorder())
    old.add(EntryKind.NO_OP)
    new.add(EntryKind.NO_OP)
    lost = old.open()  # the new cluster lacks this entry, and has another one in its place
    first = new.replica.apply(2, Entry(TERM_LEAP + 1, EntryKind.OPEN_SESSION)).session
    second = new.replica.apply(3, Entry(2 * TERM_LEAP + 1, EntryKind.OPEN_SESSION)).session
    assert lost < first < second < 2**62
    assert new.command(lost, 1, 1, b"7").code == Refusal.SESSION_ENDED
    assert new.command(first, 1, 1, b"7").data == bytes(7)
    new.end(first)
    assert new.replica.sessions == {second}
