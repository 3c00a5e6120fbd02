"""The datagram format: as documented, and proof against anything."""

import ast
import contextlib
import re
from typing import Any

import cbor2
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st

from trioraft.datagrams import cbor, headers, wire
from trioraft.datagrams.keys import KeyRing
from trioraft.datagrams.sealing import Domain, Side
from trioraft.messages import (
    BACKUP_PART_BYTES,
    LARGEST_ID,
    AppendEntriesRequest,
    BackupPart,
    ClientRequest,
    Command,
    EndBackup,
    Entry,
    EntryKind,
    FormationView,
    Hello,
    HookStatus,
    MemberStatus,
    Message,
    NodeStatus,
    ReadBackup,
    StartBackup,
    Status,
    StatusRequest,
    Transfer,
)

PROCESS = bytes(range(16))
TOKEN = bytes(range(0xA0, 0xA8))
RUN = 0x0101010101010101  # times a byte, that byte eight times
HEARTBEAT = AppendEntriesRequest(7, 42, 3.25, 12, 6, 12)
NODE = NodeStatus("id", "node-1", "", "leader", 7, None, 1, 2.5, HookStatus(), None, "web", "1", True, False)
MESSAGES: list[Message] = [
    HEARTBEAT,
    AppendEntriesRequest(1, 2, 0.0, 0, 0, 0, (Entry(1, EntryKind.COMMAND, b"data"), Entry(1, EntryKind.NO_OP))),
    Hello("web", "node-1", b"challenge", b"echo", b"token", bytes(30)),
    FormationView((1, LARGEST_ID), 3),
    StatusRequest(5.0),
    ClientRequest(1, Transfer(9)),
    Status(NODE),
]


def envelope(message: wire.Carried, cluster: int = 3, sender: int = 1, receiver: int = 2) -> bytes:
    return wire.envelope_start(cluster, sender, receiver) + wire.encode_message(message)


def plain(message: Message = HEARTBEAT) -> bytes:
    if isinstance(message, Hello):
        return headers.plain_hello_start(Domain.CONSENSUS, PROCESS) + envelope(message)
    return headers.plain_message_start(Domain.CONSENSUS, PROCESS, TOKEN) + envelope(message)


def sealed(content: bytes, counter: int = 258, *, is_hello: bool = False) -> bytes:
    key = KeyRing.parse("4b" * 32).first(Domain.CONSENSUS)
    cipher = key.hello_cipher(PROCESS) if is_hello else key.session_cipher(PROCESS, bytes(range(16, 32)))
    count = counter.to_bytes(8)
    start = headers.sealed_start(key.fingerprint, PROCESS, is_hello=is_hello)
    header = headers.sealed_header(start, count, len(content))
    return header + cipher.encrypt(headers.NONCE_START + count, content, header)


def agreed(content: bytes, nonce: bytes = b"salt" + (258).to_bytes(8)) -> bytes:
    """Seal under what two processes have agreed upon by values of which the secrets are 32 bytes `41` and `42`."""
    key = KeyRing.parse("4b" * 32).first(Domain.CONSENSUS)
    one, two = (X25519PrivateKey.from_private_bytes(secret * 32) for secret in (b"A", b"B"))
    values = [secret.public_key().public_bytes_raw() for secret in (one, two)]
    shared = one.exchange(two.public_key())
    cipher, name = key.agreed_cipher(shared, Side(PROCESS, values[0]), Side(bytes(range(16, 32)), values[1]))
    header = headers.sealed_header(headers.named_start(key.fingerprint, PROCESS, name), nonce, len(content))
    return header + cipher.encrypt(nonce, content, header)


# --- the documentation --------------------------------------------------------------------------------------


def documented(after: str) -> str:
    """Return the indented block that follows some words of the module's text."""
    text = (wire.__doc__ or "").partition(after)[2]
    return re.split(r"\n(?=\S)", text.partition("::\n")[2])[0]


def diagnostic(text: str) -> Any:
    """Read the part of CBOR's diagnostic notation that the documentation uses."""
    hexadecimal = re.compile(r"h'([0-9a-f\s]*)'")
    return ast.literal_eval(hexadecimal.sub(lambda m: repr(bytes.fromhex(m[1])), text).strip())


