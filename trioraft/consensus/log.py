"""The log: the entries that no snapshot has replaced yet (Raft, sections 5.3 and 7)."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

from trioraft.consensus.configuration import Configuration, decode_configuration
from trioraft.messages import Entry, EntryKind, Index, NodeId, Term

_CONFIGURATION: Final = EntryKind.CONFIGURATION  # a look-up in an enum costs time, and there are many entries

# The bytes of an entry on the wire beside its data: term, kind, and the heads of array and string.
_OVERHEAD = 16

# A committed entry, after its index. It is a plain tuple because one is made for every entry.
IndexedEntry: TypeAlias = tuple[Index, Entry]


class Placed(NamedTuple):
    """The place of an entry that was proposed: it is committed once an entry of that term is committed there."""

    term: Term
    log_index: Index


class InForce(NamedTuple):
    """A configuration, and the index from which on it is in force."""

    since: Index
    configuration: Configuration


def entry_bytes(entry: Entry) -> int:
    """Estimate the size of an entry in a datagram.

    Parameters
    ----------
    entry : Entry
        The entry.

    Returns
    -------
    int
        Bytes, never fewer than it really has.
    """
    return len(entry.data) + _OVERHEAD


class Log:
    """The entries of a member, in memory; indexes begin with 1 (Raft, figure 2: persistent state).

    The log also knows the configuration that is in force: the newest one in it, committed or not (thesis 4.1).

    Parameters
    ----------
    base_index, base_term : int
        The last entry that was dropped, because a snapshot covers it; 0 when there is none.
    entries : iterable of Entry
        The entries after it.

    Attributes
    ----------
    configuration : Configuration
        The configuration that is in force.
    configuration_index : int
        The index of its entry; the base index when it comes from a snapshot or from the formation.
    """

    def __init__(self, base_index: Index = 0, base_term: Term = 0, entries: Iterable[Entry] = ()) -> None:
        self.base_index = base_index
        self.base_term = base_term
        self._entries = list(entries)
        # in order; the first one is that of the snapshot or the formation
        self._configurations: list[InForce] = [InForce(base_index, Configuration())]
        for index, entry in enumerate(self._entries, base_index + 1):
            if entry.kind is _CONFIGURATION:
                self._configurations.append(InForce(index, _configuration_in(entry)))
        self._note_configuration()

    # --- configurations -------------------------------------------------------------------------------------

    def _note_configuration(self) -> None:
        self.configuration_index, self.configuration = self._configurations[-1]

    def begin_with(self, configuration: Configuration) -> None:
        """Note the configuration that is in force until the first entry that changes it.

        Parameters
        ----------
        configuration : Configuration
            The configuration of the snapshot or the formation.
        """
        self._configurations[0] = InForce(self._configurations[0].since, configuration)
        self._note_configuration()

    def configurations_since(self, index: Index) -> list[InForce]:
        """List the configurations that are in force at an index or after it.

        Parameters
        ----------
        index : int
            An index that is not before the snapshot's.

        Returns
        -------
        list of InForce
            The first one is in force at `index`.
        """
        first = sum(known.since <= index for known in self._configurations) - 1
        return self._configurations[max(0, first) :]

    def absent_since(self, node: NodeId) -> Index:
        """Find the configuration that removed a node, or the first one that is known where that is an earlier one.

        Parameters
        ----------
        node : int
            A node that is no member by the newest configuration.

        Returns
        -------
        int
            The index of the first configuration after which none has that node as a member.
        """
        since = self.configuration_index
        for known in reversed(self._configurations):
            if node in known.configuration.member_set:
                break
            since = known.since
        return since

    # --- entries --------------------------------------------------------------------------------------------

    @property
    def last_index(self) -> Index:
        """The index of the last entry."""
        return self.base_index + len(self._entries)

    @property
    def last_term(self) -> Term:
        """The term of the last entry."""
        return self._entries[-1].term if self._entries else self.base_term

    def term_at(self, index: Index) -> Term | None:
        """Return the term of an entry.

        Parameters
        ----------
        index : int
            Its index.

        Returns
        -------
        int or None
            Its term; None when the log has no such entry, or has dropped it.
        """
        if index == self.base_index:
            return self.base_term
        if self.base_index < index <= self.last_index:
            return self._entries[index - self.base_index - 1].term
        return None

    def entries(self, first: int, last: int) -> list[Entry]:
        """Return some entries.

        Parameters
        ----------
        first, last : int
            Their indexes, both included.

        Returns
        -------
        list of Entry
            The entries.
        """
        return self._entries[first - self.base_index - 1 : last - self.base_index]

    def batch(self, first: Index, bytes_max: int, last: Index | None = None) -> tuple[Entry, ...]:
        """Return as many entries as fit into so many bytes, but at least one.

        Parameters
        ----------
        first : int
            The index of the first one.
        bytes_max : int
            The size that they may have together.
        last : int, optional
            The index of the last one that may be among them; by default the last one of the log.

        Returns
        -------
        tuple of Entry
            The entries; none when the log ends before `first`.
        """
        start = end = first - self.base_index - 1
        stop = len(self._entries) if last is None else last - self.base_index
        room = bytes_max
        while end < stop:
            room -= entry_bytes(self._entries[end])
            if room < 0 and end > start:
                break
            end += 1
        return tuple(self._entries[start:end])

    def before_last_bytes(self, last: int, bytes_max: int) -> Index:
        """Find which entries, counted back from a given one, fit into some bytes.

        Parameters
        ----------
        last : int
            The index of the last one.
        bytes_max : int
            The size that they may have together.

        Returns
        -------
        int
            The index before the first entry that fits, together with all that follow it.
        """
        while last > self.base_index:
            bytes_max -= entry_bytes(self._entries[last - self.base_index - 1])
            if bytes_max < 0:
                break
            last -= 1
        return last

    def extend(self, entries: Sequence[Entry]) -> None:
        """Add entries at the end.

        Parameters
        ----------
        entries : sequence of Entry
            The entries.
        """
        for index, entry in enumerate(entries, self.last_index + 1):
            if entry.kind is _CONFIGURATION:
                self._configurations.append(InForce(index, _configuration_in(entry)))
                self._note_configuration()
        self._entries += entries

    def truncate(self, first: int) -> None:
        """Drop entries from the end, because they conflict with the leader's.

        Parameters
        ----------
        first : int
            The first index that is dropped.
        """
        del self._entries[first - self.base_index - 1 :]
        if self.configuration_index >= first:
            self._configurations[1:] = [known for known in self._configurations[1:] if known.since < first]
            self._note_configuration()

    def last_not_after(self, index: Index, term: Term) -> Index:
        """Find the last index at which two logs may still agree, skipping whole terms.

        Parameters
        ----------
        index : int
            The result is not after this index.
        term : int
            The entry there is not of a later term than this.

        Returns
        -------
        int
            The largest index up to `index` whose entry has a term up to `term`; less than the base index when the
            logs can agree only in entries that were dropped.
        """
        index = min(index, self.last_index)
        while index > self.base_index and self._entries[index - self.base_index - 1].term > term:
            index -= 1
        return index - 1 if index == self.base_index and self.base_term > term else index

    def drop_until(self, index: Index) -> None:
        """Drop entries from the beginning, because a snapshot covers them (Raft, section 7).

        Parameters
        ----------
        index : int
            The last index that is dropped; nothing happens when the log has no such entry.
        """
        term = self.term_at(index)
        if term is not None and index > self.base_index:
            del self._entries[: index - self.base_index]
            self.base_index, self.base_term = index, term
            self._configurations = self.configurations_since(index)

    def restart_after(self, index: Index, term: Term, configuration: Configuration | None = None) -> None:
        """Drop all entries, because a received snapshot goes beyond the log or conflicts with it (Raft, section 7).

        Parameters
        ----------
        index, term : int
            The last entry that the snapshot covers.
        configuration : Configuration, optional
            The snapshot's configuration; that with which the log began when it has none.
        """
        self._entries.clear()
        self.base_index, self.base_term = index, term
        self._configurations = [InForce(index, configuration or self._configurations[0].configuration)]
        self._note_configuration()


def _configuration_in(entry: Entry) -> Configuration:
    configuration = decode_configuration(entry.data)
    if configuration is None:
        raise ValueError(f"no configuration: {entry.data!r}")  # admission has checked those of other nodes
    return configuration
