"""Keys that two processes agree upon by X25519 values: what they protect, and that nothing is lost at a change."""

import random

import msgspec
import pytest
from cryptography.exceptions import InvalidTag

from tests.unit.endpoint_network import HEARTBEAT, KEY, ONE, TWO, A, B, C, Flight, Network
from trioraft.datagrams import headers, wire
from trioraft.datagrams.endpoint import Domain, Endpoint, Received
from trioraft.datagrams.ephemerals import EPHEMERAL_SECONDS, KEPT_SECONDS, Ephemerals
from trioraft.datagrams.headers import Sealed
from trioraft.datagrams.keys import KeyRing
from trioraft.datagrams.sealing import DomainKey
from trioraft.messages import AppendEntriesResponse, Hello
from trioraft.versions import Versions

ANSWER = AppendEntriesResponse(7, 42, 3.0, 12, False)
OF_THE_RELEASE_BEFORE = Versions(1, 3)
P = 2**255 - 19


def connected() -> tuple[Network, Endpoint, Endpoint]:
    network = Network()
    a, b = network.add(A, ONE), network.add(B, TWO)
    network.shake_hands(A, B)
    return network, a, b


def say(network: Network, *, sequence: int = 42) -> list[object]:
    """Send a message each way, and return what was received."""
    for source, receiver in ((A, TWO), (B, ONE)):
        peer = network.at[source].peer(receiver)
        assert peer is not None
        network.at[source].send(peer, msgspec.structs.replace(HEARTBEAT, sequence=sequence), network.now)
    return [event.message for event in network.run() if isinstance(event, Received)]


def parsed(flight: Flight) -> Sealed:
    found = headers.parse_datagram_untrusted(flight.data)
    assert isinstance(found, Sealed)
    return found


def consensus_key() -> DomainKey:
    return KeyRing.parse(KEY).first(Domain.CONSENSUS)


def opens(datagram: Sealed, key: DomainKey, processes: list[bytes]) -> bool:
    """Check whether the key and a recording of everything, without any secret value, open a datagram."""
    ciphers = [key.session_cipher(datagram.process, process) for process in processes]
    ciphers.append(key.hello_cipher(datagram.process))
    for cipher in ciphers:
        try:
            cipher.decrypt(datagram.nonce, datagram.ciphertext, datagram.header)
        except InvalidTag:
            continue
        return True
    return False


def secrets_of(endpoint: Endpoint) -> tuple[bytes, ...]:
    assert endpoint._sender.ephemerals is not None
    return endpoint._sender.ephemerals.all


# --- what it protects ---------------------------------------------------------------------------------------


def test_a_recording_and_the_key_open_only_what_says_hello() -> None:
    network, a, b = connected()
    for _ in range(3):
        assert len(say(network)) == 2
        network.now += 20
        a.greet(B, Domain.CONSENSUS, network.now)
        network.run()
    datagrams = [parsed(flight) for flight in network.flown]
    assert len([d for d in datagrams if d.is_hello]) == 12
    assert len([d for d in datagrams if not d.is_hello]) == 6
    for datagram in datagrams:
        assert opens(datagram, consensus_key(), [a.process, b.process]) is datagram.is_hello


def test_clients_agree_with_nodes_too() -> None:
    network = Network()
    a, client = network.add(A, ONE), network.add(C, 0)
    for domain in (Domain.CLIENT, Domain.STATUS):
        to_node, to_client = network.shake_hands(C, A, domain)
        client.send(to_node, HEARTBEAT, network.now)
        a.send(to_client, HEARTBEAT, network.now)
        assert {parsed(flight).is_named for flight in network.collect()} == {True}


@pytest.mark.parametrize("older", [A, B])
def test_nothing_changes_with_nodes_of_the_release_before(older: object) -> None:
    network = Network()
    for address, node_id in ((A, ONE), (B, TWO)):
        endpoint = network.add(address, node_id)
        if address == older:
            endpoint._sender.ephemerals = None
            endpoint.versions = OF_THE_RELEASE_BEFORE
    for greets, greeted in ((A, B), (B, A), (A, B)):
        network.shake_hands(greets, greeted)
        network.now += 20
        assert len(say(network)) == 2
    for flight in network.flown:
        datagram = parsed(flight)
        assert not datagram.is_named
        assert not datagram.is_salted
        assert datagram.nonce[:4] == bytes(4)


@pytest.mark.parametrize("point", [0, 1, P - 1, P, P + 1, 2**255 - 1 + 0, 2**255])
def test_a_value_of_low_order_is_malformed(point: int) -> None:
    """Its sender could make everybody know the shared secret."""
    low = point.to_bytes(32, "little")
    is_low = point % 2**255 in {0, 1, P - 1, P, P + 1}
    network = Network()
    a, b = network.add(A, ONE), network.add(B, TWO)
    assert b._sender.ephemerals is not None
    b._sender.ephemerals.public = low
    b._sender.ephemerals._secrets = {low: next(iter(b._sender.ephemerals._secrets.values()))}
    b.greet(A, Domain.CONSENSUS, network.now)
    network.run()
    assert (a.peers == []) is is_low
    assert a.counters["dropped_malformed"] == is_low


