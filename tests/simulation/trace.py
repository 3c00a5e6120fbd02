"""What happened in a life, one line for each message and each turn, in the manner of etcd raft's interaction traces.

A line of a message says when it arrived, from whom and to whom, what it says, and how long it was under way; or, at
the moment when it was dropped, why it was. ``t3`` is term 3, ``12/t3`` entry 12 of that term, ``#7`` the number by
which a leader, or a client, knows the answer again; ``n2`` is a node, ``c1`` a client. A turn, marked by a star, is
anything else: what a node does, and what is done to it. Fields that say nothing (0, no, empty) are left out. A piece
of a life, in which node 1 is elected while node 2 cannot hear it::

        5.112633  n1 → n2  VoteRequest t1 log ends with 0/t0                                               CUT OFF
        5.112845  n1 → n3  VoteRequest t1 log ends with 0/t0                                               0.21 ms
        5.114497  n3 → n1  VoteResponse t1 granted                                                         0.37 ms
        5.114497  * n1: BecameLeader(term=1)
        5.114497  n1 → n2  AppendEntriesRequest t1 #2 after 0/t0, work for 2.5 s: 1/t1 no-op               CUT OFF
        5.114664  n1 → n3  AppendEntriesRequest t1 #3 after 0/t0, work for 2.5 s: 1/t1 no-op               0.17 ms
        5.124239  n2 → n3  PreVoteRequest t1 round 1, log ends with 0/t0                                   0.26 ms
        5.124443  n3 → n2  PreVoteResponse t1 round 1 refused                                              0.20 ms
        5.160542  n3 → n1  AppendEntriesResponse t1 #3 has 1, promises 1 s                                 44.98 ms
        5.160542  * n1: StartWork(token=1, deadline=8122.8147)

The same seed gives the same lines, byte by byte, on every machine.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from trioraft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    ClientRequest,
    ClientResponse,
    Entry,
    EntryKind,
    FormationRequest,
    FormationResponse,
    FormationView,
    InstallSnapshotRequest,
    InstallSnapshotResponse,
    LeadershipEnded,
    PreVoteRequest,
    PreVoteResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
    format_id,
)

# A turn is (time, text); a message is (time, sent at, sender, receiver, message, why it was dropped or "").
_Entry = tuple[Any, ...]

# Bytes of an entry that are shown, and where a message's fate is written.
_SHOWN: Final = 12
_COLUMN: Final = 101


class Trace:
    """The newest entries, or all of them."""

    def __init__(self, limit: int | None) -> None:
        self.entries: deque[_Entry] = deque(maxlen=limit)

    def message(self, now: float, sent: float, sender: int, receiver: int, message: object, dropped: str) -> None:
        """Note that a message arrived, or why it did not."""
        self.entries.append((now, sent, sender, receiver, message, dropped))

    def turn(self, now: float, text: str) -> None:
        """Note anything else."""
        self.entries.append((now, text))

    def lines(self, messages: int | None = None) -> Iterator[str]:
        """Write the entries; with a number, those from that many messages before the end."""
        entries = list(self.entries)
        if messages is not None:
            marks = [place for place, entry in enumerate(entries) if len(entry) > 2]
            entries = entries[marks[-messages] :] if len(marks) > messages else entries
        for entry in entries:
            yield _turn_line(*entry) if len(entry) == 2 else _message_line(*entry)


def _turn_line(now: float, text: str) -> str:
    return f"{now:12.6f}  * {text}"


def _message_line(now: float, sent: float, sender: int, receiver: int, message: object, dropped: str) -> str:
    fate = dropped.upper() if dropped else f"{(now - sent) * 1000:.2f} ms"
    way = f"{name(sender)} → {name(receiver) if receiver else 'anybody'}"
    return f"{f'{now:12.6f}  {way}  {say(message)}':{_COLUMN}}  {fate}"


def name(node: int) -> str:
    """Write a node's id; those of the simulator are small, and those of clients negative."""
    return f"n{node}" if node >= 0 else f"c{-node}"


# --- messages -----------------------------------------------------------------------------------------------


def say(message: object) -> str:
    """Write a message: its name, its term, and what it says."""
    words = _WORDS.get(type(message))
    if words is None:
        return describe(message)
    term = f" t{message.term}" if hasattr(message, "term") else ""
    return f"{type(message).__name__}{term} {words(message)}"


def _append_entries(m: AppendEntriesRequest) -> str:
    told = f"#{m.sequence} after {_at(m.prev_log_index, m.prev_log_term)}"
    told += f", commit {m.commit_index}" if m.commit_index else ""
    return f"{told}{_work(m.work)}{':' * bool(m.entries)}{_entries(m.prev_log_index + 1, m.entries)}"


