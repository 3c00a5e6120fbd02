"""What an endpoint must never do, whatever is sent to it."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.endpoint_network import CLUSTER, HEARTBEAT, KEY, ONE, TWO, A, B, C, Flight, Network, both_modes
from trioraft.address import Address
from trioraft.datagrams import headers, wire
from trioraft.datagrams.endpoint import Domain, Endpoint, PeerConfirmed, Received
from trioraft.datagrams.keys import KeyRing, derive_key
from trioraft.datagrams.replay import ReplayWindow
from trioraft.datagrams.sender import ADDRESSES_MAX, GREETED_MAX
from trioraft.datagrams.sessions import PATHS_MAX, Path
from trioraft.messages import AppendEntriesRequest, Hello, Message, StatusRequest


def connected(keys: str | None) -> tuple[Network, Endpoint, Endpoint]:
    network = Network()
    a, b = network.add(A, ONE, keys), network.add(B, TWO, keys)
    network.shake_hands(A, B)
    return network, a, b


def state(endpoint: Endpoint) -> object:
    """Everything an endpoint remembers of others, but the counters and what it has queued."""
    return [
        (p.node_id, p.process, p.name, p.address, p.addresses, p.cluster_id, p.confirmed_at, p.heard_at)
        for p in endpoint.peers
    ]


def heartbeat(sequence: int) -> AppendEntriesRequest:
    return msgspec.structs.replace(HEARTBEAT, sequence=sequence)


# --- replay and order ---------------------------------------------------------------------------------------


def test_a_replayed_message_is_dropped_and_a_reordered_one_is_not() -> None:
    network, a, b = connected(KEY)
    to_b = a.peer(TWO)
    assert to_b is not None
    for sequence in range(100):
        a.send(to_b, heartbeat(sequence), network.now)
    flights = network.collect()
    network.entropy.shuffle(flights)
    for flight in flights:
        assert isinstance(network.deliver(flight), Received)
    for flight in flights:
        assert network.deliver(flight) is None
    assert b.counters["dropped_replayed"] == 100


def test_a_copy_from_elsewhere_does_not_take_the_place_of_the_original() -> None:
    network, a, b = connected(KEY)
    to_b = a.peer(TWO)
    assert to_b is not None
    for sequence in range(5):
        a.send(to_b, heartbeat(sequence), network.now)
    flights = network.collect()
    for flight in flights:
        assert network.deliver(Flight(flight.data, C, B)) is None
        assert isinstance(network.deliver(flight), Received)
    assert len(b.datagrams_to_send()) == 1, "the stranger is asked once who it is"
    for flight in flights:  # now they are old
        assert network.deliver(Flight(flight.data, C, B)) is None
    assert b.counters["dropped_replayed"] == 5
    assert b.datagrams_to_send() == []


def test_a_copy_of_a_handshake_from_elsewhere_does_not_stop_the_original() -> None:
    network = Network()
    a, b = network.add(A, ONE), network.add(B, TWO)
    for round_ in range(2):
        network.now += 20 * round_
        a.greet(B, Domain.CONSENSUS, network.now)
        for _ in range(3):
            for flight in network.collect():
                if flight.target in network.at:
                    network.deliver(Flight(flight.data, C, flight.target))
                    network.deliver(flight)
        for end, other in ((a, TWO), (b, ONE)):
            peer = end.peer(other)
            assert peer is not None
            assert peer.confirmed_at == network.now


def test_a_datagram_that_is_older_than_the_window_is_dropped() -> None:
    network, a, b = connected(KEY)
    to_b = a.peer(TWO)
    assert to_b is not None
    for sequence in range(ReplayWindow.WIDTH + 1):
        a.send(to_b, heartbeat(sequence), network.now)
    first, second, *_, last = network.collect()
    assert isinstance(network.deliver(last), Received)
    assert network.deliver(first) is None
    assert isinstance(network.deliver(second), Received)
    assert b.counters["dropped_replayed"] == 1


@both_modes
def test_a_replayed_handshake_changes_nothing(keys: str | None) -> None:
    network, a, b = connected(keys)
    hellos = list(network.flown)
    network.now += 60  # its challenges are stale by now
    before = state(a), state(b)
    for source in (A, B, C):
        for flight in hellos:
            for target in (A, B):
                network.deliver(Flight(flight.data, source, target))
    for endpoint in (a, b):
        endpoint.datagrams_to_send()
    assert (state(a), state(b)) == before


def test_a_sealed_handshake_replayed_at_once_changes_nothing() -> None:
    network, a, b = connected(KEY)
    hellos = list(network.flown)
    network.now += 5
    before = state(a), state(b)
    for flight in hellos:
        assert network.deliver(flight) is None
    assert (state(a), state(b)) == before
    assert a.counters["dropped_replayed"] + b.counters["dropped_replayed"] == 2  # the two that had an echo


def test_a_greeting_replayed_from_elsewhere_leads_nobody_there() -> None:
    """A stranger sends what it has recorded from its own address, and passes on what comes back."""
    network, a, b = connected(KEY)
    network.now += 5
    a.greet(B, Domain.CONSENSUS, network.now)
    network.run()
    to_b = a.peer(TWO)
    assert to_b is not None
    a.send(to_b, HEARTBEAT, network.now)
    network.run()
    recorded = [flight for flight in network.flown if flight.source == A]
    for flight in recorded:
        network.deliver(Flight(flight.data, C, B))
        for _ in range(5):  # what is sent to the stranger goes on, as if it came from there
            for answer in network.collect():
                network.deliver(Flight(answer.data, C, A if answer.source == B else B))
    to_a = b.peer(ONE)
    assert to_a is not None
    assert (to_b.addresses, to_a.addresses) == ((B,), (A,))
    b.send(to_a, HEARTBEAT, network.now)
    assert [flight.target for flight in network.collect()] == [A]


@both_modes
def test_faster_strangers_between_two_nodes_do_not_become_their_way(keys: str | None) -> None:
    """They copy a greeting before it arrives, and pass on what comes back: so they are confirmed, but no more."""
    network, a, b = connected(keys)
    a.is_listed = b.is_listed = {A, B}.__contains__
    strangers = [Address(f"198.51.100.{number}", 4000) for number in range(1, 2 * PATHS_MAX)]
    for stranger in strangers:
        network.now += 1
        a.greet(B, Domain.CONSENSUS, network.now)
        for _ in range(6):
            for flight in network.collect():
                if flight.source == A and flight.target == B:
                    network.deliver(Flight(flight.data, stranger, B))
                between = flight.target == stranger
                network.deliver(Flight(flight.data, stranger, A if flight.source == B else B) if between else flight)
        network.run()
    for end, other, address in ((a, TWO, B), (b, ONE, A)):
        peer = end.peer(other)
        assert peer is not None
        assert peer.address == address
        assert address in peer.addresses
        assert len(peer.addresses) <= PATHS_MAX
        end.send(peer, HEARTBEAT, network.now)
        assert [flight.target for flight in network.collect()] == [address]


def test_the_address_where_a_peer_is_reached_outlives_all_others() -> None:
    network, a, _ = connected(None)
    peer = a.peer(TWO)
    assert peer is not None
    assert peer.session is not None
    for number in range(1, 2 * PATHS_MAX):
        path = Path(network.now + number)
        peer.session.confirm_path(Address(f"198.51.100.{number}", 4000), path, moves=False)
    assert len(peer.addresses) == PATHS_MAX
    assert peer.address in peer.addresses
    assert peer.address == B


def test_a_message_is_not_replayed_into_a_session_that_was_made_again() -> None:
    network, a, b = connected(KEY)
    to_b, to_a = a.peer(TWO), b.peer(ONE)
    assert to_b is not None
    assert to_a is not None
    a.send(to_b, HEARTBEAT, network.now)
    [message] = network.collect()
    assert isinstance(network.deliver(message), Received)
    b.forget(to_a)
    network.shake_hands(A, B)
    assert network.deliver(message) is None
    a.send(to_b, HEARTBEAT, network.now)
    [event] = network.run()
    assert isinstance(event, Received)


def test_no_nonce_is_used_twice_even_for_a_session_made_again() -> None:
    network, a, b = connected(KEY)
    for _ in range(5):
        for peer in a.peers:
            a.send(peer, HEARTBEAT, network.now)
            a.forget(peer)
        for peer in b.peers:
            b.forget(peer)
        network.run()
        network.shake_hands(A, B)
        network.shake_hands(B, A)
    used = set()
    for flight in network.flown:
        parsed = headers.parse_datagram_untrusted(flight.data)
        assert isinstance(parsed, headers.Sealed)
        assert (parsed.channel, parsed.counter) not in used
        used.add((parsed.channel, parsed.counter))


def test_a_message_under_another_header_does_not_open() -> None:
    network, a, _ = connected(KEY)
    to_b = a.peer(TWO)
    assert to_b is not None
    a.send(to_b, HEARTBEAT, network.now)
    [flight] = network.collect()
    for at in range(len(flight.data)):
        changed = bytearray(flight.data)
        changed[at] ^= 1
        assert not isinstance(network.deliver(Flight(bytes(changed), A, B)), Received)
    assert isinstance(network.deliver(flight), Received)


def test_a_message_for_one_node_is_not_accepted_by_another() -> None:
    network, a, _ = connected(KEY)
    third = network.add(C, 0x4444444444444444)
    network.shake_hands(A, C)
    to_b = a.peer(TWO)
    assert to_b is not None
    a.send(to_b, HEARTBEAT, network.now)
    [flight] = network.collect()
    assert network.deliver(Flight(flight.data, A, C)) is None
    assert third.counters["dropped_unopened"] == 1


@both_modes
def test_a_peer_speaks_for_no_other_node(keys: str | None) -> None:
    network, a, b = connected(keys)
    to_b = a.peer(TWO)
    assert to_b is not None
    assert to_b.session is not None
    to_b.session.envelope_cluster = a.cluster_id
    for sender, receiver in ((0x4444444444444444, TWO), (ONE, 0x4444444444444444), (ONE, 0), (0, TWO)):
        to_b.session.envelope = wire.envelope_start(a.cluster_id, sender, receiver)
        a.send(to_b, HEARTBEAT, network.now)
    assert network.run() == []
    assert b.counters["dropped_misaddressed"] == 4
    to_b.session.envelope = wire.envelope_start(a.cluster_id, ONE, TWO)
    a.send(to_b, HEARTBEAT, network.now)
    assert len(network.run()) == 1


# --- unsealed, but not from everywhere ----------------------------------------------------------------------


def test_an_unsealed_message_needs_the_token_of_its_address() -> None:
    """Who cannot receive at an address cannot speak for it, even without any key."""
    network, a, b = connected(None)
    before = state(b)
    start = wire.envelope_start(CLUSTER, ONE, TWO)
    for token in (bytes(8), b"\xff" * 8):
        forged = (
            headers.plain_message_start(Domain.CONSENSUS, a.process, token) + start + wire.encode_message(HEARTBEAT)
        )
        assert network.deliver(Flight(forged, A, B)) is None
    b.datagrams_to_send()
    assert state(b) == before
    assert b.counters["dropped_unconfirmed"] == 2


def test_nothing_is_decoded_for_a_sender_that_has_shown_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large envelopes cost much: first the token, the address and the size are looked at."""
    big = b"\x82" + b"\x82\x01\x02" * 16_000 + b"\x00"
    hello = headers.plain_hello_start(Domain.CONSENSUS, b"p" * 16)
    network, a, b = connected(None)
    process = a.process
    datagrams = [
        (A, headers.plain_message_start(Domain.CONSENSUS, process, b"x" * 8) + big),
        (C, headers.plain_message_start(Domain.CONSENSUS, process, b"x" * 8) + big),
        (C, headers.plain_message_start(Domain.FIRST_CLIENT, b"p" * 16, b"x" * 8) + big),
        (C, hello + big),
        (C, hello + bytes(headers.SMALL_MAX + 1 - len(hello))),
    ]
    sealed, one, two = connected(KEY)
    to_two = one.peer(TWO)
    assert to_two is not None
    one.send(to_two, wire.EncodedMessage(big), sealed.now)
    copies = [flight.data for flight in sealed.collect()]
    thief = KeyRing.parse(derive_key(KEY, "status")).first(Domain.STATUS)
    start = headers.sealed_start(thief.fingerprint, b"p" * 16, is_hello=True)
    header = headers.sealed_header(start, bytes(8), len(big))
    copies.append(header + thief.hello_cipher(b"p" * 16).encrypt(bytes(12), big, header))
    monkeypatch.setattr(wire, "_decode_untrusted", pytest.fail)
    for source, data in datagrams:
        assert b.receive_datagram_untrusted(data, source, network.now) is None
    assert (b.counters["dropped_unconfirmed"], b.counters["dropped_malformed"]) == (3, 2)
    for data in copies:
        assert two.receive_datagram_untrusted(data, C, sealed.now) is None
    assert (two.counters["dropped_unconfirmed"], two.counters["dropped_malformed"]) == (len(copies) - 1, 1)