def test_a_value_of_another_size_is_malformed() -> None:
    network = Network()
    a, b = network.add(A, ONE), network.add(B, TWO)
    assert b._sender.ephemerals is not None
    b._sender.ephemerals.public = b"short"
    b._sender.ephemerals._secrets = {b"short": next(iter(b._sender.ephemerals._secrets.values()))}
    b.greet(A, Domain.CONSENSUS, network.now)
    network.run()
    assert (a.peers, a.counters["dropped_malformed"]) == ([], 1)


# --- no way back --------------------------------------------------------------------------------------------


def test_a_process_that_has_agreed_accepts_nothing_under_the_domain_key_alone() -> None:
    network, a, b = connected()
    key = consensus_key()
    content = wire.envelope_start(0, ONE, TWO) + wire.encode_message(HEARTBEAT)
    count = (10**6).to_bytes(8)
    header = headers.sealed_header(
        headers.sealed_start(key.fingerprint, a.process, is_hello=False), count, len(content)
    )
    forged = header + key.session_cipher(a.process, b.process).encrypt(bytes(4) + count, content, header)
    assert network.deliver(Flight(forged, A, B)) is None
    assert b.counters["dropped_unopened"] == 1
    assert len(say(network)) == 2


def test_a_later_hello_without_a_value_revokes_nothing() -> None:
    network, a, _ = connected()
    ephemerals, a._sender.ephemerals = a._sender.ephemerals, None
    a.greet(B, Domain.CONSENSUS, network.now)
    network.run()
    a._sender.ephemerals = ephemerals
    assert len(say(network)) == 2
    assert all(parsed(flight).is_named for flight in network.flown[-2:])


def test_an_old_hello_does_not_bring_back_an_old_value() -> None:
    network, a, b = connected()
    old = secrets_of(a)[-1]
    for _ in range(int(EPHEMERAL_SECONDS / 20) + 2):
        network.now += 20
        a.greet(B, Domain.CONSENSUS, network.now)
        network.run()
        assert len(say(network)) == 2
    recorded = [flight for flight in network.flown if parsed(flight).is_hello]
    to_a = b.peer(ONE)
    assert to_a is not None
    assert to_a.session is not None
    before = to_a.session.theirs
    assert before[-1] == secrets_of(a)[-1] != old
    for flight in recorded:
        network.deliver(flight)
    network.run()
    assert to_a.session.theirs == before
    assert len(say(network)) == 2


# --- every hour ---------------------------------------------------------------------------------------------


def test_values_change_every_hour_and_nothing_is_lost() -> None:
    """Hellos are lost now and then, messages never: so none may be in vain."""
    network, a, b = connected()
    chance = random.Random(3)
    network.passes = lambda flight: not parsed(flight).is_hello or chance.random() < 0.9
    shown = {secrets_of(a)[-1]}
    sequence = 0
    while network.now < 1000 + 2.5 * EPHEMERAL_SECONDS:
        network.now += 5
        for source, target in ((A, B), (B, A)):
            if chance.random() < 0.7:
                network.at[source].greet(target, Domain.CONSENSUS, network.now)
        sequence += 1
        assert len(say(network, sequence=sequence)) == 2
        shown |= set(secrets_of(a))
    assert len(shown) == 3
    for endpoint in (a, b):
        assert endpoint.counters["dropped_unopened"] == endpoint.counters["dropped_replayed"] == 0
        assert len(secrets_of(endpoint)) == 1
        [session] = endpoint._registry.all()
        assert session.ours == secrets_of(endpoint)[-1]
        assert len(session.ways) == 1


def test_keys_that_were_agreed_by_an_expired_value_are_forgotten() -> None:
    network, a, b = connected()
    say(network)
    recorded = network.flown[-2:]
    peer = b.peer(ONE)
    assert peer is not None
    b.forget(peer)
    former = b._channels
    assert former is not None
    assert former._former
    network.now += EPHEMERAL_SECONDS + 1
    network.shake_hands(A, B)
    assert len(secrets_of(a)) == 2
    network.now += KEPT_SECONDS + 1
    network.shake_hands(A, B)
    say(network)
    network.now += KEPT_SECONDS + 1
    network.shake_hands(A, B)
    assert (len(secrets_of(a)), len(secrets_of(b))) == (1, 1)
    assert not former._former
    channels = {parsed(flight).channel for flight in recorded}
    for endpoint in (a, b):
        assert endpoint._channels is not None
        assert not channels & set(endpoint._channels._openers)
    for flight in recorded:
        assert network.deliver(flight) is None
    assert len(say(network)) == 2


def test_a_process_that_heard_of_no_change_is_greeted_when_its_value_is_forgotten() -> None:
    network, _, b = connected()
    say(network)
    network.now += EPHEMERAL_SECONDS + 1
    b.greet(C, Domain.CONSENSUS, network.now)
    network.now += KEPT_SECONDS + 1
    b.greet(C, Domain.CONSENSUS, network.now)
    assert len(secrets_of(b)) == 1
    assert say(network) == []
    network.now += 0.2
    assert len(say(network)) <= 2
    network.now += 0.2
    assert len(say(network)) == 2


