"""``python -m tests.cluster.older node``: a node as it was before there were settings of the cluster.

It speaks version 1 of the protocol only, and its ``Hello`` does not even have the fields that say so. What came with
version 2 it knows neither on the wire nor in its log, and in no snapshot: it fails where it should ever have to do
with that.
"""

from dataclasses import replace
from typing import Any, Final
from unittest import mock

import cbor2
import msgspec

from trioraft.cli.main import main
from trioraft.cluster_settings import ClusterSettings
from trioraft.datagrams import outbox, wire
from trioraft.messages import (
    AppendEntriesRequest,
    ChangeSettings,
    ClientRequest,
    ClientRequests,
    EntryKind,
    Hello,
    ReadSettings,
    UnknownCommand,
)
from trioraft.node.world import World
from trioraft.storage import records
from trioraft.versions import Versions, added_in

_SPOKEN: Final = Versions(1, 1)
_HELLO_FIELDS: Final = 7  # with its tag
_LATER_KINDS: Final = frozenset(kind for kind in EntryKind if added_in(kind) > _SPOKEN.highest)
_LATER_COMMANDS: Final[dict[type, int]] = {ReadSettings: 16, ChangeSettings: 17}


def _as_older(message: Any) -> Any:
    """Give a message as an older node reads it."""
    match message:
        case AppendEntriesRequest(entries=entries) if any(entry.kind in _LATER_KINDS for entry in entries):
            older = tuple(
                msgspec.structs.replace(entry, kind=EntryKind.UNKNOWN if entry.kind in _LATER_KINDS else entry.kind)
                for entry in entries
            )
            return msgspec.structs.replace(message, entries=older)
        case ClientRequest(command=command) if type(command) in _LATER_COMMANDS:
            return msgspec.structs.replace(message, command=UnknownCommand(_LATER_COMMANDS[type(command)]))
        case ClientRequests(requests=requests):
            return ClientRequests(tuple(map(_as_older, requests)))
    return message


def _forget() -> None:
    """Forget what came with version 2."""
    decode, encode, real = wire._decode_untrusted, wire.encode_message, World.real

    def decode_untrusted(data: bytes, kind: Any) -> Any:
        decoded = decode(data, kind)
        if isinstance(decoded, wire.Envelope):
            return msgspec.structs.replace(decoded, message=_as_older(decoded.message))
        return _as_older(decoded)

    def encode_message(message: Any) -> wire.EncodedMessage:
        if not isinstance(message, Hello):
            return encode(message)
        fields = msgspec.to_builtins(message, builtin_types=(bytes,))[:_HELLO_FIELDS]
        return wire.EncodedMessage(cbor2.dumps(fields))

    def changed(self: ClusterSettings, change: bytes) -> ClusterSettings:
        raise AssertionError(f"an older node has to do with settings: {change!r}")

    for place, name, older in (
        (wire, "_decode_untrusted", decode_untrusted),
        (outbox, "encode_message", encode_message),
        (World, "real", classmethod(lambda cls: replace(real(), versions=_SPOKEN))),
        (ClusterSettings, "changed", changed),
        (records, "_KINDS", records._KINDS - _LATER_KINDS),
    ):
        mock.patch.object(place, name, older).start()


if __name__ == "__main__":
    _forget()
    main()
