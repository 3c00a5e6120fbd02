"""Every public function refuses wrong arguments in its caller, before anything is sent or proposed."""

import inspect
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import cbor2
import msgspec
import pytest
import trio
import trio.testing

from tests.cluster.harness import free_ports
from tests.unit.entries import put_in_log
from tests.unit.memory_cluster import cluster_of
from trioraft import Client, ClientSettings, Node, NodeSettings, open_client, open_node, sync
from trioraft.asking import waiting
from trioraft.consensus.configuration import Configuration, encode_configuration
from trioraft.datagrams import wire
from trioraft.kv.client import KeyValueMethods
from trioraft.kv.commands import Compare, DeleteRange, Put, Range
from trioraft.kv.questions import LeaseList
from trioraft.messages import (
    Ask,
    ClientRequest,
    ClientRequests,
    Entry,
    EntryKind,
    OpenSession,
    Propose,
    ReadSettings,
    Refusal,
    StepDown,
    UnknownCommand,
)
from trioraft.replica.machine import NothingToReplicate
from trioraft.replica.sessions import Replica
from trioraft.storage.database import SqliteDisk

NOWHERE: Final = ClientSettings.of(peers="127.0.0.1:9")
# What each argument may be, by its name; a new one of any public method belongs here.
RIGHT: Final[dict[str, Any]] = {
    "command": StepDown(),
    "commands": [b"1"],
    "compare": [Compare.exists("a")],
    "data": b"1",
    "done": lambda outcome: None,
    "expected": "0",
    "failure": (),
    "function": trio.sleep,
    "handler": lambda question, answered: None,
    "keep_lease": False,
    "items": [("a", "1")],
    "key": "a",
    "keys": False,
    "keys_only": False,
    "leader": False,
    "lease": 1,
    "limit": 0,
    "method": lambda client: client.get("a"),
    "name": "job",
    "node_id": "00000000000000aa",
    "only_reads": lambda question: True,
    "own": False,
    "patience": 1.0,
    "prefix": False,
    "prev_kv": False,
    "put": Put.of("a", "1"),
    "question": LeaseList(),
    "quota": 2**27,
    "reads": "lease",
    "reason": "test",
    "refresh": 1.0,
    "request": Range.of("a"),
    "revision": 1,
    "stale": False,
    "state_kind": "counter",
    "success": [Put.of("a", "1")],
    "term": 1,
    "timeout": 0.5,
    "ttl": 10,
    "value": "1",
    "wait": 1.0,
}
OF_A_CLIENT: Final = [
    *(name for name in dir(KeyValueMethods) if not name.startswith("_") and name != "restores"),
    "command",
    "propose_many",
    "post",
    "state_digest",
    "cluster_settings",
    "change_cluster_settings",
    "statuses",
    "observe",
]
OF_A_NODE: Final = [
    "propose",
    "propose_many",
    "submit",
    "propose_in_term",
    "answer_questions",
    "run_while_leader",
    "step_aside",
]
WRONG: Final[tuple[Any, ...]] = (object(), [1, 2], 1.5, float("nan"), b"\xff", "\udcff", None, {}, True, -1)


def cases(owner: type, names: list[str]) -> list[Any]:
    return [
        pytest.param(name, argument, id=f"{name}-{argument}")
        for name in names
        for argument in list(inspect.signature(getattr(owner, name)).parameters)[1:]
    ]


async def use(called: Any) -> None:
    """Wait for what a method gives, or enter it."""
    if inspect.isawaitable(called):
        await called
    elif isinstance(called, AbstractAsyncContextManager):
        async with called:
            pass
    elif isinstance(called, AsyncIterator):
        await anext(called)


def wrong_for(name: str, argument: str, method: Callable[..., object]) -> Iterator[dict[str, Any]]:
    """List calls with one wrong argument each."""
    right = {
        each.name: RIGHT[each.name]
        for each in inspect.signature(method).parameters.values()
        if each.default is inspect.Parameter.empty or each.name == argument
    }
    if name == "list":
        right["prefix"] = "a"
    for value in WRONG:
        if not _is_right(right[argument], value, argument):
            yield {**right, argument: value}


def _is_right(right: object, value: object, argument: str) -> bool:
    """Check whether a value happens to be of the kind of a right one."""
    if isinstance(right, str):
        if argument in {"name", "reason"}:
            return isinstance(value, str)
        return argument not in {"node_id", "reads", "state_kind"} and (isinstance(value, bytes) or value is None)
    if isinstance(right, float):
        return value in {1.5, None} if not isinstance(value, list | dict) else False
    return type(value) is type(right) and (value != -1 or argument == "lease")  # etcd's leases have any id


def _enter(called: object) -> None:
    if isinstance(called, AbstractContextManager):
        called.__enter__()