def test_the_documented_example_is_what_the_code_makes() -> None:
    data = headers.plain_message_start(Domain.CONSENSUS, PROCESS, TOKEN) + envelope(
        HEARTBEAT, 0x33 * RUN, 0x11 * RUN, 0x22 * RUN
    )
    assert bytes.fromhex("".join(documented("bytes of that datagram").split())) == data
    assert diagnostic(documented("A heartbeat of node")) == cbor2.loads(data)


def test_the_documented_sealed_example_is_what_the_code_makes() -> None:
    data = sealed(envelope(HEARTBEAT, 0x33 * RUN, 0x11 * RUN, 0x22 * RUN))
    assert diagnostic(documented("The same as datagram 258")) == cbor2.loads(data)


def test_the_documented_example_under_an_agreed_key_is_what_the_code_makes() -> None:
    data = agreed(envelope(HEARTBEAT, 0x33 * RUN, 0x11 * RUN, 0x22 * RUN))
    assert diagnostic(documented("whose secrets are 32 bytes ``41``")) == cbor2.loads(data)


def test_the_documented_requests_for_a_backup_are_what_the_code_makes() -> None:
    lines = re.findall(r"(C → N|N → C) +(\[.*?\])(?:  |\n|$)", documented("requests 1 to 5"))
    asked: list[Command] = [
        StartBackup(),
        ReadBackup(77),
        ReadBackup(77, 0, BACKUP_PART_BYTES),
        ReadBackup(77, 32768, BACKUP_PART_BYTES),
        EndBackup(77),
    ]
    requests = [wire.encode_message(ClientRequest(number, command)) for number, command in enumerate(asked, 1)]
    assert [diagnostic(text) for who, text in lines if who == "C → N"] == [cbor2.loads(data) for data in requests]
    told = [text.replace("true", "True").replace("false", "False") for who, text in lines if who == "N → C"]
    parts = [BackupPart(77, 0, whole=False), BackupPart(77, 40000, whole=True)]
    assert [diagnostic(text) for text in told[:2]] == [
        msgspec.to_builtins(part, builtin_types=(bytes,)) for part in parts
    ]
    assert len(told) == 4


# --- what is made can be read -------------------------------------------------------------------------------


@pytest.mark.parametrize("message", MESSAGES)
def test_every_datagram_is_read_as_it_was_made(message: Message) -> None:
    data = plain(message)
    parsed = headers.parse_datagram_untrusted(data)
    assert isinstance(parsed, headers.Plain)
    assert (parsed.domain, parsed.process) == (Domain.CONSENSUS, PROCESS)
    assert parsed.token == (None if isinstance(message, Hello) else TOKEN)
    read = wire.decode_envelope_untrusted(parsed.envelope)
    assert read == wire.Envelope(3, 1, 2, message)


@pytest.mark.parametrize("edge", [1, 23, 24, 255, 256, 65535, 65536])
def test_entries_are_encoded_as_the_library_would(edge: int) -> None:
    entries = (
        Entry(edge, EntryKind.COMMAND, bytes(edge)),
        Entry(edge + 2**32, EntryKind.NO_OP),
        *[Entry(edge, EntryKind.UNKNOWN, b"data")] * edge,
    )
    for message in (HEARTBEAT, AppendEntriesRequest(7, 42, 3.25, 12, 6, 12, entries)):
        assert wire.encode_message(message) == cbor.encode(message)


@pytest.mark.parametrize("is_hello", [True, False])
def test_a_sealed_datagram_is_read_as_it_was_made(is_hello: bool) -> None:
    data = sealed(b"content", 2**64 - 1, is_hello=is_hello)
    parsed = headers.parse_datagram_untrusted(data)
    assert isinstance(parsed, headers.Sealed)
    assert parsed.is_hello is is_hello
    assert (parsed.counter, parsed.process) == (2**64 - 1, PROCESS)
    assert parsed.header + parsed.ciphertext == data
    assert cbor2.loads(data) == [1, 2 if is_hello else 3, parsed.fingerprint, PROCESS, 2**64 - 1, parsed.ciphertext]


