"""What clients see is linearizable, whatever happens to the network and the nodes.

Writers and readers, at the leader and at the other nodes, on a bad network, while nodes are cut off, paused, killed
and made leader, and reads go by the lease or ask a quorum in turns; then the history is checked. The full version is
several lives of two minutes::

    TRIORAFT_LIVES=5 TRIORAFT_LIFE_SECONDS=120 python -m pytest -s tests/cluster/test_linearizable.py

``TRIORAFT_LIFE_SEED`` is the seed of the first life; how faults meet what the nodes do stays chance.
"""

import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.cluster.bad_socket import open_bad_client
from tests.cluster.harness import Cluster, free_ports
from tests.cluster.recorded_clients import choose, execute
from tests.cluster.relay import Faults, Relay, open_relay
from tests.linearizability import (
    Deleted,
    Found,
    Get,
    History,
    KeyValueModel,
    Operation,
    Put,
    Swapped,
    Verdict,
    assert_linearizable,
    check,
)
from tests.linearizability.models import KeyValueInput, KeyValueOutput
from trioraft.client.client import Client, NoAnswerError
from trioraft.cluster_settings import ReadMode
from trioraft.kv.codec import decode_result, encode_command
from trioraft.kv.commands import Range
from trioraft.kv.results import RangeResult
from trioraft.messages import Query, Transfer
from trioraft.settings import ClientSettings

LIVES = int(os.environ.get("TRIORAFT_LIVES", "1"))
SECONDS = float(os.environ.get("TRIORAFT_LIFE_SECONDS", "18"))
SEED = int(os.environ.get("TRIORAFT_LIFE_SEED", random.randrange(10**6)))
SIZE = 3
CLIENTS = 8
KEYS = 3
# Other keys are used after so many seconds, for what is to be searched grows fast with the operations of one key.
KEYS_LAST = 5.0
# A node that is cut off does not answer a read; nothing is known then, and nothing has changed.
READ_SECONDS = 1.5

Known = Operation[KeyValueInput, KeyValueOutput]


# --- the clients --------------------------------------------------------------------------------------------


