"""The format of datagrams in full, and the encoding and decoding of envelopes.

This text, :mod:`trioraft.messages` and :mod:`trioraft.datagrams.sealing`, which specifies the keys, are meant to be
enough for a second implementation. Examples are in CBOR diagnostic notation (RFC 8949, section 8).
:mod:`trioraft.datagrams.headers` reads and makes what stands before an envelope. Those two modules, with
:mod:`trioraft.datagrams.cbor`, are the only code that reads bytes from the network.

Datagram
========
One UDP datagram carries one message, and is one CBOR array of definite length. Its first item is the version of the
format, 1; a receiver drops datagrams of another version. Its second item is its kind, which determines the rest::

    [1, 0, domain, process, envelope]                           Hello, unsealed
    [1, 1, domain, process, token, envelope]                    any other message, unsealed
    [1, 2, fingerprint, process, counter, sealed envelope]      Hello, sealed
    [1, 3, fingerprint, process, counter, sealed envelope]      any other message, sealed
    [1, 4, fingerprint, process, name, nonce, sealed envelope]  the same under a key that was agreed upon
    [1, 5, fingerprint, process, nonce, sealed envelope]        Hello, sealed, to a process that knows kind 4

domain
    0 consensus (between nodes), 1 client, 2 status: what the sender may ask for, see `Who may say what`_. (Keys
    distinguish more than that: sealed datagrams have domains that have no value here.)
process
    16 random bytes that the sender drew when it started.
token
    The token of 8 bytes that the receiver last gave the sender, see `Handshake`_.
fingerprint
    4 bytes that name the domain key, and so the domain.
counter
    The number of this datagram among all that the sender's process has sealed, from 1 on.
name
    4 bytes that name the key, see `Keys that are agreed upon`_.
nonce
    4 bytes that are random for each datagram, and the counter in 8 bytes.

There is one encoding only for everything before the envelope, so that it can be read and made without a CBOR library:
byte strings of 16, 12, 8 and 4 bytes start with ``50``, ``4c``, ``48`` and ``44``; the counter is always 9
bytes (``1b`` and 8 bytes); the sealed envelope is a byte string that always starts with ``59`` and 2 bytes of length.

The *sealed envelope* is the envelope under ChaCha20-Poly1305 with its tag of 16 bytes behind it. In kinds 2 and 3 the
nonce is 4 zero bytes and the 8 bytes of the counter. The associated data are all bytes before the ciphertext (37, 46
and 41 of them in kinds 2 and 3, in 4, and in 5). The key is the sender's hello key (kinds 2 and 5), the session key
of sender and receiver (kind 3), or one that they have agreed upon (kind 4).

Envelope
========
::

    [cluster, sender, receiver, message]

cluster
    The id of the sender's cluster; 0 while it has none.
sender
    The sender's node id; 0 for a client or monitor.
receiver
    The receiver's node id; 0 for a client or monitor, and in a ``Hello`` to an unknown process.
message
    ``[tag, field, field, …]`` as :mod:`trioraft.messages` lists them. A receiver ignores fields at the end that it
    does not know.

Lengths are definite; tags, ``undefined``, repeated map keys and map keys that are no strings are refused, and so
are bytes behind the envelope. A whole number may stand where a float is expected, but not the other way round.

A heartbeat of node ``0x1111111111111111`` to ``0x2222222222222222`` in cluster ``0x3333333333333333``, unsealed::

    [1, 1, 0, h'000102030405060708090a0b0c0d0e0f', h'a0a1a2a3a4a5a6a7',
      [3689348814741910323, 1229782938247303441, 2459565876494606882, [10, 7, 42, 3.25, 12, 6, 12, []]]]

and the bytes of that datagram::

    86 01 01 00 50 000102030405060708090a0b0c0d0e0f 48 a0a1a2a3a4a5a6a7
      84 1b3333333333333333 1b1111111111111111 1b2222222222222222
        88 0a 07 182a fb400a000000000000 0c 06 0c 80

The same as datagram 258 that its sender seals, from process ``000102…0f`` to process ``101112…1f``, in a cluster
whose key is 32 bytes ``4b``::

    [1, 3, h'fa079e03', h'000102030405060708090a0b0c0d0e0f', 258,
      h'e36092d7ee89cb7c736040eaf501b7bc901e4ea4784f3a589ed020eee083c4c12e85584db3b7a46791b81c261baec784
        1328a7107a710b10c2909b98cc07']

with a counter of 9 bytes, ``1b0000000000000102``, as said above. And the same under a key that both have agreed upon,
by X25519 values whose secrets are 32 bytes ``41`` at the sender and 32 bytes ``42`` at the receiver::

    [1, 4, h'fa079e03', h'000102030405060708090a0b0c0d0e0f', h'346aed75', h'73616c740000000000000102',
      h'1fc97714c9927df29594031ee28085f63730c943a2df94ec3b5bc1ff6d762389f721e0891903e959b99d623230d21dd0
        298dcf4933bf8752469db4e17310']

Handshake
=========
A message other than ``Hello`` is acted upon only when it comes from a process, and from an address, that was
*confirmed* within the last 60 s: a challenge that was sent to that address came back from it. Three ``Hello``
confirm both sides::

    A → B   Hello(challenge=a, token=…)             padded
    B → A   Hello(challenge=b, echo=a, token=…)     B remembers nothing yet; A has confirmed B
    A → B   Hello(echo=b, token=…)                  B has confirmed A

- A challenge has 8 to 32 bytes. It must not be guessable, and is accepted for 20 s at most. It should be a keyed hash
  of address, domain and time, so that nothing is remembered of processes that never answer.
- A process that gets a challenge answers at once. An answer to an address that is not confirmed is never larger than
  the datagram it answers; so the first ``Hello`` is padded (to 548 bytes and the service name here). Where nothing
  else fits, the answer has an empty service and name, and no challenge; the receiver of such an echo starts a
  handshake.
- A ``Hello`` has 2,048 bytes at most, as a datagram.
- The receiver of any other message from a process or address that is not confirmed, or without the right token,
  answers with a ``Hello`` that has a challenge (and that is not larger), and drops the message without looking into
  its envelope. The message does not count as seen then; else a faster copy of it from elsewhere would stop the
  original.
- A ``Hello`` whose echo is not fresh confirms nothing. Every sealed ``Hello`` counts in the window of its process. If
  its counter was seen before, it confirms nothing, and is answered only at an address where that process is
  confirmed. For a process that is not known yet, the counter of the ``Hello`` that confirms it becomes the floor of
  the window.
- Both sides shake hands again every 20 s or so, and when they start. A node also greets another node that answers
  nothing once a second: when its own address has changed, nobody accepts what it says, and a message can be too small
  for an answer with a challenge.
- A ``Hello`` of another service name is answered, but makes no session; neither does one between nodes that have no
  version of the protocol in common, see `Versions`_.
- In an unsealed session the token proves the address: a sender shows with every datagram that it has received
  something at the address that it claims. The token is that of the last ``Hello`` with a fresh echo.
- When another process with a known node id is confirmed, it takes the place of the earlier one. If the earlier one
  was at another address, it is sent a new random challenge; if it answers, both are alive, and the later one is
  refused.
- Between nodes, a process waits that is confirmed at another address than the one at which its node id is reached, if
  neither DNS nor an operator names that address: the node at the usual address is challenged, and only when nothing
  came from it for a second after that, the other one takes its place. The same holds for one process with several
  addresses: what it says from any of them counts, but it is reached at the usual one.
- A client accepts datagrams only from addresses at which it looks for nodes: those of DNS, those that its user named,
  and those that nodes there have named.

Sealed datagrams of kinds 3 and 4 are accepted once, up to 4,096 counters behind the newest, and never across a
restart: either side's new process id changes the key.

Keys that are agreed upon
=========================
A process that speaks version 4 puts an X25519 value into every sealed ``Hello`` with a service name. When both sides
have shown one, each in a ``Hello`` with a fresh echo, they seal all other messages as kind 4, and accept nothing of
kind 3 from each other any more. :mod:`trioraft.datagrams.sealing` specifies how the key and its `name` are derived. A
value whose shared secret would be zero makes the ``Hello`` malformed.

Values change, every hour here, while messages are on their way:

- From then on a process shows the new value, and it keeps the secret of the one before for 5 minutes. It opens
  datagrams that are sealed under any pair of the last two values of each side.
- A process seals under the newest value that the other one has shown, by the counters of its ``Hello``, and under the
  newest of its own values that the other one is known to have, because a datagram was sealed under it; at first that
  is the one that it shows. While the other one has sealed nothing under that, the last ``Hello`` may be lost; so the
  other one is greeted again together with the messages to it, 10 times a second at most.

A ``Hello`` is of kind 5 when it answers a datagram of kind 4 or 5, and when a process that speaks version 4 was
confirmed at the address that it goes to within the last 60 s; else of kind 2.

Versions
========
Two fields of a ``Hello``, `lowest` and `highest`, say from which to which version of the protocol the sender speaks;
a ``Hello`` without them is of version 1 alone. They do not concern the format of datagrams, which has the version
that a datagram begins with. A node in a cluster that speaks version 2, whose software speaks 1 to 3, and one that
waits and speaks 1 only::

    A → B   [1, "web", "node-4", challenge, h'', token, padding, 1, 1, h'', h'']
    B → A   [1, "web", "node-1", challenge, echo, token, h'', 2, 3, h'', h'']

Both are confirmed, and refuse each other. :mod:`trioraft.versions` lists what each version has added, and when it may
be sent. The version of a cluster is ``version`` in its configuration. A command that the receiver does not know is
refused in a ``ClientResponse``; any other message that it does not know is dropped.

Fragments
=========
A message (not a ``Hello``) of up to 2 MiB that does not fit into a datagram of the path goes in parts::

    [30, number, sending, first, size, count, part, data]              Fragment
    [31, number, sending, before, further, dropped]             FragmentsReceived

The bytes of ``[tag, field, field, …]`` are cut into `count` parts, each of ``ceil(size / count)`` bytes but the last,
which has the rest; a part has 128 bytes at least, unless it is the last. Each goes in an envelope and a datagram of
its own, which is sealed and accepted as any other, and so only within a confirmed session. The receiver acknowledges
what it has, once for all datagrams that it finds at one time; parts that are not acknowledged are sent again. Message
5, of 2,500 bytes, in three parts, of which the second is lost and then sent again::

    A → B   [30, 5, 11, 5, 2500, 3, 0, h'0a07182a…']               834 bytes
    A → B   [30, 5, 12, 5, 2500, 3, 1, h'…']                       834 bytes, lost
    A → B   [30, 5, 13, 5, 2500, 3, 2, h'…']                       832 bytes
    B → A   [31, 5, 13, 1, h'02', false]                        all before part 1, and part 2, which is 1 + 1
    A → B   [30, 5, 14, 5, 2500, 3, 1, h'…']
    B → A   [31, 5, 14, 3, h'', false]                          all

- `number` and `sending` start anywhere and grow, for each session by itself. An acknowledgement names the largest
  `sending` of its message that has arrived, so that the sender can measure the round trip of a repeated fragment too.
- A receiver keeps incomplete messages within bounds: 4 MiB (the whole `size` of each counts) and 32 messages of one
  session. When there are more, it drops the one of which nothing has come for the longest time, and answers with
  `dropped`. It acknowledges fragments of a message that it has completed or dropped lately, without keeping them.
- A sender has a bounded number of bytes on their way (128 KiB here), and gives up when no acknowledgement comes (for
  5 s here). A message that is given up is lost, as a datagram may be.
- A receiver makes a message that is whole wait for those with a smaller number of which it has a part, down to
  `first`, the smallest number that the sender is still sending. So large messages come in order, except for one of
  which nothing has arrived; small messages overtake them.
- Parts are as large as the path's datagrams, 16 KiB at most. A sender that notices that the path takes smaller ones
  only, or that nothing arrives, cuts the message anew and sends it under another number.

Backups
=======
A client asks a member, best a follower, to make a backup (the file of :mod:`trioraft.storage.backups`), and fetches
it in parts. It sends commands in a ``ClientRequest``; the data of the answers is a ``BackupPart``, in CBOR. Backup 77
of 40,000 bytes, requests 1 to 5::

    C → N   [14, 1, [12]]                               StartBackup
    N → C   [77, 0, false, h'']                         begun; the state has all that was acknowledged before
    C → N   [14, 2, [13, 77, 0, 0]]                     ReadBackup of no bytes: how far is it?
    N → C   [77, 40000, true, h'']                      whole; until then, 0 to 40000 and false
    C → N   [14, 3, [13, 77, 0, 32768]]                 ReadBackup, several at once if one likes
    C → N   [14, 4, [13, 77, 32768, 32768]]
    N → C   [77, 40000, true, h'…']                     32,768 bytes
    N → C   [77, 40000, true, h'…']                     7,232 bytes
    C → N   [14, 5, [14, 77]]                           EndBackup

A backup is kept for 60 s after the last request for it, and belongs to the process that made it: after the end of
that process, or at another node, it is begun anew, because the bytes differ. A node that has two already refuses as
``busy``.

Who may say what
================
To a node, in the consensus domain: everything; in the admin, client and reader domains: ``Hello``,
``StatusRequest``, ``ClientRequest``, ``Fragment``, ``FragmentsReceived``; in the status domain: ``Hello``,
``StatusRequest``, ``FragmentsReceived``. To a client or monitor: ``Hello``, ``Status``, ``Fragment``,
``FragmentsReceived``, and in other domains than status ``ClientResponse``. In the consensus domain both sides are
nodes, in the others exactly one is. Answers come in the domain, and under the key, of their request. A message that
comes in fragments must be allowed as if it came whole. :mod:`trioraft.datagrams.rights` lists which commands a
``ClientRequest`` may have.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NewType, TypeAlias, get_args

import cbor2
import msgspec

from trioraft.datagrams import cbor
from trioraft.datagrams.headers import MalformedError
from trioraft.messages import (
    REQUEST_TAG,
    REQUESTS_TAG,
    AppendEntriesRequest,
    Command,
    Entry,
    EntryKind,
    Fragment,
    FragmentsReceived,
    Hello,
    Message,
    OptionalId,
    OptionalNodeId,
    Term,
)

EncodedMessage = NewType("EncodedMessage", bytes)
# All that an envelope may contain.
Carried: TypeAlias = Message | Fragment | FragmentsReceived

_SIGNED_LABEL: Final = b"trioraft 2 node hello"
_SIGNED: Final = struct.Struct(">QQQII")

# From this number of entries on it is faster to encode them here.
_MANY: Final = 3
# The upper three bits of the first byte of byte strings and arrays.
_BYTES: Final = 0x40
_ARRAY: Final = 0x80

_COMMANDS: Final[dict[Any, type[msgspec.Struct]]] = {
    command.__struct_config__.tag: command for command in get_args(Command)
}


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """A message with its sender and receiver.

    Attributes
    ----------
    cluster_id : int
        The cluster of the sender; 0 for none.
    sender, receiver : int
        Their node ids; 0 for a client or monitor.
    message : Message, Fragment or FragmentsReceived
        The message.
    """

    cluster_id: OptionalId
    sender: OptionalNodeId
    receiver: OptionalNodeId
    message: Carried


def decode_envelope_untrusted(data: bytes) -> Envelope:
    """Decode and validate an envelope.

    Parameters
    ----------
    data : bytes
        The envelope's CBOR, from anybody.

    Returns
    -------
    Envelope
        Its content. Every value has the type, and is within the bounds, that :mod:`trioraft.messages` states.

    Raises
    ------
    MalformedError
        If it is anything else.
    """
    envelope: Envelope = _decode_untrusted(data, Envelope)
    return envelope


def decode_message_untrusted(data: bytes) -> Message:
    """Decode and validate a message that came in fragments.

    Parameters
    ----------
    data : bytes
        The message's CBOR, from a process with a confirmed session.

    Returns
    -------
    Message
        The message, with all that :func:`decode_envelope_untrusted` promises.

    Raises
    ------
    MalformedError
        If it is anything else, such as a fragment.
    """
    message: Message = _decode_untrusted(data, Message)
    return message


def _decode_untrusted(data: bytes, kind: Any) -> Any:
    try:
        read = cbor.decode_untrusted(data)
        try:
            return msgspec.convert(read, kind, builtin_types=(bytes,))
        except msgspec.ValidationError:
            _replace_bad_commands(read if kind is Message else read[3])
            return msgspec.convert(read, kind, builtin_types=(bytes,))
    except Exception as error:  # in whatever way this fails, it is the datagram that is wrong
        raise MalformedError(str(error)) from error


def _replace_bad_commands(message: Any) -> None:
    """Replace each command of a later version, or with a wrong field, by an ``UnknownCommand``.

    So the request is answered, and its sender learns why nothing is done.
    """
    requests = message[1] if message[0] == REQUESTS_TAG else [message]
    for request in requests:
        if request[0] != REQUEST_TAG:
            continue
        tag = request[2][0]
        if tag not in _COMMANDS:
            request[2] = [0, tag]
            continue
        try:
            msgspec.convert(request[2], Command, builtin_types=(bytes,))
        except msgspec.ValidationError as error:
            request[2] = [0, tag, _in_words(_COMMANDS[tag], str(error))]


def _in_words(command: type[msgspec.Struct], error: str) -> str:
    """Word which field is wrong: ``Propose.data: expected bytes, got str`` instead of ``… at `$[4]```."""
    reason, _, path = error.replace("`", "").partition(" - at $")
    place = int(path[1:].partition("]")[0] or 0) if path.startswith("[") else 0
    field = f".{command.__struct_fields__[place - 1]}" if 0 < place <= len(command.__struct_fields__) else ""
    return f"{command.__name__}{field}: {reason[:1].lower()}{reason[1:]}"


def encode_message(message: Carried) -> EncodedMessage:
    """Encode a message, which is done once for all its receivers.

    Parameters
    ----------
    message : Message, Fragment or FragmentsReceived
        The message.

    Returns
    -------
    EncodedMessage
        Its CBOR.
    """
    if type(message) is AppendEntriesRequest and len(message.entries) >= _MANY:
        without = cbor.encode(msgspec.structs.replace(message, entries=()))
        return EncodedMessage(without[:-1] + _encode_entries(message.entries))
    return EncodedMessage(cbor.encode(message))


def _encode_entries(entries: Sequence[Entry]) -> bytes:
    """Encode the last field of an AppendEntries: the library is slow with arrays, and here is one for each entry."""
    encoded = [_entry_start(entry.term, entry.kind, len(entry.data)) + entry.data for entry in entries]
    return _head(_ARRAY, len(entries)) + b"".join(encoded)


@lru_cache(1024)
def _entry_start(term: Term, kind: EntryKind, size: int) -> bytes:
    return _head(_ARRAY, 3) + cbor2.dumps(term) + cbor2.dumps(int(kind)) + _head(_BYTES, size)


def _head(kind: int, size: int) -> bytes:
    """Encode the head of an array or byte string: that of a number, but for the three bits that say what it is."""
    number = cbor2.dumps(size)
    return bytes((kind | number[0],)) + number[1:]


def encode_together(tag: int, messages: list[EncodedMessage]) -> EncodedMessage:
    """Join encoded messages into the message that holds several of them.

    Parameters
    ----------
    tag : int
        Its tag, at most 23.
    messages : list of EncodedMessage
        The messages, at most 256.

    Returns
    -------
    EncodedMessage
        ``[tag, [message, …]]``.
    """
    return EncodedMessage(bytes((0x82, tag)) + _head(_ARRAY, len(messages)) + b"".join(messages))


def envelope_start(cluster_id: OptionalId, sender: OptionalNodeId, receiver: OptionalNodeId) -> bytes:
    """Make the beginning of an envelope, behind which only the message is missing.

    Parameters
    ----------
    cluster_id, sender, receiver : int
        Ids, 0 for none.

    Returns
    -------
    bytes
        The beginning of a CBOR array.
    """
    return b"\x84" + cbor2.dumps(cluster_id) + cbor2.dumps(sender) + cbor2.dumps(receiver)


def signed_text(
    fingerprint: bytes,
    node: bytes,
    client: bytes,
    counter: int,
    node_id: OptionalNodeId,
    cluster_id: OptionalId,
    hello: Hello,
) -> bytes:
    """Make the bytes that a node signs, as :mod:`trioraft.datagrams.sealing` lists them.

    Parameters
    ----------
    fingerprint : bytes
        The fingerprint of the key that the ``Hello`` is sealed under.
    node, client : bytes
        Their process ids.
    counter : int
        The number of the datagram.
    node_id, cluster_id : int
        The ids of the node and of its cluster, as the envelope has them.
    hello : Hello
        The ``Hello``.

    Returns
    -------
    bytes
        The text to sign.
    """
    numbers = _SIGNED.pack(counter, node_id, cluster_id, hello.lowest, hello.highest)
    echoed = bytes([len(hello.echo)]) + hello.echo + bytes([len(hello.ephemeral)]) + hello.ephemeral
    return _SIGNED_LABEL + fingerprint + node + client + numbers + echoed
