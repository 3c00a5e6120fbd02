"""Versions of the protocol: when a cluster goes on to the next one, and who cannot take part."""

import re
from collections.abc import Iterator

import cbor2
import msgspec
import pytest

from tests.unit.story import Story
from trioraft import versions
from trioraft.address import Address
from trioraft.consensus.configuration import Configuration, decode_configuration, encode_configuration
from trioraft.consensus.events import TooOld
from trioraft.datagrams import headers, wire
from trioraft.datagrams.endpoint import Domain, Endpoint, Event, Identity, OtherVersions, PeerConfirmed, Received
from trioraft.messages import (
    AppendEntriesRequest,
    ClientRequest,
    ClientRequests,
    Entry,
    EntryKind,
    Hello,
    InstallSnapshotRequest,
    OpenSession,
    ReadSettings,
    StatusRequest,
    UnknownCommand,
)
from trioraft.versions import SPOKEN, Versions, added_in

OLD, NEW = Versions(1, 1), Versions(1, 2)


# --- the cluster's version ------------------------------------------------------------------------------------


def _led(nodes: int = 3, *, spare: int = 0) -> Story:
    story = Story(nodes, spare=spare)
    story.elect(1)
    return story


def _versions(story: Story) -> list[int]:
    return [story.cores[node].version for node in story.ids if node in story.cores]


def test_the_newest_version_is_that_of_the_newest_thing() -> None:
    assert max(added_in(kind) for kind in EntryKind) <= SPOKEN.highest
    assert re.findall(r"^(\d+) ", versions.__doc__ or "", re.MULTILINE)[-1] == str(SPOKEN.highest)
    assert SPOKEN.lowest == 1


def test_a_cluster_begins_with_the_first_version_and_goes_on_when_all_can() -> None:
    story = _led()
    assert _versions(story) == [1, 1, 1]
    story.raise_version(1, node_3=1)
    story.live(2)
    assert _versions(story) == [1, 1, 1]
    story.raise_version(1)
    story.live(2)
    assert _versions(story) == [SPOKEN.highest] * 3
    length = len(story.log(1))
    story.raise_version(1)
    story.raise_version(1, node_2=1)  # it is never lowered
    story.live(2)
    assert _versions(story) == [SPOKEN.highest] * 3
    assert len(story.log(1)) == length


def test_learners_and_members_that_were_never_heard_count_too() -> None:
    story = _led(spare=1)
    assert story.change(1, (1, 2, 3), (4,)) is None
    story.live(2)
    newest = SPOKEN.highest
    for known in ({2: newest, 3: newest}, {2: newest, 3: newest, 4: 1}, {2: newest, 4: newest}):
        story.cores[1].raise_version(known, story.now)
        story.settle(1)
    assert _versions(story) == [1, 1, 1, 1]
    story.raise_version(1)
    story.live(2)
    assert _versions(story) == [SPOKEN.highest] * 4


def test_only_a_leader_raises_the_version_and_not_during_another_change() -> None:
    story = _led(spare=1)
    story.raise_version(2)
    assert story.change(1, (1, 2, 3), (4,)) is None
    story.raise_version(1)
    assert _versions(story) == [1, 1, 1, 1]
    story.live(2)
    story.raise_version(1)
    assert story.change(1, (1, 2, 3), ()) is not None
    story.live(2)
    assert _versions(story) == [SPOKEN.highest] * 4


def test_additions_of_a_version_are_not_proposed_before_it() -> None:
    story = _led()
    assert story.cores[1].propose(EntryKind.SETTINGS, b"", story.now) is None
    assert story.cores[1].propose(EntryKind.SESSION_COMMAND, b"", story.now) is not None
    story.raise_version(1)
    assert story.cores[1].propose(EntryKind.SETTINGS, b"", story.now) is not None


def test_the_version_is_rolled_back_with_its_entry_and_all_that_came_after_it() -> None:
    story = _led()
    story.raise_version(1)
    assert story.cores[1].propose(EntryKind.SETTINGS, b"", story.now) is not None
    story.settle(1)
    story.drop()
    story.live(15, cut_off={1})
    story.live(5)
    assert _versions(story) == [1, 1, 1]
    kinds = {entry.kind for node in story.ids for entry in story.state(node).log.entries(1, 9)}
    assert EntryKind.SETTINGS not in kinds


