"""Answers in pages are what would have come at once, whoever gives them and whatever happens between them."""

from collections.abc import Callable, Iterable, Sequence
from unittest import mock

import cbor2
import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.memory_client import key_value_cluster, memory_client
from trioraft.kv import (
    DeleteRange,
    Error,
    ErrorCode,
    Event,
    HistoryLimits,
    KeyValueStore,
    LeaseGrant,
    Put,
    Range,
    Txn,
    Watch,
    prefix_range,
)
from trioraft.kv.client import KeyValueMethods
from trioraft.kv.codec import pack, unpack
from trioraft.kv.errors import KeyValueError
from trioraft.kv.lock import hold_lock
from trioraft.kv.paging import READ_SECONDS, READS_MAX, PagedReads
from trioraft.kv.questions import AnyQuestion
from trioraft.kv.service import KeyValueService
from trioraft.kv.watcher import Watcher

# The numbers of fields, with the tag, that the release before knew of questions and of answers: LeaseTimeToLive,
# LeaseList and WatchEvents.
OLDER_QUESTIONS = {2: 3, 3: 1, 4: 5}
OLDER_ANSWERS = {2: 5, 3: 2, 4: 3}


class Node:
    """The service of a leader, without the rest of the node."""

    leads_in = 1

    def __init__(self, limits: HistoryLimits | None = None, *, older: bool = False) -> None:
        self.limits = limits or HistoryLimits()
        self.older = older
        self.start(KeyValueStore(self.limits))

    def now(self) -> float:
        return 1.0

    def propose_in_term(self, term: int, command: bytes) -> None:
        """Propose nothing."""

    def start(self, store: KeyValueStore) -> None:
        self.service = KeyValueService(store)
        self.service.attach(self)

    def restart(self) -> None:
        """Begin again with the state of a snapshot."""
        store = KeyValueStore(self.limits)
        store.restore(list(self.service.store.snapshot()))
        self.start(store)

    def ask(self, question: bytes) -> bytes:
        answers: list[bytes] = []
        if not self.older:
            self.service.answer(question, answers.append)
            return answers[0]
        fields = msgspec.to_builtins(unpack(question, AnyQuestion), builtin_types=(bytes,))
        self.service.answer(pack(fields[: OLDER_QUESTIONS[fields[0]]]), answers.append)
        told = cbor2.loads(answers[0])
        assert isinstance(told, list)
        return pack(told[: OLDER_ANSWERS[told[0]]])


class Nodes(KeyValueMethods):
    """Some nodes with the same state, as a client sees them; the turns say which of them answers."""

    def __init__(
        self, nodes: Sequence[Node], turns: Sequence[int] = (), before: Callable[[], None] | None = None
    ) -> None:
        self.nodes = nodes
        self.before = before or (lambda: None)
        self._turns = iter(turns)
        self.asked = 0

    @property
    def restores(self) -> int:
        return 0

    @property
    def store(self) -> KeyValueStore:
        return self.nodes[0].service.store

    def _next(self) -> Node:
        self.asked += 1
        self.before()
        return self.nodes[next(self._turns, 0) % len(self.nodes)]

    async def propose(self, data: bytes, *, state_kind: str = "") -> bytes:
        raise AssertionError("the tests change all nodes by themselves")

    async def propose_many(self, commands: Iterable[bytes], *, state_kind: str = "") -> list[bytes]:
        raise AssertionError("the tests change all nodes by themselves")

    async def query(self, data: bytes, *, stale: bool = False, state_kind: str = "") -> bytes:
        return self._next().service.query(data)

    async def ask(self, data: bytes, *, leader: bool = False, patience: float = 1.0, state_kind: str = "") -> bytes:
        return self._next().ask(data)


# --- watches ------------------------------------------------------------------------------------------------