# --- losses -------------------------------------------------------------------------------------------------


def test_when_the_last_hello_is_lost_the_next_message_but_one_arrives() -> None:
    network = Network()
    a, b = network.add(A, ONE), network.add(B, TWO)
    a.greet(B, Domain.CONSENSUS, network.now)
    for _ in range(2):
        for flight in network.collect():
            network.deliver(flight)
    assert len(network.collect()) == 1  # and is lost
    to_b = a.peer(TWO)
    assert to_b is not None
    for number in range(3):
        a.send(to_b, HEARTBEAT, network.now)
        received = [event for event in network.run() if isinstance(event, Received)]
        assert len(received) == (number == 2)
        network.now += 0.11
    assert b.peer(ONE) is not None


def test_a_message_that_overtakes_the_hello_before_it_is_lost_and_no_more() -> None:
    network = Network()
    a, b = network.add(A, ONE), network.add(B, TWO)
    a.greet(B, Domain.CONSENSUS, network.now)
    for _ in range(2):
        for flight in network.collect():
            network.deliver(flight)
    to_b = a.peer(TWO)
    assert to_b is not None
    a.send(to_b, HEARTBEAT, network.now)
    hello, message = network.collect()
    assert network.deliver(message) is None
    assert b.counters["dropped_unopened"] == 1
    network.deliver(hello)
    assert len(say(network)) == 2


# --- nonces -------------------------------------------------------------------------------------------------


def test_a_counter_that_begins_again_repeats_no_nonce() -> None:
    """As after the image of a running process was resumed twice, so that two go on with the same memory."""
    network, a, _ = connected()
    say(network)
    resumed = a._sender._count
    nonces: list[tuple[bytes, bytes]] = []
    for _ in range(3):
        a._sender._count = resumed
        to_b = a.peer(TWO)
        assert to_b is not None
        for _ in range(20):
            a.send(to_b, HEARTBEAT, network.now)
        a.greet(B, Domain.CONSENSUS, network.now)
        nonces += [(parsed(flight).channel, parsed(flight).nonce) for flight in network.collect()]
    assert len(nonces) == len(set(nonces)) == 63


def test_the_random_bytes_of_nonces_are_drawn_anew_for_each_datagram() -> None:
    drawn: list[int] = []

    def entropy(count: int) -> bytes:
        drawn.append(count)
        return bytes([len(drawn) % 256]) * count

    network, a, _ = connected()
    a._sender._entropy = entropy
    to_b = a.peer(TWO)
    assert to_b is not None
    for _ in range(5):
        a.send(to_b, HEARTBEAT, network.now)
    assert drawn == [headers.SALT_BYTES] * 5
    assert [parsed(flight).nonce[:4] for flight in network.collect()] == [bytes([n]) * 4 for n in range(1, 6)]


# --- values -------------------------------------------------------------------------------------------------


def test_values_are_made_and_forgotten_by_the_clock() -> None:
    ephemerals = Ephemerals(random.Random(1).randbytes)
    first = ephemerals.public
    assert ephemerals.look(50.0) == 50.0 + EPHEMERAL_SECONDS
    assert ephemerals.look(49.0 + EPHEMERAL_SECONDS) == 50.0 + EPHEMERAL_SECONDS
    assert ephemerals.look(50.0 + EPHEMERAL_SECONDS) == 50.0 + EPHEMERAL_SECONDS + KEPT_SECONDS
    second = ephemerals.public
    assert list(ephemerals.all) == [first, second]
    assert ephemerals.look(50.0 + EPHEMERAL_SECONDS + KEPT_SECONDS) == 50.0 + 2 * EPHEMERAL_SECONDS
    assert list(ephemerals.all) == [second]
    ephemerals.look(10 * EPHEMERAL_SECONDS)  # it was suspended
    assert ephemerals.all[0] == second
    assert len(ephemerals.all) == 2


def test_a_hello_shows_a_value_only_with_its_service_name_and_sealed() -> None:
    network = Network()
    for address, keys in ((A, None), (B, KEY)):
        network.add(address, ONE, keys)
        network.at[address].greet(C, Domain.CONSENSUS, network.now)
    [plain, sealed] = network.collect()
    unsealed = headers.parse_datagram_untrusted(plain.data)
    assert isinstance(unsealed, headers.Plain)
    shown = wire.decode_envelope_untrusted(unsealed.envelope).message
    assert isinstance(shown, Hello)
    assert shown.ephemeral == b""
    datagram = parsed(sealed)
    content = (
        consensus_key().hello_cipher(datagram.process).decrypt(datagram.nonce, datagram.ciphertext, datagram.header)
    )
    shown = wire.decode_envelope_untrusted(content).message
    assert isinstance(shown, Hello)
    assert len(shown.ephemeral) == 32
