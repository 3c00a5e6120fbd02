"""What is fuzzed: each target takes bytes, and raises when a promise is broken."""

import itertools
from collections.abc import Iterator
from typing import Final

from trioraft.address import Address
from trioraft.datagrams import headers, wire
from trioraft.datagrams.endpoint import Endpoint, Identity
from trioraft.datagrams.replay import ReplayWindow
from trioraft.etcd import messages as api
from trioraft.etcd.proto_json import Documents, JsonError, decode, decode_carefully, encode
from trioraft.messages import FRAGMENTED_MAX, LARGEST_ID

VICTIM, STRANGER = Address("192.0.2.1", 7300), Address("203.0.113.9", 7300)


class BrokenPromiseError(AssertionError):
    """What must never happen."""


# --- the decoder --------------------------------------------------------------------------------------------


def decoder(data: bytes) -> None:
    """Decode a datagram: it is malformed, or valid in full and can be sent on as it is."""
    try:
        parsed = headers.parse_datagram_untrusted(data)
        if not isinstance(parsed, headers.Plain):
            return
        found = wire.decode_envelope_untrusted(parsed.envelope)
    except headers.MalformedError:
        return
    again = _encoded(found)
    if _encoded(wire.decode_envelope_untrusted(again)) != again:
        raise BrokenPromiseError("a message that passed cannot be sent on as it is")


def _encoded(envelope: wire.Envelope) -> bytes:
    start = wire.envelope_start(envelope.cluster_id, envelope.sender, envelope.receiver)
    return start + wire.encode_message(envelope.message)


# --- the window of counters ---------------------------------------------------------------------------------


def window(data: bytes) -> None:
    """Feed counters to a window: none is accepted twice, and none is refused that is new and not too old."""
    floor = int.from_bytes(data[:2], "big")
    seen, highest, guard = set[int](), floor, ReplayWindow(floor)
    for counter in _counters(data[2:], floor):
        is_new = counter > floor and counter not in seen and highest - counter < ReplayWindow.WIDTH
        if guard.accept(counter) != is_new:
            raise BrokenPromiseError(f"counter {counter}: {is_new=}, highest {highest}")
        if is_new:
            seen.add(counter)
            highest = max(highest, counter)


def _counters(data: bytes, start: int) -> Iterator[int]:
    """Read counters: steps of a byte to and fro, or, after 0x80, numbers of eight bytes."""
    position, at = start, 0
    while at < len(data):
        step = data[at] - 128
        at += 1
        if step == 0:
            position = int.from_bytes(data[at : at + 8], "big")
            at += 8
        else:
            # Cubed, so that one byte reaches beyond the window's width and the smallest steps are there too.
            position = max(0, position + step**3)
        yield position


# --- a whole endpoint ---------------------------------------------------------------------------------------


def endpoint(data: bytes) -> None:
    """Feed datagrams of a stranger to an endpoint without a key: it never raises, and never answers with more."""
    counting = itertools.count(1)
    victim = Endpoint(
        Identity(node_id=LARGEST_ID, service="web", name="victim"),
        None,
        entropy=lambda size: next(counting).to_bytes(size, "big"),
        cluster_id=3,
    )
    received = sent = 0
    for number, datagram in enumerate(_datagrams(data)):
        now = 1000.0 + number
        received += len(datagram)
        victim.receive_datagram_untrusted(datagram, STRANGER, now)
        victim.further_events()
        victim.handle_timer(now)
        sent += sum(len(answer) for answer, target in victim.datagrams_to_send() if target == STRANGER)
        # The stranger sees no answer, so it never shows that it owns its address.
        if sent > received:
            raise BrokenPromiseError(f"{received} bytes were answered with {sent}")


def _datagrams(data: bytes) -> Iterator[bytes]:
    """Cut the input into datagrams: each has its length, in two bytes, before it."""
    at = 0
    while at + 2 <= len(data):
        length = min(int.from_bytes(data[at : at + 2], "big"), FRAGMENTED_MAX)
        yield data[at + 2 : at + 2 + length]
        at += 2 + length


# --- the documents of clients of etcd -------------------------------------------------------------------------

_KINDS: Final = (api.PutRequest, api.TxnRequest, api.WatchRequest, api.RangeRequest, api.MemberAddRequest)


def documents(data: bytes) -> None:
    """Read a document: it is an error of one line, or a message; in parts it is the same messages."""
    kind, body = _KINDS[data[0] % len(_KINDS) if data else 0], data[1:]
    try:
        message = decode(body, kind)
    except JsonError:
        return
    if decode_carefully(encode(message), kind) != message:
        raise BrokenPromiseError("a message that was read is another one when it is written and read again")
    found = Documents()
    parts: list[api.Message] = []
    try:
        for start in range(0, len(body), 3):
            found.feed(body[start : start + 3])
            parts += found.read(kind)
        found.feed(b"", ended=True)
        parts += found.read(kind, ended=True)
    except JsonError:
        return  # one that follows is none
    if parts[:1] not in ([message], []):
        raise BrokenPromiseError("in parts it is another message")
