"""Clients that do one thing after the other with a few keys, and write down what came of it."""

import random
from collections import Counter
from dataclasses import dataclass, field

import trio

from tests.cluster.bad_socket import open_bad_client
from tests.cluster.relay import Faults
from tests.linearizability import Cas, CasRevision, Delete, Deleted, Found, Get, History, Put, Swapped, Written
from tests.linearizability.models import KeyValueInput, KeyValueOutput
from trioraft import Client, ClientSettings
from trioraft.client.client import NoAnswerError
from trioraft.kv.codec import decode_result, encode_command
from trioraft.kv.commands import Range
from trioraft.kv.results import RangeResult
from trioraft.messages import Query

History_ = History[KeyValueInput, KeyValueOutput]

# Other keys are used after so many seconds, for what is to be searched grows fast with the operations of one key.
_KEYS_LAST = 5.0
# A node that is cut off does not answer a read; nothing is known then, and nothing has changed.
_READ_SECONDS = 1.5
# So long after the end whatever was called has to be answered.
_PATIENCE = 15.0


async def execute(client: Client, asked: KeyValueInput) -> KeyValueOutput:
    match asked:
        case Get(key):
            kv = await client.get(key)
            return Found(kv.value.decode(), kv.mod_revision) if kv else Found(None)
        case Put(key, value):
            return Written((await client.put(key, value)).revision)
        case Delete(key):
            result = await client.delete(key)
            return Deleted(True, result.revision) if result.deleted else Deleted(False)
        case Cas(key, expected, value):
            revision = await client.cas(key, expected, value)
        case CasRevision(key, at, value):
            revision = await client.cas_revision(key, at, value)
    return Swapped(bool(revision), revision or None)


def choose(source: random.Random, key: str, value: str, seen: Found) -> KeyValueInput:
    """Choose what to do with a key; `seen` is what was read last, of any."""
    match source.randrange(10):
        case 0:
            return Delete(key)
        case 1:
            return Cas(key, seen.value, value)
        case 2:
            return CasRevision(key, seen.revision or 0, value)
        case 3 | 4:
            return Put(key, value)
    return Get(key)


@dataclass
class RecordedClients:
    """Clients of one cluster, and what they saw.

    Attributes
    ----------
    settings : ClientSettings
        Where the cluster is.
    history : History
        Gets all that is called.
    until : float
        When they stop, on trio's clock.
    faults : Faults
        What happens to their datagrams; may be changed at any time.
    anywhere : float
        How probable it is that a read asks any node instead of the leader.
    keys : int
        How many keys are used at a time.
    done : Counter of str
        How reads went.
    lost : int
        Datagrams that were lost, of the clients that have ended.
    """

    settings: ClientSettings
    history: History_
    until: float
    faults: Faults = field(default_factory=Faults)
    anywhere: float = 0.6
    keys: int = 3
    done: Counter[str] = field(default_factory=Counter)
    lost: int = 0

    async def run(self, number: int, seed: float) -> None:
        """Be one client: call one operation after another; what is not answered at the end is unknown."""
        source = random.Random(seed)
        seen = Found(None)
        async with open_bad_client(self.settings, self.faults, source) as (client, socket):
            for count in range(10**6):
                if trio.current_time() > self.until:
                    break
                key = f"key-{trio.current_time() // _KEYS_LAST:.0f}-{source.randrange(self.keys)}"
                asked = choose(source, key, f"{number}/{count}", seen)
                token = self.history.invoke(number, asked)
                with trio.move_on_at(self.until + _PATIENCE):
                    answered = await self._execute(client, source, asked)
                    if answered is None:
                        self.history.fail(token)
                    else:
                        self.history.ok(token, answered)
                        seen = answered if isinstance(answered, Found) else seen
                    await trio.sleep(source.uniform(0, 0.02))
                    continue
                self.history.unknown(token)
            self.lost += socket.lost

    async def _execute(self, client: Client, source: random.Random, asked: KeyValueInput) -> KeyValueOutput | None:
        return await self._read(client, source, asked) if isinstance(asked, Get) else await execute(client, asked)

    async def _read(self, client: Client, source: random.Random, asked: Get) -> KeyValueOutput | None:
        """Read at whoever the client believes to lead, or at any node; None where there was no answer."""
        nodes = [node.status for node in client.nodes.values()]
        if not nodes or source.random() >= self.anywhere:
            self.done["reads by the leader"] += 1
            return await execute(client, asked)
        node = source.choice(nodes)
        try:
            answer = await client.command(node.id, Query(encode_command(Range(asked.key.encode()))), _READ_SECONDS)
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