class Life:
    """One cluster, its clients, and what they saw."""

    def __init__(self, cluster: Cluster, relay: Relay, seed: int) -> None:
        self.cluster = cluster
        self.relay = relay
        self.source = random.Random(seed)
        self.history: History[KeyValueInput, KeyValueOutput] = History()
        self.client_faults = Faults()
        self.done: Counter[str] = Counter()
        self.lost_by_clients = 0
        self.until = trio.current_time() + SECONDS
        self.reads = ReadMode.QUORUM

    async def use(self, number: int) -> None:
        """Call one operation after another; what is not answered at the end has an unknown outcome."""
        source = random.Random(self.source.random())
        settings = ClientSettings.of(peers=self.cluster.peers)
        seen = Found(None)
        async with open_bad_client(settings, self.client_faults, source) as (client, socket):
            for count in range(10**6):
                if trio.current_time() > self.until:
                    break
                key = f"key-{trio.current_time() // KEYS_LAST:.0f}-{source.randrange(KEYS)}"
                asked = choose(source, key, f"{number}/{count}", seen)
                token = self.history.invoke(number, asked)
                with trio.move_on_at(self.until + 15):
                    answered = await self.execute(client, source, asked)
                    if answered is None:
                        self.history.fail(token)
                    else:
                        self.history.ok(token, answered)
                        seen = answered if isinstance(answered, Found) else seen
                    await trio.sleep(source.uniform(0, 0.02))
                    continue
                self.history.unknown(token)
            self.lost_by_clients += socket.lost

    async def execute(self, client: Client, source: random.Random, asked: KeyValueInput) -> KeyValueOutput | None:
        return await self.read(client, source, asked.key) if isinstance(asked, Get) else await execute(client, asked)

    async def read(self, client: Client, source: random.Random, key: str) -> Found | None:
        """Read at whoever the client believes to lead, or at any node; None where there was no answer."""
        nodes = [node.status for node in client.nodes.values()]
        if not nodes or source.random() < 0.4:
            kv = await client.get(key)
            self.done["reads by the leader"] += 1
            return Found(kv.value.decode(), kv.mod_revision) if kv else Found(None)
        node = source.choice(nodes)
        try:
            answer = await client.command(node.id, Query(encode_command(Range(key.encode()))), READ_SECONDS)
        except NoAnswerError:
            self.done["reads without an answer"] += 1
            return None
        if not answer.done:
            self.done["reads refused"] += 1
            return None
        self.done["reads by the leader" if node.role == "leader" else "reads by followers"] += 1
        result = decode_result(answer.data)
        assert isinstance(result, RangeResult)
        return Found(result.kvs[0].value.decode(), result.kvs[0].mod_revision) if result.kvs else Found(None)

    # --- what happens to them -------------------------------------------------------------------------------

    async def weather(self) -> None:
        """Let the network be now bad, now good, each as often: some ten times as much is done in good weather."""
        kinds: list[float] = []
        while True:
            if not kinds:
                kinds = self.source.sample((0.0, 0.3, 1.0), 3)
            bad = kinds.pop()
            for faults in (self.relay.faults, self.client_faults):
                faults.loss, faults.duplication, faults.late = 0.2 * bad, 0.2 * bad, 0.2 * bad
                faults.delay, faults.jitter, faults.late_by = 0.01 * bad, 0.01 * bad, 0.3 * bad
            await trio.sleep(self.source.uniform(0.7, 2))

    async def suffer(self) -> None:
        """Have one fault after another, each kind as often as the others."""
        kinds: list[Callable[[], Awaitable[None]]] = []
        while trio.current_time() < self.until:
            if not kinds:
                kinds = [self.cut_off, self.cut_one_way, self.cut_link, self.pause, self.kill, self.transfer]
                kinds.append(self.read_otherwise)
                self.source.shuffle(kinds)
            kind = kinds.pop()
            await kind()
            self.done[kind.__name__] += 1
            await trio.sleep(self.source.uniform(0, 1))

    async def victim(self) -> int:
        """Choose a node, the leader more often than others."""
        leader = self.cluster.client.cluster().leader
        if leader is not None and self.source.random() < 0.6:
            return self.cluster.index(leader)
        return self.source.randrange(SIZE)

    async def cut_off(self) -> None:
        self.relay.faults.cut_off(await self.victim(), range(SIZE))
        await self.wait_and_heal()

    async def cut_one_way(self) -> None:
        victim = await self.victim()
        others = [node for node in range(SIZE) if node != victim]
        others = self.source.sample(others, self.source.choice((1, 2)))
        is_deaf = self.source.random() < 0.5
        self.relay.faults.cut |= {(other, victim) if is_deaf else (victim, other) for other in others}
        await self.wait_and_heal()

    async def cut_link(self) -> None:
        one = await self.victim()
        other = self.source.choice([node for node in range(SIZE) if node != one])
        self.relay.faults.cut |= {(one, other), (other, one)}
        await self.wait_and_heal()

    async def wait_and_heal(self) -> None:
        await trio.sleep(self.source.uniform(0.5, 2.5))
        self.relay.faults.cut.clear()

    async def pause(self) -> None:
        victim = await self.victim()
        self.cluster.pause(victim)
        await trio.sleep(self.source.uniform(0.3, 2.5))
        self.cluster.resume(victim)

    async def kill(self) -> None:
        victim = await self.victim()
        await self.cluster.kill(victim)
        await trio.sleep(self.source.uniform(0, 1.5))
        await self.cluster.start(victim)

    async def transfer(self) -> None:
        try:
            await self.cluster.client.command(None, Transfer(0), 3)
        except NoAnswerError:
            self.done["transfers without an answer"] += 1

    async def read_otherwise(self) -> None:
        """Let reads go by the lease if they asked a quorum, or the other way round."""
        self.reads = ReadMode.QUORUM if self.reads is ReadMode.LEASE else ReadMode.LEASE
        with trio.move_on_after(5) as scope:
            await self.cluster.client.change_cluster_settings(reads=self.reads)
        self.done["changes of settings without an answer"] += scope.cancelled_caught


