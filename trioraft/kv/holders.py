"""Counts the leases of each client and address, so that nobody has all of them.

Locks are held by leases, and waited for by leases. Only a leader counts, and not those that another leader has
granted.
"""

from typing import Final

from trioraft.datagrams import cbor
from trioraft.kv.codec import decode_command, decode_result
from trioraft.kv.commands import LeaseGrant
from trioraft.kv.results import LeaseGrantResult
from trioraft.kv.store import Change
from trioraft.tally import NO_LIMIT, Asker, Limit, Tally

# The default quota has room for twice as many in a store that is full of keys. An address may have half as many
# again.
OF_ONE_CLIENT_MAX: Final = 4096
OF_ONE_SITE_MAX: Final = 6144

# In canonical CBOR a small number is its own byte.
_SMALL: Final = 0x18
_GRANT: Final = 5


class LeaseHolders:
    """The leases of each client and each address."""

    def __init__(self) -> None:
        self._owners: dict[int, Asker] = {}
        self._tally = Tally()

    def begin_share(self, who: Asker, command: bytes) -> Limit:
        """Count a lease that is about to be granted; see :meth:`trioraft.replica.machine.Shared.begin_share`."""
        if not _is_grant(command):
            return NO_LIMIT
        self._tally.add(who)
        limit = self._tally.why_none(who, "leases, one for each lock", OF_ONE_CLIENT_MAX, OF_ONE_SITE_MAX)
        if limit.text:
            self._tally.remove(who)
        return limit

    def end_share(self, who: Asker, command: bytes, result: bytes) -> None:
        """Note whether it was granted; see :meth:`trioraft.replica.machine.Shared.end_share`."""
        if not _is_grant(command):
            return
        granted = decode_result(result) if result else None
        if isinstance(granted, LeaseGrantResult) and granted.id not in self._owners:
            self._owners[granted.id] = who
        else:
            self._tally.remove(who)

    def follow(self, change: Change) -> None:
        """Stop counting leases that have ended."""
        for lease in list(self._owners) if change.restored else change.ended:
            who = self._owners.pop(lease, None)
            if who is not None:
                self._tally.remove(who)


def _is_grant(command: bytes) -> bool:
    if len(command) > 1 and command[0] in cbor.SMALL_ARRAYS and command[1] < _SMALL:
        return command[1] == _GRANT
    try:
        return isinstance(decode_command(command), LeaseGrant)
    except ValueError:
        return False
