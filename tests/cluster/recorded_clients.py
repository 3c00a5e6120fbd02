"""Clients that do one thing after the other with a few keys, and write down what came of it."""

import random

import trio

from tests.linearizability import Cas, CasRevision, Delete, Deleted, Found, Get, History, Put, Swapped, Written
from tests.linearizability.models import KeyValueInput, KeyValueOutput
from trioraft import Client, ClientSettings, open_client

History_ = History[KeyValueInput, KeyValueOutput]


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


async def work(settings: ClientSettings, history: History_, name: str, seed: int, until: float) -> None:
    """Call one operation after another; what is not answered at the end has an unknown outcome."""
    source = random.Random(seed)
    seen = Found(None)
    async with open_client(settings) as client:
        for number in range(seed * 1_000_000, (seed + 1) * 1_000_000):
            if trio.current_time() > until:
                return
            asked = choose(source, f"key-{source.randrange(3)}", str(number), seen)
            token = history.invoke(name, asked)
            with trio.move_on_at(until + 10):
                answered = await execute(client, asked)
                history.ok(token, answered)
                if isinstance(answered, Found):
                    seen = answered
                await trio.sleep(source.uniform(0, 0.02))
                continue
            history.unknown(token)