def _entries(first: int, entries: Iterable[Entry]) -> str:
    return "".join(f" {_at(index, entry.term)} {_entry(entry)}" for index, entry in enumerate(entries, first))


def _entry(entry: Entry) -> str:
    return _bytes(entry.data) if entry.kind is EntryKind.COMMAND else entry.kind.name.lower().replace("_", "-")


def _answer(m: AppendEntriesResponse) -> str:
    found = f"rejected, has {_at(m.hint_index, m.hint_term)}" if m.rejected else f"has {m.matched}"
    promise = f", promises {_number(m.promise)} s" if m.promise else ""
    return f"#{m.sequence} {found}{promise}{', would not lead' if m.last_choice else ''}"


def _install_snapshot(m: InstallSnapshotRequest) -> str:
    return f"of {_at(m.index, m.index_term)}, bytes {m.offset} to {m.offset + len(m.data)} of {m.size}"


def _part_answer(m: InstallSnapshotResponse) -> str:
    return f"of {m.index}, {'installed' if m.installed else f'has {m.offset} bytes'}"


def _pre_vote(m: PreVoteRequest) -> str:
    return f"round {m.round}, {_log_end(m.last_log_index, m.last_log_term)}"


def _vote_answer(m: VoteResponse) -> str:
    return f"{_granted(m.granted)}{f'{_work(m.work)} of t{m.work_term}' if m.work else ''}"


def _client_answer(m: ClientResponse) -> str:
    leader = f", {name(m.leader)} leads" if m.leader else ""
    if not m.done:
        return f"#{m.request} {m.code}: {m.detail}{leader}"
    opened = f", session {m.session}" if m.session else ""
    return f"#{m.request} done{opened}{f' {_bytes(m.data)}' if m.data else ''}{leader}"


def _granted(granted: bool) -> str:
    return "granted" if granted else "refused"


def _at(index: int, term: int) -> str:
    return f"{index}/t{term}"


def _log_end(index: int, term: int) -> str:
    return f"log ends with {_at(index, term)}"


def _work(seconds: float) -> str:
    return f", work for {_number(seconds)} s" if seconds else ""


# What is said of a message after its name and its term.
_WORDS: Final[dict[type, Callable[[Any], str]]] = {
    FormationView: lambda m: f"sees {_nodes(m.sees)}, expects {m.expect}",
    FormationRequest: lambda m: f"{_id(m.formation)} of {_nodes(m.members)}",
    FormationResponse: lambda m: f"{_id(m.formation)} {'promised' if m.promised else 'never'}",
    PreVoteRequest: _pre_vote,
    PreVoteResponse: lambda m: f"round {m.round} {_granted(m.granted)}",
    VoteRequest: lambda m: _log_end(m.last_log_index, m.last_log_term) + ", was offered the term" * m.transfer,
    VoteResponse: _vote_answer,
    TimeoutNow: lambda m: "lead now" + _work(m.work),
    LeadershipEnded: lambda m: f"its process has ended{', and all work' if m.work_ended else ''}",
    AppendEntriesRequest: _append_entries,
    AppendEntriesResponse: _answer,
    InstallSnapshotRequest: _install_snapshot,
    InstallSnapshotResponse: _part_answer,
    ClientRequest: lambda m: f"#{m.request} {describe(m.command)}",
    ClientResponse: _client_answer,
}


# --- anything else that has fields --------------------------------------------------------------------------


def describe(thing: object) -> str:
    """Write whatever has fields, without those that say nothing."""
    if not isinstance(thing, msgspec.Struct):
        return str(thing)
    return f"{type(thing).__name__}({', '.join(f'{field}={text}' for field, text in _fields(thing))})"


def outline(thing: msgspec.Struct) -> Iterator[str]:
    """Write the same in many lines."""
    return (f"{field}: {text}" for field, text in _fields(thing))


def _fields(thing: msgspec.Struct) -> Iterator[tuple[str, str]]:
    named = ((field, getattr(thing, field)) for field in thing.__struct_fields__)
    return ((field, _short(field, value)) for field, value in named if value or value is None)


def _short(field: str, value: object) -> str:
    if field in {"formation", "cluster", "promised", "heard"} and isinstance(value, int):
        return _id(value)
    if isinstance(value, bytes):
        return _bytes(value)
    if isinstance(value, tuple):
        return f"({', '.join(_short('', one) for one in value)})"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short('', one)}" for key, one in value.items())
    return _number(value) if isinstance(value, float) else describe(value)


def _number(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".")


def _id(value: int) -> str:
    return format_id(value)[:6]


def _nodes(nodes: Iterable[int]) -> str:
    return " ".join(map(name, nodes))


def _bytes(data: bytes) -> str:
    text = repr(data[:_SHOWN])[1:]
    return text if len(data) <= _SHOWN else f"{text}…{len(data)} bytes"