KEYS = st.sampled_from([b"a", b"b", b"b1", b"b2", b"c"])
PUTS = st.builds(Put, KEYS, st.integers(0, 300).map(bytes))
COMMANDS = (
    PUTS
    | st.lists(PUTS, min_size=1, max_size=4, unique_by=lambda put: put.key).map(lambda puts: Txn((), tuple(puts)))
    | st.just(DeleteRange(*prefix_range(b"b")))
)


@given(
    st.lists(COMMANDS, max_size=12),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from([1, 150, 500, 1000]), st.booleans()), max_size=60),
)
def test_pages_of_a_watch_add_up_to_what_would_have_come_at_once(
    commands: list[Put | Txn | DeleteRange], prev_kv: bool, turns: list[tuple[int, int, bool]]
) -> None:
    nodes = Nodes([Node(), Node(), Node(older=True)], [turn for turn, _, _ in turns])
    for command in [*commands, Put(b"b", b"last")]:
        for node in nodes.nodes:
            node.service.store.execute(command)
    expected = [
        event if prev_kv else Event(event.kind, event.kv)
        for events in list(nodes.store._state.history.since(2))
        for event in events
        if event.kv.key.startswith(b"b")
    ]
    sizes = iter([(size, restart) for _, size, restart in turns])
    take = Watch.take

    def take_page(self: Watch, _max_bytes: int) -> object:
        size, _ = next(sizes, (100, False))
        return take(self, size)

    def before() -> None:
        for node, (_, _, restart) in zip(nodes.nodes, turns[nodes.asked :], strict=False):
            if restart:
                node.restart()

    nodes.before = before
    found = []

    async def watch() -> None:
        watcher = Watcher(nodes, *prefix_range(b"b"), 2, prev_kv=prev_kv)
        async for event in watcher:
            found.append(event)
            left = (event.kv.mod_revision for event in expected[len(found) :])
            assert watcher.next_revision <= next(left, nodes.store.revision + 1)
            if event.kv.value == b"last":
                break
        assert watcher.next_revision == nodes.store.revision + 1

    with mock.patch.object(Watch, "take", take_page):
        trio.run(watch)
    assert found == expected


def test_a_watch_from_a_revision_before_a_restore_gets_an_error() -> None:
    nodes = Nodes([Node()])
    nodes.store.execute(Put(b"a", b"1"))  # revision 2

    async def watch(revision: int) -> Event:
        return await anext(nodes.watch("a", revision=revision))

    assert trio.run(watch, 2).kv.value == b"1"
    trio.run(nodes.watch("a", revision=3).start)
    with pytest.raises(KeyValueError, match="revision 4 is still to come; the newest one is 2") as raised:
        trio.run(watch, 4)
    assert raised.value.code == ErrorCode.FUTURE_REVISION


# --- ranges -------------------------------------------------------------------------------------------------

NUMBERED = st.integers(0, 9).map(lambda number: b"k%d" % number)
WRITES = st.lists(st.builds(Put, NUMBERED, st.binary(max_size=2)) | st.builds(DeleteRange, NUMBERED), max_size=5)


@given(
    st.lists(WRITES, max_size=10),
    st.lists(st.booleans(), max_size=10),
    st.sampled_from([0, 0, 1, 4]),
    st.booleans(),
)
def test_all_parts_of_a_range_are_of_one_revision_whatever_is_written_meanwhile(
    writes: list[list[Put | DeleteRange]], restarts: list[bool], limit: int, named: bool
) -> None:
    node = Node(HistoryLimits(events=2))
    nodes = Nodes([node])
    contents: dict[int, list[tuple[bytes, bytes]]] = {}
    steps, again = iter(writes), iter(restarts)
    has_restarted = False

    def write(commands: Sequence[Put | DeleteRange]) -> None:
        for command in commands:
            node.service.store.execute(command)
            found = node.service.store._state.items.values(b"k", None)
            contents[nodes.store.revision] = [(kv.key, kv.value) for kv in found]

    def before() -> None:
        nonlocal has_restarted
        if nodes.asked > 1:
            write(next(steps, []))
            if next(again, False):
                has_restarted = True
                node.restart()

    write([Put(b"k%d" % number, b"") for number in range(8)])
    nodes.before = before
    begun = nodes.store.revision
    request = Range(*prefix_range(b"k"), limit=limit, revision=begun if named else 0)
    with mock.patch("trioraft.kv.store.RESULT_MAX", 220):  # two keys
        try:
            result = trio.run(nodes.read_all, request, clock=trio.testing.MockClock(autojump_threshold=0))
        except KeyValueError as error:
            if (error.code, named, has_restarted) != (ErrorCode.COMPACTED, True, True):
                raise
            return
    assert result.revision == begun or has_restarted
    all_keys = contents[result.revision]
    assert [(kv.key, kv.value) for kv in result.kvs] == all_keys[: limit or None]
    assert (result.count, result.more) == (len(all_keys), bool(limit) and len(all_keys) > limit)