@pytest.mark.parametrize(("name", "argument"), cases(Client, OF_A_CLIENT))
async def test_a_client_refuses_what_cannot_be_right(name: str, argument: str) -> None:
    async with open_client(NOWHERE) as client:
        method = getattr(client, name)
        before = client._calls._last_request
        for arguments in wrong_for(name, argument, method):
            if arguments[argument] is None and (name, argument) == ("command", "node_id"):
                continue  # the leader
            with trio.fail_after(5), pytest.raises((TypeError, ValueError)) as refused:
                await use(method(**arguments))
            assert "\n" not in str(refused.value)
            assert client._calls._last_request == before, "nothing may have been asked"


@pytest.mark.parametrize(
    ("name", "argument"), cases(sync.Client, [name for name in vars(sync.Client) if not name.startswith("_")])
)
def test_a_client_that_blocks_refuses_what_cannot_be_right(name: str, argument: str) -> None:
    with sync.Client(NOWHERE, timeout=5) as client:
        method = getattr(client, name)
        for arguments in wrong_for(name, argument, method):
            if arguments[argument] is None and argument == "timeout":
                continue
            with pytest.raises((TypeError, ValueError)) as refused:
                _enter(method(**arguments))
            assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("name", "argument"), cases(Node, OF_A_NODE))
async def test_a_node_refuses_what_cannot_be_right(
    autojump_clock: trio.testing.MockClock, name: str, argument: str
) -> None:
    async with cluster_of(1, 1) as cluster:
        await cluster.start()
        for forming in (True, False):
            node = cluster.nodes[0]
            if not forming:
                await cluster.leader()
                await trio.sleep(10)
            method = getattr(node, name)
            before = node.status().commit_index
            for value in WRONG:
                right = {each: RIGHT[each] for each in inspect.signature(method).parameters}
                if "command" in right:
                    right["command"] = b"1"
                if _is_right(right[argument], value, argument):
                    continue
                with trio.fail_after(5), pytest.raises((TypeError, ValueError)) as refused:
                    await use(method(**{**right, argument: value}))
                assert "\n" not in str(refused.value)
            if not forming:
                await trio.sleep(1)
                assert node.status().commit_index == before


async def test_mutable_arguments_are_taken_as_they_are_now(autojump_clock: trio.testing.MockClock) -> None:
    machine = _Counter()
    async with cluster_of(1, 2) as cluster:
        cluster.machine = lambda index: machine
        await cluster.start()
        await cluster.leader()
        command: Any = bytearray(b"7")
        view: Any = memoryview(command)
        assert await cluster.nodes[0].propose(command) == b"7"
        assert await cluster.nodes[0].propose(view) == b"14"
        assert [type(applied) for applied in machine.applied] == [bytes, bytes]


class _Counter(NothingToReplicate):
    def __init__(self) -> None:
        self.value = 0
        self.applied: list[bytes] = []

    def apply(self, command: bytes) -> bytes:
        self.applied.append(command)
        self.value += int(command) if command.isdigit() else 0
        return b"%d" % self.value


class _Async(NothingToReplicate):
    async def apply(self, command: bytes) -> bytes:  # type: ignore[override]  # a mistake that is to be refused
        return command


class _Lacking:
    def apply(self, command: bytes) -> bytes:
        return command


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (_Counter, "machine must be an object, not the class _Counter itself; call it"),
        (_Async(), "_Async.apply must not be an async function: nobody awaits what it returns"),
        (_Lacking(), "machine must have a method 'snapshot', which _Lacking has not"),
        ("counter", "machine must have a method 'apply', which str has not"),
    ],
)
async def test_anything_but_a_state_machine_is_refused_before_it_could_end_every_node(
    tmp_path: Path, machine: Any, said: str
) -> None:
    with pytest.raises(TypeError, match=f"^{said}$"):
        async with open_node(NodeSettings.of(data_dir=str(tmp_path)), machine):
            pass
    assert not any(os.scandir(tmp_path))


async def test_anything_but_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"^settings must be NodeSettings, not str 'x'$"):
        async with open_node("x"):  # type: ignore[arg-type]  # the mistake
            pass
    with pytest.raises(TypeError, match=r"^settings must be ClientSettings, not NodeSettings$"):
        async with open_client(NodeSettings.of(data_dir=str(tmp_path))):  # type: ignore[arg-type]  # as above
            pass
    with pytest.raises(ValueError, match=r"^on_overrun must be exit or log, not 'stop'$"):
        async with open_node(NodeSettings.of(data_dir=str(tmp_path)), on_overrun="stop"):  # type: ignore[arg-type]  # as above
            pass
    with pytest.raises(ValueError, match=r"^comparison must be one of = != > <, not '=='$"):
        Compare.value("a", "==", "1")  # type: ignore[arg-type]  # as above
    with pytest.raises(TypeError, match=r"^key must be text or bytes, not int 5$"):
        DeleteRange.of(5)  # type: ignore[arg-type]  # as above


# --- the leader -----------------------------------------------------------------------------------------------


