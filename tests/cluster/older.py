"""``python -m tests.cluster.older node``: a node as it was before there were settings of the cluster.

It speaks version 1 of the protocol only, and its ``Hello`` does not even have the fields that say so. What came with
later versions it knows neither on the wire nor in its log, and in no snapshot: it fails where it should ever have to
do with that.
"""

from dataclasses import replace
from typing import Any, Final
from unittest import mock

import cbor2
import msgspec

from trioraft.cli.main import main
from trioraft.datagrams import keys, sealing, sender, wire
from trioraft.kv.store import KeyValueStore
from trioraft.messages import (
    FIRST_VERSION,
    AppendEntriesRequest,
    ChangeSettings,
    ClientRequest,
    ClientRequests,
    EntryKind,
    Hello,
    ProposeBatch,
    ReadSettings,
    UnknownCommand,
)
from trioraft.node.proposals import Proposals
from trioraft.node.world import World
from trioraft.replica.settings import ClusterSettings
from trioraft.storage import records
from trioraft.versions import SIGNS_FROM, Versions, added_in

# How many fields a Hello has of a release that speaks no later version, with its tag.
_HELLO_FIELDS: Final = {1: 7, 2: 9, 3: 9, 4: 11, 5: 11}
# Since when commands have versions.
VERSIONED: Final = 3
# The requests of each later version, with their tags.
_ADDED: Final[dict[int, dict[type, int]]] = {2: {ReadSettings: 16, ChangeSettings: 17}, 5: {ProposeBatch: 21}}


class _Older:
    """How a release reads messages that speaks no later version than one."""

    def __init__(self, highest: int) -> None:
        self.kinds = frozenset(kind for kind in EntryKind if added_in(kind) > highest)
        self.requests = {
            request: tag for version, added in _ADDED.items() if version > highest for request, tag in added.items()
        }

    def read(self, message: Any) -> Any:
        """Return a message as it understands it."""
        match message:
            case AppendEntriesRequest(entries=entries) if any(entry.kind in self.kinds for entry in entries):
                older = tuple(
                    msgspec.structs.replace(entry, kind=EntryKind.UNKNOWN if entry.kind in self.kinds else entry.kind)
                    for entry in entries
                )
                return msgspec.structs.replace(message, entries=older)
            case ClientRequest(command=command) if type(command) in self.requests:
                return msgspec.structs.replace(message, command=UnknownCommand(self.requests[type(command)]))
            case ClientRequests(requests=requests):
                return ClientRequests(tuple(map(self.read, requests)))
        return message


def forget(highest: int) -> None:
    """Forget what came after a version of the protocol.

    Parameters
    ----------
    highest : int
        The version.
    """
    release = _Older(highest)
    decode, encode, real = wire._decode_untrusted, wire.encode_message, World.real

    def decode_untrusted(data: bytes, kind: Any) -> Any:
        decoded = decode(data, kind)
        if isinstance(decoded, wire.Envelope):
            return msgspec.structs.replace(decoded, message=release.read(decoded.message))
        return release.read(decoded)

    def encode_message(message: Any) -> wire.EncodedMessage:
        if not isinstance(message, Hello):
            return encode(message)
        fields = msgspec.to_builtins(message, builtin_types=(bytes,))[: _HELLO_FIELDS[highest]]
        return wire.EncodedMessage(cbor2.dumps(fields))

    all_keys = keys._domain_keys

    def domain_keys(written: Any) -> list[sealing.DomainKey]:
        return [key for key in all_keys(written) if key.domain <= sealing.Domain.FIRST_STATUS]

    def changed(self: ClusterSettings, change: bytes) -> ClusterSettings:
        raise AssertionError(f"an older node has to do with settings: {change!r}")

    version_needed = Proposals.version_needed

    def needed(self: Proposals, command: bytes) -> int:
        version = version_needed(self, command) if highest >= VERSIONED else FIRST_VERSION
        return version if version <= highest else FIRST_VERSION

    versions = Versions(FIRST_VERSION, highest)
    of_all: list[tuple[Any, str, Any]] = [
        (wire, "_decode_untrusted", decode_untrusted),
        (World, "real", classmethod(lambda cls: replace(real(), versions=versions))),
        (records, "_KINDS", records._KINDS - release.kinds),
        # A leader proposes whatever it does not know.
        (Proposals, "version_needed", needed),
        (sender, "encode_message", encode_message),
    ]
    before_signatures = [(keys, "_domain_keys", domain_keys)]
    # Commands had no versions, so the store knew those of the first one.
    before_versions = [(KeyValueStore, "follow_version", lambda self, version: None)]
    of_the_first = [(ClusterSettings, "changed", changed)]
    of_some = [
        *(before_signatures if highest < SIGNS_FROM else []),
        *(before_versions if highest < VERSIONED else []),
        *(of_the_first if highest == FIRST_VERSION else []),
    ]
    for place, name, older in [*of_all, *of_some]:
        mock.patch.object(place, name, older).start()


if __name__ == "__main__":
    forget(FIRST_VERSION)
    main()
