"""Hunts on the real endpoints: their datagrams are lost, repeated, late, and sent again by somebody else."""

import random
from typing import Final

import msgspec

from tests.fuzzing import targets
from tests.simulation.mutants.found import Found
from tests.unit.endpoint_network import HEARTBEAT, ONE, TWO, A, B, C, Flight, Network
from trioraft.datagrams import headers, wire
from trioraft.datagrams.endpoint import Received
from trioraft.messages import LARGEST_ID, AppendEntriesRequest, Hello

_STEPS: Final = 200
_HOME: Final = {ONE: A, TWO: B}


def replays(seed: int, _mutant: str) -> Found | None:
    """Let two nodes talk while a stranger repeats what they say: nothing counts twice, or from elsewhere."""
    chance = random.Random(seed)
    network = Network(entropy=random.Random(seed))
    network.add(A, ONE)
    network.add(B, TWO)
    network.shake_hands(A, B)
    seen: set[tuple[int, int]] = set()
    for step in range(_STEPS):
        network.now += chance.choice((0.001, 0.1, 1.0))
        told = _step(network, step, chance, seen)
        if told:
            return Found(seed, f"step {step}: {told}")
    return None


def _step(network: Network, step: int, chance: random.Random, seen: set[tuple[int, int]]) -> str:
    """Say something, deliver something of all that ever flew, or let a session end and begin again."""
    source, target = chance.choice(((A, B), (B, A)))
    sender, receiver = network.at[source], (ONE if target == A else TWO)
    dice = chance.random()
    if dice < 0.4:
        peer = sender.peer(receiver)
        if peer is not None:
            sender.send(peer, msgspec.structs.replace(HEARTBEAT, sequence=step + 1), network.now)
        network.collect()
    elif dice < 0.95 and network.flown:
        flight = chance.choice(network.flown[-30:])
        stranger = chance.random() < 0.2
        return _deliver(network, Flight(flight.data, C, flight.target) if stranger else flight, seen)
    elif dice > 0.97:
        peer = sender.peer(receiver)
        if peer is not None:
            sender.forget(peer)
        network.shake_hands(source, target)
    return ""


def _deliver(network: Network, flight: Flight, seen: set[tuple[int, int]]) -> str:
    event = network.deliver(flight)
    network.collect()
    if not isinstance(event, Received) or not isinstance(event.message, AppendEntriesRequest):
        return ""
    heard = event.peer.node_id, event.message.sequence
    if heard in seen:
        return f"message {heard[1]} counts twice"
    if flight.source != _HOME[event.peer.node_id]:
        return f"message {heard[1]} counts although it comes from {flight.source}"
    seen.add(heard)
    return ""


def strangers(seed: int, _mutant: str) -> Found | None:
    """Let a stranger say small things to a node: it is never answered with more than it said."""
    chance = random.Random(seed)
    datagrams = [_hello(chance) for _ in range(chance.randint(1, 5))]
    try:
        targets.endpoint(b"".join(len(data).to_bytes(2, "big") + data for data in datagrams))
    except targets.BrokenPromiseError as broken:
        return Found(seed, str(broken))
    return None


def _hello(chance: random.Random) -> bytes:
    hello = Hello("web", "s", chance.randbytes(chance.choice((0, 16))), chance.randbytes(8), bytes(8), b"")
    head = headers.plain_hello_start(chance.choice(headers.PLAIN_DOMAINS), chance.randbytes(16))
    return head + wire.envelope_start(3, chance.choice((0, 5)), LARGEST_ID) + wire.encode_message(hello)