def test_a_datagram_under_an_agreed_key_is_read_as_it_was_made() -> None:
    data = agreed(b"content")
    parsed = headers.parse_datagram_untrusted(data)
    assert isinstance(parsed, headers.Sealed)
    assert (parsed.is_hello, parsed.is_named, parsed.is_salted, parsed.counter) == (False, True, True, 258)
    assert parsed.header + parsed.ciphertext == data
    key = KeyRing.parse("4b" * 32).first(Domain.CONSENSUS)
    _, _, fingerprint, process, name, nonce, ciphertext = cbor2.loads(data)
    assert (fingerprint, process, nonce, ciphertext) == (key.fingerprint, PROCESS, parsed.nonce, parsed.ciphertext)
    assert parsed.channel == headers.named_channel(fingerprint, process, name)


def test_the_largest_envelope_fits_a_udp_datagram() -> None:
    assert len(agreed(bytes(headers.ENVELOPE_MAX))) == 65507


def test_another_version_is_told_apart_from_rubbish() -> None:
    for version in (0, 2, 23):
        with pytest.raises(headers.UnknownVersionError):
            headers.parse_datagram_untrusted(bytes([0x86, version]) + plain()[2:])
    with pytest.raises(headers.UnknownVersionError):
        headers.parse_datagram_untrusted(b"\x86\x18\x64" + plain()[2:])
    with pytest.raises(headers.MalformedError) as caught:
        headers.parse_datagram_untrusted(b"\x86\x01\x09" + plain()[3:])
    assert not isinstance(caught.value, headers.UnknownVersionError)


# --- what is refused ----------------------------------------------------------------------------------------

HEAD = bytes.fromhex("84030102")  # an envelope from 1 to 2 in cluster 3, without its message


@pytest.mark.parametrize(
    "data",
    {
        "nothing": b"",
        "no array": b"\x01",
        "no message": bytes.fromhex("83030102"),
        "something behind": envelope(HEARTBEAT) + b"\x00",
        "an indefinite length": bytes.fromhex("9f030102820c00ff"),
        "a tag": HEAD + bytes.fromhex("820cc100"),
        "a number as a big number": HEAD + bytes.fromhex("820cc24101"),
        "a regular expression": HEAD + bytes.fromhex("82d823612800"),
        "a shared value": HEAD + bytes.fromhex("d81c820c00"),
        "a string reference": bytes.fromhex("d90100") + envelope(HEARTBEAT),
        "an unknown tag": HEAD + bytes.fromhex("820cd9ffff00"),
        "undefined": HEAD + bytes.fromhex("820cf7"),
        "NaN": HEAD + bytes.fromhex("820cf97e00"),
        "infinity": HEAD + bytes.fromhex("820cf97c00"),
        "below the bounds": HEAD + bytes.fromhex("820c20"),
        "a float for an integer": HEAD + bytes.fromhex("880afb401c00000000000000fb00000000000000000c060c80"),
        "true for an integer": HEAD + bytes.fromhex("880af5182a0000000080"),
        "text for bytes": HEAD + bytes.fromhex("8701616161616161616061606160"),
        "an unknown message": HEAD + bytes.fromhex("8118c8"),
        "a message as a map": HEAD + bytes.fromhex("a1010c"),
        "a long array of nothing": HEAD + bytes.fromhex("9b7fffffffffffffff"),
        "a long text of nothing": HEAD + bytes.fromhex("7b7fffffffffffffff"),
        "deeply nested": HEAD + b"\x81" * 5000 + b"\x00",
        "a negative id": bytes.fromhex("84200102820c00"),
        "too large an id": bytes.fromhex("841bffffffffffffffff0102820c00"),
        "map keys that are numbers": HEAD + b"\x82\x0d\xa1\x01\x02",
        "broken text": HEAD + bytes.fromhex("8501617a62ffff4040"),
    }.values(),
    ids=str,
)
def test_anything_but_an_envelope_is_refused(data: bytes) -> None:
    with pytest.raises(headers.MalformedError):
        wire.decode_envelope_untrusted(data)


def test_a_repeated_map_key_is_refused() -> None:
    fields = msgspec.to_builtins(NODE)
    items = b"".join(cbor2.dumps(key) + cbor2.dumps(value) for key, value in fields.items())
    once = HEAD + b"\x82\x0d" + bytes([0xB8, len(fields)]) + items
    assert wire.decode_envelope_untrusted(once).message == Status(NODE)
    twice = HEAD + b"\x82\x0d" + bytes([0xB8, len(fields) + 1]) + items + cbor2.dumps("id") + cbor2.dumps("other")
    with pytest.raises(headers.MalformedError):
        wire.decode_envelope_untrusted(twice)