def test_a_request_with_a_wrong_field_is_read_as_such() -> None:
    wrong = ClientRequest(5, Propose(1, 2, 3, "1"))  # type: ignore[arg-type]  # as above
    said = UnknownCommand(6, "Propose.data: expected bytes, got str")
    for message in (wrong, ClientRequests((ClientRequest(4, OpenSession()), wrong))):
        read = wire.decode_message_untrusted(cbor2.dumps(msgspec.to_builtins(message, builtin_types=(bytes,))))
        assert (read.requests[1] if isinstance(read, ClientRequests) else read) == ClientRequest(5, said)


async def test_the_leader_refuses_a_text(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster_of(1, 3) as cluster:
        await cluster.start()
        await cluster.leader()
        node = cluster.nodes[0]
        session = (await waiting.call(node._calls, OpenSession)).session
        before = node.status().commit_index
        text: Any = "1"
        for command in (partial(Propose, session, 1, 1, text), partial(UnknownCommand, 6, "Propose.data: …")):
            response = await waiting.call(node._calls, command)
            assert response.code == Refusal.REFUSED
            assert "Propose.data" in response.detail
        assert node.status().commit_index == before


async def test_a_program_that_fails_at_a_question_ends_no_node(autojump_clock: trio.testing.MockClock) -> None:
    def answer(question: bytes, answered: Callable[[Any], None]) -> None:
        answered("a text" if question == b"text" else question[99])

    async with cluster_of(1, 4) as cluster:
        await cluster.start()
        await cluster.leader()
        node = cluster.nodes[0]
        node.answer_questions(answer)
        for question, said in (
            (b"text", "TypeError: an answer must be bytes, not str 'a text'"),
            (b"x", "IndexError"),
        ):
            response = await waiting.call(node._calls, partial(Ask, question))
            assert response.code == Refusal.REFUSED
            assert said in response.detail
        assert (await waiting.call(node._calls, ReadSettings)).done


# --- what is in a log all the same -----------------------------------------------------------------------------


def _entry(data: object, number: int = 1) -> Entry:
    return Entry(1, EntryKind.SESSION_COMMAND, cbor2.dumps([2, number, number, data]))


def test_a_text_in_a_log_is_its_utf_8_on_every_replica() -> None:
    """But where the release before has read it as Base64, that stays so: another replica has a snapshot of it."""
    for version, four in ((1, b"\x69\xb7\x1d"), (2, b"\x69\xb7\x1d"), (3, b"abcd")):
        machine = _Counter()
        replica = Replica(machine)
        replica.apply(
            1, Entry(1, EntryKind.CONFIGURATION, encode_configuration(Configuration((1,), version=version)))
        )
        assert replica.apply(2, Entry(1, EntryKind.OPEN_SESSION)).session == 2
        assert replica.apply(3, _entry("1")).data == b"1"
        replica.apply(4, _entry("abcd", 2))
        replica.apply(5, _entry("é", 3))
        assert machine.applied == [b"1", four, "é".encode()]


@pytest.mark.parametrize("data", [[1], 5, None, {}, True, 1.5])
def test_an_entry_that_is_no_command_is_an_error_on_every_replica(data: object) -> None:
    machine = _Counter()
    replica = Replica(machine)
    replica.apply(2, Entry(1, EntryKind.OPEN_SESSION))
    before = b"".join(replica.snapshot())
    for entry in (_entry(data), Entry(1, EntryKind.SESSION_COMMAND, b"\x84\x01"), _entry(b"", -1)):
        result = replica.apply(3, entry)
        assert (result.code, machine.applied) == (Refusal.REFUSED, [])
    assert b"".join(replica.snapshot()) == before
    assert replica.apply(6, _entry(b"5")).data == b"5"


async def test_a_node_starts_again_on_data_with_a_text(tmp_path: Path) -> None:
    settings = NodeSettings.of(
        data_dir=str(tmp_path),
        bind_port=free_ports(1)[0],
        bootstrap_expect=1,
        peers="127.0.0.1:9",
        election_timeout_lower_millis=100,
        election_timeout_upper_millis=200,
        heartbeat_repeat_millis=20,
    )

    @asynccontextmanager
    async def running() -> AsyncIterator[tuple[Node, _Counter]]:
        machine = _Counter()
        with trio.fail_after(20):
            async with open_node(settings, machine) as node:
                while not node.leads_in:
                    await trio.sleep(0.01)
                await node.read_barrier()
                yield node, machine

    async with running() as (node, machine):
        session = (await waiting.call(node._calls, OpenSession)).session
        logged = cbor2.dumps((session, 1, 1, "1"))  # as the release before did
        assert (await put_in_log(node, EntryKind.SESSION_COMMAND, logged)).data == b"1"
        assert await node.propose(b"2") == b"3"
    disk = SqliteDisk(tmp_path / "0")
    assert any(entry.data == logged for entry in disk.log.entries(1, disk.log.last_index))
    disk.close()
    async with running() as (node, machine):
        assert machine.applied == [b"1", b"2"]
        assert await node.propose(b"4") == b"7"