def test_the_version_outlives_changes_of_the_members_snapshots_and_restarts() -> None:
    story = _led(spare=1)
    story.raise_version(1)
    story.live(2)
    assert story.change(1, (1, 2, 3), (4,)) is None
    story.live(2)
    assert story.change(1, (1, 2, 4), ()) is None
    story.live(2)
    assert {story.cores[node].version for node in (1, 2, 4)} == {SPOKEN.highest}
    story.take_snapshot(2, b"state")
    assert story.disks[2].entries == []
    assert story.restart(2).version == SPOKEN.highest


def test_the_first_version_is_encoded_as_it_was_before_there_were_others() -> None:
    assert encode_configuration(Configuration((1, 2))) == b'{"voters":[1,2]}'
    later = encode_configuration(Configuration((1, 2), version=2))
    assert decode_configuration(later) == Configuration((1, 2), version=2)


# --- who is too old --------------------------------------------------------------------------------------------


def _too_new() -> Iterator[AppendEntriesRequest | InstallSnapshotRequest]:
    configuration = encode_configuration(Configuration((1, 2, 3), version=2))
    raised = Entry(1, EntryKind.CONFIGURATION, configuration)
    unknown = Entry(1, EntryKind.UNKNOWN, b"what is it?")
    yield AppendEntriesRequest(1, 99, 0.0, 1, 1, 0, (raised,))
    yield AppendEntriesRequest(1, 99, 0.0, 1, 1, 0, (Entry(1, EntryKind.COMMAND, b"a"), unknown))
    yield AppendEntriesRequest(1, 99, 0.0, 1, 1, 0, (raised, unknown))
    yield InstallSnapshotRequest(1, 9, 1, 1, 0, 0, b"x", configuration)


@pytest.mark.parametrize("message", list(_too_new()))
def test_a_node_that_is_too_old_accepts_nothing_and_says_so(
    message: AppendEntriesRequest | InstallSnapshotRequest,
) -> None:
    story = _led()
    story.cores[2].versions = OLD
    before = story.log(2)
    story.receive(2, 1, message)
    (said,) = story.events(2, TooOld)
    assert said.version in {0, 2}
    assert story.log(2) == before
    assert not story.waiting(AppendEntriesRequest, sender=2)
    assert story.disks[2].last_index == len(before)


def test_an_entry_that_only_a_later_version_knows_is_met_by_any_node() -> None:
    story = _led()
    story.raise_version(1)
    story.live(2)
    entry = Entry(1, EntryKind.UNKNOWN)
    story.receive(2, 1, AppendEntriesRequest(0, 99, 0.0, 2, 1, 0, (entry,)))
    assert not story.events(2, TooOld), "of a leader that was deposed"
    story.receive(2, 1, AppendEntriesRequest(1, 99, 0.0, 2, 1, 0, (entry,)))
    assert story.events(2, TooOld) == [TooOld(0)]


@pytest.mark.parametrize("message", list(_too_new()))
@pytest.mark.parametrize("later", [0, 1])
def test_a_version_that_no_leader_speaks_of_stops_nobody(
    message: AppendEntriesRequest | InstallSnapshotRequest, later: int
) -> None:
    story = _led()
    for node in story.ids:
        story.cores[node].versions = OLD
        story.receive(node, 3 if node == 2 else 2, msgspec.structs.replace(message, term=message.term + later))
        assert not story.events(node, TooOld)
    story.live(10)
    assert story.roles()[0] == "leader"
    assert {core.term for core in story.cores.values()} == {1}


def test_an_unknown_kind_of_entry_is_read_as_such() -> None:
    message = AppendEntriesRequest(1, 99, 0.0, 1, 1, 0, (Entry(1, EntryKind.COMMAND, b"a"),))
    encoded = msgspec.to_builtins(message, builtin_types=(bytes,))
    for kind, known in ((77, True), (2**16, True), (-1, False), ("a", False)):
        encoded[7][0][1] = kind
        data = cbor2.dumps(encoded)
        if not known:
            with pytest.raises(headers.MalformedError):
                wire.decode_message_untrusted(data)
            continue
        read = wire.decode_message_untrusted(data)
        assert isinstance(read, AppendEntriesRequest)
        assert read.entries[0].kind is EntryKind.UNKNOWN


