"""Settings of the cluster, not of a node: they are in the log, so that all nodes have the same ones.

A change is a JSON object that names the settings it changes; the others stay as they are. A node keeps what it does
not know, since a newer version may have put it there, and goes by what is safe where it does not know a value.
"""

import enum
from typing import Any, Final

import msgspec
from msgspec import Struct
from typing_extensions import TypeIs

_NAME_MAX: Final = 64

# How large the key-value store may become, in bytes. The smallest quota has room for a few of the largest values. The
# default fits nodes that are given 256 MiB each, as in containers/. It is part of what version 4 of the protocol
# means, so that it can change with a later version only.
QUOTA_MIN: Final = 4 * 2**20
QUOTA_MAX: Final = 2**40
DEFAULT_QUOTA: Final = 64 * 2**20


class ReadMode(enum.StrEnum):
    """How a leader makes sure, for a linearizable read, that nobody else leads.

    ``QUORUM``  by a round of heartbeats that began after the read was asked for; needs no clock
    ``LEASE``   by its lease, while it has one; needs clocks whose rates differ by at most 1 %
    """

    QUORUM = "quorum"
    LEASE = "lease"


class ClusterSettings(Struct, frozen=True):
    """The settings of a cluster.

    Attributes
    ----------
    values : dict of str to object
        What was set, by name, those that only a newer version knows included.
    """

    values: dict[str, Any] = {}

    @property
    def reads(self) -> ReadMode:
        """How linearizable reads are made sure of; by a quorum unless something else is set that is known."""
        return ReadMode.LEASE if self.values.get("reads") == ReadMode.LEASE else ReadMode.QUORUM

    @property
    def quota(self) -> int:
        """How many bytes the keys and leases of the key-value store may take; the default where none is known."""
        quota = self.values.get("quota")
        return quota if _is_quota(quota) else DEFAULT_QUOTA

    def changed(self, change: bytes) -> "ClusterSettings":
        """Give the settings after a change.

        Parameters
        ----------
        change : bytes
            What :func:`encode_change` made, here or in another version; what is no change at all changes nothing.

        Returns
        -------
        ClusterSettings
            The new settings.
        """
        return ClusterSettings({**self.values, **(_decode(change) or {})})

    def encoded(self) -> bytes:
        """Give the change that makes these settings of none.

        Returns
        -------
        bytes
            What :meth:`changed` takes.
        """
        return msgspec.json.encode(self.values)

    def shown(self) -> dict[str, str]:
        """Give what the settings are, as people and programs are shown them.

        Returns
        -------
        dict of str to str
            What this version goes by, and, as it was set, what it does not know.
        """
        known = {"reads": self.reads.value, "quota": str(self.quota)}
        return known | {name: str(value) for name, value in self.values.items() if name not in known}


def encode_change(**values: str | int) -> bytes:
    """Write a change.

    Parameters
    ----------
    **values : str or int
        The settings to change, and what to.

    Returns
    -------
    bytes
        What the log has of it.
    """
    return msgspec.json.encode(values)


def why_unknown(change: bytes) -> str:
    """Say why this version does not propose a change.

    Parameters
    ----------
    change : bytes
        The change, from whoever asks for it.

    Returns
    -------
    str
        The reason, in words; empty when it knows all of it.
    """
    values = _decode(change)
    if not values:
        return "it names no setting"
    for name, value in values.items():
        match name:
            case "reads" if value not in list(ReadMode):
                return f"reads={str(value)[:_NAME_MAX]!r}: unknown; allowed: {' or '.join(ReadMode)}"
            case "quota" if not _is_quota(value):
                return f"quota={str(value)[:_NAME_MAX]!r}: must be a number of bytes from {QUOTA_MIN} to {QUOTA_MAX}"
            case "reads" | "quota":
                continue
            case _:
                return f"there is no setting {name[:_NAME_MAX]!r}; known: reads, quota"
    return ""


def _is_quota(value: object) -> TypeIs[int]:
    return type(value) is int and QUOTA_MIN <= value <= QUOTA_MAX


def _decode(change: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(change, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return None