@both_modes
def test_a_monitor_cannot_make_a_node_read_much(keys: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network()
    node, monitor = network.add(A, ONE, keys), network.add(C, 0, keys)
    to_node, _ = network.shake_hands(C, A, Domain.STATUS)
    monitor.use_path_bytes(lambda _: 60_000)
    monkeypatch.setattr(wire, "_decode_untrusted", pytest.fail)
    monitor.send(to_node, wire.EncodedMessage(b"\x82" + b"\x82\x01\x02" * 16_000 + b"\x00"), network.now)
    assert network.run() == []
    assert node.counters["dropped_malformed"] == 1


@both_modes
def test_the_longest_names_of_all_fit_into_a_hello(keys: str | None) -> None:
    network = Network()
    for address, node_id in ((A, ONE), (B, TWO)):
        network.add(address, node_id, keys, service="\U0001f6a2" * 255, name="\U0001f6a2" * 255)
    to_b, _ = network.shake_hands(A, B)
    assert 100 < len(to_b.name) < 255
    assert max(len(flight.data) for flight in network.flown) <= headers.SMALL_MAX


def test_an_unsealed_client_is_no_node() -> None:
    network, a, _ = connected(None)
    start = wire.envelope_start(CLUSTER, 0, ONE)
    for domain, sender in ((Domain.CONSENSUS, 0), (Domain.FIRST_CLIENT, TWO)):
        start = wire.envelope_start(CLUSTER, sender, ONE)
        hello = Hello("web", "x", b"c" * 8, b"", b"t" * 8, bytes(500))
        forged = headers.plain_hello_start(domain, b"p" * 16) + start + wire.encode_message(hello)
        assert network.deliver(Flight(forged, C, A)) is None
    assert a.datagrams_to_send() == []
    assert a.counters["dropped_misaddressed"] == 2


# --- amplification ------------------------------------------------------------------------------------------

hellos = st.builds(
    Hello,
    st.sampled_from(["", "web", "shop", "w" * 255]),
    st.text(max_size=20),
    st.binary(max_size=32),
    st.binary(max_size=32),
    st.binary(min_size=8, max_size=8),
    st.binary(max_size=600),
)
others: st.SearchStrategy[Message] = st.sampled_from([HEARTBEAT, StatusRequest(60.0)])


@st.composite
def unsealed_datagrams(draw: st.DrawFn) -> bytes:
    message: Message = draw(hellos | others)
    domain, process = draw(st.sampled_from(headers.PLAIN_DOMAINS)), draw(st.sampled_from([b"p" * 16, b"q" * 16]))
    start = wire.envelope_start(draw(st.sampled_from([0, CLUSTER])), draw(st.sampled_from([0, TWO])), ONE)
    if isinstance(message, Hello):
        head = headers.plain_hello_start(domain, process)
    else:
        head = headers.plain_message_start(domain, process, bytes(8))
    return head + start + wire.encode_message(message)


@given(st.lists(st.one_of(unsealed_datagrams(), st.binary(max_size=100)), max_size=8), st.text(max_size=300))
def test_unsealed_senders_without_a_confirmed_address_get_no_more_than_they_sent(
    datagrams: list[bytes], name: str
) -> None:
    network = Network()
    a = network.add(A, ONE, None, name=name)
    for data in datagrams:
        assert a.receive_datagram_untrusted(data, C, network.now) is None
        assert sum(len(answer) for answer, _ in a.datagrams_to_send()) <= len(data)
    assert a.peers == []


@both_modes
def test_nobody_gets_more_than_it_sent_before_its_address_is_confirmed(keys: str | None) -> None:
    """The same for a whole, honest handshake with a peer that has never been heard of, whatever its size."""
    for name in ("", "n" * 255, "\N{SNOWMAN}" * 255):
        network = Network()
        network.add(A, ONE, keys, name=name)
        b = network.add(B, TWO, keys, name=name)
        got = gave = 0
        network.at[B].greet(A, Domain.CONSENSUS, network.now)
        while not any(endpoint is network.at[A] for endpoint, _ in network.events):
            flights = network.collect()
            assert flights
            for flight in flights:
                got += len(flight.data) if flight.source == A else 0
                gave += len(flight.data) if flight.source == B else 0
                network.deliver(flight)
            assert got <= gave
        network.run()
        assert b.peer(ONE) is not None


@both_modes
def test_an_answer_to_an_unconfirmed_challenge_is_kept_nowhere(keys: str | None) -> None:
    network = Network()
    a, b = network.add(A, ONE, keys), network.add(B, TWO, keys)
    for number in range(5000):
        b.greet(A, Domain.CONSENSUS, network.now)
        [(data, _)] = b.datagrams_to_send()
        a.receive_datagram_untrusted(data, Address("198.51.100.1", 1 + number), network.now)
        assert len(a.datagrams_to_send()) == 1
    assert a.peers == []
    assert not a._sender._confirmed
    assert a._channels is None or not a._channels._openers


# --- memory -------------------------------------------------------------------------------------------------


def test_the_memory_of_greetings_and_addresses_is_bounded() -> None:
    network = Network()
    a = network.add(A, ONE, None)
    for number in range(ADDRESSES_MAX + 50):
        address = Address(f"198.51.{number // 200}.{number % 200 + 1}", 4000)
        network.add(address, 0, None)
        network.shake_hands(address, A, Domain.STATUS)
        del network.at[address]
        a.greet(address, Domain.CONSENSUS, network.now)
        network.run()
    assert len(a._sender._confirmed) == ADDRESSES_MAX
    assert len(a._sender._greeted) == GREETED_MAX


def test_forgotten_sessions_leave_nothing_behind() -> None:
    network, a, b = connected(KEY)
    for peer in b.peers:
        b.send(peer, HEARTBEAT, network.now)
    network.run()
    channels = a._channels
    assert channels is not None
    assert len(channels._openers) == 1
    for peer in a.peers:
        a.forget(peer)
    assert not channels._openers
    assert a._registry.find(Domain.CONSENSUS, b.process) is None


# --- anything at all ----------------------------------------------------------------------------------------


@both_modes
@settings(max_examples=300)
@given(data=st.data())
def test_nothing_that_is_not_a_valid_datagram_changes_anything(keys: str | None, data: st.DataObject) -> None:
    network, a, b = connected(keys)
    to_a = b.peer(ONE)
    assert to_a is not None
    b.send(to_a, HEARTBEAT, network.now)
    b.greet(A, Domain.CONSENSUS, network.now)
    genuine = [flight.data for flight in [*network.flown, *network.collect()] if flight.target == A]
    chosen = bytearray(data.draw(st.sampled_from(genuine)))
    match data.draw(st.sampled_from(["bytes", "flip", "truncate", "append"])):
        case "bytes":
            chosen[:] = data.draw(st.binary(max_size=200))
        case "flip":
            at = data.draw(st.integers(0, len(chosen) - 1))
            # In an unsealed datagram every byte of the content may be changed; the header is what counts there.
            chosen[at if keys else at % 3] ^= data.draw(st.integers(1, 255))
        case "truncate":
            del chosen[data.draw(st.integers(0, len(chosen) - 1)) :]
        case _:
            chosen += data.draw(st.binary(min_size=1, max_size=20))
    source = data.draw(st.sampled_from([A, B, C]))
    before = state(a)
    event = a.receive_datagram_untrusted(bytes(chosen), source, network.now)
    assert not isinstance(event, Received | PeerConfirmed)
    assert state(a) == before


@both_modes
@settings(max_examples=300)
@given(mutations=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=6), pick=st.integers(0, 3))
def test_no_mutation_of_a_datagram_raises(keys: str | None, mutations: list[tuple[int, int]], pick: int) -> None:
    network, a, b = connected(keys)
    to_a = b.peer(ONE)
    assert to_a is not None
    b.send(to_a, HEARTBEAT, network.now)
    b.greet(A, Domain.CONSENSUS, network.now)
    genuine = [flight.data for flight in [*network.flown, *network.collect()] if flight.target == A]
    mutated = bytearray(genuine[pick % len(genuine)])
    for at, value in mutations:
        mutated[at % len(mutated)] = value
    for source in (A, B, C):
        a.receive_datagram_untrusted(bytes(mutated), source, network.now)
    a.datagrams_to_send()
    # It goes on working, whatever an unsealed datagram that was changed on its way has made it believe.
    network.now += 1
    a.greet(B, Domain.CONSENSUS, network.now)
    network.run()
    peer = a.peer(TWO)
    assert peer is not None
    assert peer.process == b.process
