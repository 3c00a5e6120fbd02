"""The settings of the cluster, which are in the log, so that all nodes have the same ones.

A change is a JSON object with the settings that it changes; the others stay as they are. A node keeps settings that
it does not know, because a newer version may have made them, and does what is safe where it does not know a value.
"""

import enum
from typing import Any, Final

import msgspec
from msgspec import Struct
from typing_extensions import TypeIs

_NAME_MAX: Final = 64

# Quotas of the key-value store, in bytes. The smallest one has room for a few of the largest values. The default fits
# nodes with 256 MiB each, as in containers/. It is part of the meaning of version 4 of the protocol, so it can change
# only with a later version.
QUOTA_MIN: Final = 4 * 2**20
QUOTA_MAX: Final = 2**40
DEFAULT_QUOTA: Final = 64 * 2**20


class ReadMode(enum.StrEnum):
    """The way in which a leader makes sure, for a linearizable read, that nobody else leads.

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
        The settings that were set, by name, including those that only a newer version knows.
    """

    values: dict[str, Any] = {}

    @property
    def reads(self) -> ReadMode:
        """The mode of linearizable reads; by a quorum unless another mode is set that this version knows."""
        return ReadMode.LEASE if self.values.get("reads") == ReadMode.LEASE else ReadMode.QUORUM

    @property
    def quota(self) -> int:
        """The bytes that keys and leases of the key-value store may take; the default where no valid one is set."""
        quota = self.values.get("quota")
        return quota if _is_quota(quota) else DEFAULT_QUOTA

    def changed(self, change: bytes) -> "ClusterSettings":
        """Compute the settings after a change.

        Parameters
        ----------
        change : bytes
            A change from :func:`encode_change`, of this or another version; anything else changes nothing.

        Returns
        -------
        ClusterSettings
            The new settings.
        """
        return ClusterSettings({**self.values, **(_decode(change) or {})})

    def encoded(self) -> bytes:
        """Encode the change that makes these settings from none.

        Returns
        -------
        bytes
            The change, for :meth:`changed`.
        """
        return msgspec.json.encode(self.values)

    def shown(self) -> dict[str, str]:
        """Return the settings as people and programs see them.

        Returns
        -------
        dict of str to str
            The settings that this version follows, and those that it does not know, as they were set.
        """
        known = {"reads": self.reads.value, "quota": str(self.quota)}
        return known | {name: str(value) for name, value in self.values.items() if name not in known}


def encode_change(**values: str | int) -> bytes:
    """Encode a change.

    Parameters
    ----------
    **values : str or int
        The settings to change, with their new values.

    Returns
    -------
    bytes
        The change, as it stands in the log.
    """
    return msgspec.json.encode(values)


def why_unknown(change: bytes) -> str:
    """Explain why this version does not propose a change.

    Parameters
    ----------
    change : bytes
        The change, from a client.

    Returns
    -------
    str
        The reason, in words; empty when this version knows all of it.
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