def test_an_unknown_command_is_read_as_such() -> None:
    request = ClientRequest(5, OpenSession())
    for message in (request, ClientRequests((ClientRequest(4, ReadSettings()), request))):
        encoded = msgspec.to_builtins(message, builtin_types=(bytes,))
        (encoded if message is request else encoded[1][1])[2] = [99, "whatever", {}]
        read = wire.decode_message_untrusted(cbor2.dumps(encoded))
        last = read.requests[1] if isinstance(read, ClientRequests) else read
        assert last == ClientRequest(5, UnknownCommand(99))
        if isinstance(read, ClientRequests):
            assert read.requests[0] == ClientRequest(4, ReadSettings())


@pytest.mark.parametrize(
    "message",
    [[14], [14, 5], [14, 5, []], [14, 5, [[]]], [14, 5, ["a"]], [14, 5, [-1]], [20, 7], [20, [[14]]], [], 5],
)
def test_anything_but_a_command_is_malformed(message: object) -> None:
    with pytest.raises(headers.MalformedError):
        wire.decode_message_untrusted(cbor2.dumps(message))


# --- handshakes ------------------------------------------------------------------------------------------------


def test_a_hello_without_versions_is_of_the_first_one() -> None:
    old = msgspec.convert([1, "web", "node-1", b"", b"", b"", b""], Hello)
    assert (old.lowest, old.highest) == (1, 1)


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [(OLD, NEW, True), (OLD, Versions(2, 2), False), (Versions(2, 4), Versions(4, 9), True), (NEW, OLD, True)],
)
def test_two_ranges_of_versions_overlap_or_not(one: Versions, other: Versions, overlap: bool) -> None:
    assert one.overlaps(other) is other.overlaps(one) is overlap


def test_versions_are_written_as_people_read_them() -> None:
    assert str(OLD) == "1"
    assert str(NEW) == "1 to 2"
    assert str(NEW.within(2)) == "2"


class _Two:
    """Two endpoints, each of which hears at once what the other one says."""

    def __init__(self, *versions: Versions) -> None:
        self.addresses = [Address("10.0.0.1", 1), Address("10.0.0.2", 2)]
        self.ends = [
            Endpoint(Identity(number + 1, "web", f"node-{number + 1}", spoken), None, cluster_id=number)
            for number, spoken in enumerate(versions)
        ]
        self.events: list[list[Event]] = [[], []]

    def greet(self) -> None:
        self.ends[0].greet(self.addresses[1], Domain.CONSENSUS, 1.0)
        self.carry()

    def carry(self) -> None:
        while any(self._carry(number) for number in (0, 1)):
            pass

    def _carry(self, number: int) -> bool:
        datagrams = self.ends[number].datagrams_to_send()
        for data, _ in datagrams:
            event = self.ends[1 - number].receive_datagram_untrusted(data, self.addresses[number], 1.0)
            if event is not None:
                self.events[1 - number].append(event)
        return bool(datagrams)


def test_nodes_with_a_version_in_common_know_what_each_speaks() -> None:
    two = _Two(OLD, NEW)
    two.greet()
    found = [end.peer(2 - number) for number, end in enumerate(two.ends)]
    assert [peer and peer.versions for peer in found] == [NEW, OLD]


def test_nodes_without_a_version_in_common_refuse_each_other_and_say_so() -> None:
    two = _Two(OLD, Versions(2, 3))
    two.greet()
    assert two.events[0] == [OtherVersions(two.addresses[1], 2, "node-2", 1, Versions(2, 3))]
    assert two.events[1] == [OtherVersions(two.addresses[0], 1, "node-1", 0, OLD)]
    assert two.ends[0].peers == two.ends[1].peers == []


def test_a_node_that_does_not_speak_the_new_version_of_the_cluster_is_dropped() -> None:
    two = _Two(OLD, NEW)
    two.greet()
    peer = two.ends[0].peer(2)
    assert peer is not None
    two.ends[1].versions = NEW.within(2)
    assert two.ends[1].peers == []
    two.events[1].clear()
    two.ends[0].send(peer, StatusRequest(), 1.0)
    two.carry()
    assert not any(isinstance(event, Received | PeerConfirmed) for event in two.events[1])
    assert any(isinstance(event, OtherVersions) for event in two.events[1])
    assert two.ends[0].peers == []