def test_what_a_node_remembers_of_ranges_is_bounded_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trioraft.kv.store.RESULT_MAX", 220)
    store = KeyValueStore(HistoryLimits(events=1))
    reads = PagedReads(store)
    store.on_change = reads.follow
    for number in range(9):
        store.execute(Put(b"k%d" % number, bytes(50)))
    for number in range(READS_MAX + 5):
        first = reads.read(Range(b"k", b"l"), now=number / 100)
        store.execute(Put(b"k8", bytes(50)))
        assert not isinstance(first, Error)
    assert len(reads._reads) == READS_MAX
    rest = Range(b"k1\0", b"l", revision=first.revision)
    assert not isinstance(reads.read(rest, now=2.0), Error)
    reads.end_old(2.0 + READ_SECONDS / 2)
    assert not isinstance(reads.read(rest, now=3.0), Error)
    reads.end_old(3.0 + READ_SECONDS)
    store.execute(Put(b"k8", bytes(50)))
    assert isinstance(reads.read(rest, now=14.0), Error), "nobody has asked for long, and the revision is compacted"
    monkeypatch.setattr("trioraft.kv.paging.READS_BYTES_MAX", 500)
    reads.read(Range(b"k", b"l"), now=20.0)
    for number in range(9):
        store.execute(Put(b"k%d" % number, b""))
    assert not reads._reads


async def test_a_lock_works_with_a_queue_that_is_longer_than_an_answer(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioraft.kv.store.RESULT_MAX", 300)  # two keys
    async with key_value_cluster(1, 1) as cluster, memory_client(cluster.network, cluster.addresses) as client:
        tokens = []

        async def work() -> None:
            async with hold_lock(client, "job", 100, clock=trio.current_time) as lock:
                tokens.append(lock.fencing_token)
                await trio.sleep(1)

        with trio.fail_after(100):
            async with trio.open_nursery() as nursery:
                for _ in range(7):
                    nursery.start_soon(work)
        assert len(tokens) == 7
        assert tokens == sorted(tokens)


# --- leases -------------------------------------------------------------------------------------------------


@given(st.sets(st.integers(1, 50), max_size=12), st.lists(st.integers(0, 2), max_size=12))
def test_pages_of_leases_and_of_their_keys_add_up_to_what_would_have_come_at_once(
    ids: set[int], turns: list[int]
) -> None:
    nodes = Nodes([Node(), Node(), Node(older=True)], turns)
    keys = sorted(b"key-%d" % number for number in ids)
    for node in nodes.nodes:
        for lease in {*ids, 100}:
            node.service.store.execute(LeaseGrant(5, lease))
        for key in keys:
            node.service.store.execute(Put(key, b"", lease=100))
    with (
        mock.patch("trioraft.kv.service.LEASES_PAGE", 3),
        mock.patch("trioraft.kv.paging.KEYS_PAGE_BYTES", 30),
    ):
        assert trio.run(nodes.leases) == (*sorted(ids), 100)
        assert trio.run(lambda: nodes.lease_time_to_live(100, keys=True)).keys == tuple(keys)
        assert trio.run(lambda: nodes.lease_time_to_live(100)).keys == ()