@pytest.mark.parametrize(
    "facts",
    [
        {"term": 2**62 + 1},
        {"last_index": 2**64 - 1},
        {"members": (MemberStatus("id", "node-1", "voter", float("inf")),)},
        {"members": (MemberStatus("id", "node-1", "voter", 1e300),)},
        {"members": (MemberStatus("id", "node-1", "voter", -1.0),)},
    ],
    ids=str,
)
def test_a_status_with_numbers_that_nobody_can_show_is_refused(facts: dict[str, Any]) -> None:
    told = Status(msgspec.structs.replace(NODE, **facts))
    with pytest.raises(headers.MalformedError):
        wire.decode_message_untrusted(wire.encode_message(told))


def test_fields_of_a_later_version_are_ignored() -> None:
    later = cbor2.dumps([3, 1, 2, [12, 1.5, "new", [1]]])
    assert wire.decode_envelope_untrusted(later).message == StatusRequest(1.5)


def test_a_whole_number_may_stand_for_a_float() -> None:
    assert wire.decode_envelope_untrusted(cbor2.dumps([3, 1, 2, [12, 2]])).message == StatusRequest(2.0)


def decode(data: bytes) -> None:
    """Read a datagram as far as it goes without its key."""
    parsed = headers.parse_datagram_untrusted(data)
    if isinstance(parsed, headers.Plain):
        wire.decode_envelope_untrusted(parsed.envelope)


def read(data: bytes) -> None:
    """Read a datagram; anything but MalformedError fails the test."""
    with contextlib.suppress(headers.MalformedError):
        decode(data)


def read_envelope(data: bytes) -> None:
    try:
        found = wire.decode_envelope_untrusted(data)
    except headers.MalformedError:
        return
    # What passed is valid in full, and can be sent on.
    again = envelope(found.message, found.cluster_id, found.sender, found.receiver)
    assert (
        envelope(wire.decode_envelope_untrusted(again).message, found.cluster_id, found.sender, found.receiver)
        == again
    )


@given(st.binary(max_size=300))
@example(b"")
def test_arbitrary_bytes_are_malformed_or_valid(data: bytes) -> None:
    read(data)
    read_envelope(data)
    read_envelope(HEAD + data)


GENUINE = [plain(message) for message in MESSAGES] + [sealed(envelope(m)) for m in MESSAGES]
GENUINE += [agreed(envelope(HEARTBEAT))]


@given(st.sampled_from(GENUINE), st.data())
def test_mutated_datagrams_are_malformed_or_valid(genuine: bytes, data: st.DataObject) -> None:
    mutated = bytearray(genuine)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        match data.draw(st.sampled_from(["set", "insert", "delete"])):
            case "set":
                mutated[at] = data.draw(st.integers(0, 255))
            case "insert":
                mutated[at:at] = data.draw(st.binary(max_size=12))
            case _:
                del mutated[at : at + data.draw(st.integers(1, 12))]
        if not mutated:
            break
    read(bytes(mutated))


@pytest.mark.parametrize("genuine", GENUINE)
def test_a_truncated_datagram_is_malformed(genuine: bytes) -> None:
    for length in range(len(genuine)):
        with pytest.raises(headers.MalformedError):
            decode(genuine[:length])


nested = st.recursive(
    st.one_of(
        st.integers(-(2**64), 2**64 - 1),
        st.floats(),
        st.text(max_size=8),
        st.binary(max_size=8),
        st.booleans(),
        st.none(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(st.text(max_size=6), inner, max_size=4)),
    max_leaves=20,
)


@given(st.integers(1, 15), st.lists(nested, max_size=8))
def test_well_formed_cbor_of_any_shape_is_malformed_or_valid(tag: int, fields: list[Any]) -> None:
    read_envelope(cbor2.dumps([3, 1, 2, [tag, *fields]]))


def test_bounds_hold_for_every_number_that_passes() -> None:
    with pytest.raises(headers.MalformedError):
        wire.decode_envelope_untrusted(envelope(msgspec.structs.replace(HEARTBEAT, term=2**62 + 1)))
    assert wire.decode_envelope_untrusted(envelope(msgspec.structs.replace(HEARTBEAT, term=2**62)))