async def live(directory: Path, seed: int) -> tuple[Life, int]:
    """Run a life, and give it with the term in which it ended."""
    ports = free_ports(SIZE)
    await trio.Path(directory).mkdir()
    async with open_relay(ports, seed) as relay:
        each = [{"PEERS": relay.peers_of(i)} for i in range(SIZE)]
        async with Cluster(directory, SIZE, {"SNAPSHOT_ENTRIES": "500"}, each=each, ports=ports) as cluster:
            await cluster.wait_leader()
            life = Life(cluster, relay, seed)
            await life.read_otherwise()
            async with trio.open_nursery() as using:
                for number in range(CLIENTS):
                    using.start_soon(life.use, number)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(life.weather)
                    await life.suffer()
                    nursery.cancel_scope.cancel()
                relay.faults, life.client_faults.loss = Faults(), 0.0
            await cluster.same_state()
            return life, (await cluster.wait_leader()).status.term


# --- the history --------------------------------------------------------------------------------------------


def with_a_stale_read(operations: list[Known]) -> list[Known]:
    """Give the operations of one key, with one read changed to what was there before: no such history may pass."""
    writes = [op for op in operations if isinstance(op.input, Put) and op.returned is not None]
    for read in reversed(operations):
        if not isinstance(read.input, Get) or read.returned is None:
            continue
        same_key = [op for op in writes if op.input.key == read.input.key and (op.returned or 0) < read.called]
        for newer in same_key:
            older = [op for op in same_key if (op.returned or 0) < newer.called]
            if older and isinstance(older[0].input, Put) and older[0].output is not None:
                stale = Found(older[0].input.value, older[0].output.revision)
                changed = replace(read, output=stale)
                return [changed if op is read else op for op in operations if op.input.key == read.input.key]
    raise AssertionError("no read has come after two writes of its key")


def judge(life: Life, term: int) -> str:
    """Check the history, and that it is worth something; sum it up."""
    operations = life.history.operations()
    known = [op for op in operations if op.returned is not None]
    assert len(operations) == len(known), "every command is answered at last"
    result = assert_linearizable(KeyValueModel(), life.history, time_limit=120)
    assert check(KeyValueModel(), with_a_stale_read(operations)).verdict is Verdict.VIOLATED
    saw = Counter(_outcome(op) for op in known)
    # Enough to prove something; how much there is hangs on how busy the machine is.
    assert len(known) > 10 * SECONDS
    for outcome, least in (("found", 5), ("deleted", 1), ("swapped", 1), ("not swapped", 1), ("written", 5)):
        assert saw[outcome] > least * SECONDS / 10, saw
    assert life.done["reads by followers"] > SECONDS / 2, life.done
    assert life.relay.lost > SECONDS
    assert life.relay.overtaken > SECONDS / 5
    assert life.lost_by_clients > SECONDS / 5
    assert term > 1, "the leader has changed"
    facts: dict[str, Any] = {**saw, **life.done}
    return (
        f"{len(known)} operations in {result.partitions} partitions are linearizable ({result.seconds:.1f} s of"
        f" search); {term} terms, {life.relay.lost} datagrams lost and {life.relay.overtaken} overtaken between"
        f" nodes, {life.lost_by_clients} lost by clients; {facts}"
    )


def _outcome(operation: Known) -> str:
    match operation.output:
        case Found(value):
            return "not found" if value is None else "found"
        case Deleted(existed):
            return "deleted" if existed else "nothing deleted"
        case Swapped(succeeded):
            return "swapped" if succeeded else "not swapped"
    return "written"


@pytest.mark.timeout(60 + LIVES * (2 * SECONDS + 300))
async def test_what_clients_see_is_linearizable(tmp_path: Path) -> None:
    for seed in range(SEED, SEED + LIVES):
        try:
            life, term = await live(tmp_path / str(seed), seed)
            print(f"seed {seed}: {judge(life, term)}")
        except BaseException:
            print(f"TRIORAFT_LIFE_SEED={seed}")
            raise
