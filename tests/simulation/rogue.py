"""Messages with numbers that no member can mean, as one that has gone wrong may send them, under any name.

Each message would be taken but for one number. That is drawn: it is one that no log and no clock reaches, or just
beyond what is allowed. All must be dropped, whatever the receiver is doing then; or be of
no use, where a number is only looked up.
"""

import random
from collections.abc import Iterator
from typing import Final

import msgspec

from trioraft.consensus import Core
from trioraft.consensus.numbers import CLAIM_MAX, INDEX_MAX, PROMISE_MAX, SEQUENCE_MAX, SIZE_MAX, TERM_STEP
from trioraft.messages import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    ConsensusMessage,
    Entry,
    EntryKind,
    FormationRequest,
    FormationView,
    InstallSnapshotRequest,
    InstallSnapshotResponse,
    PreVoteRequest,
    PreVoteResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)

_HUGE: Final = 2**62
# Answers to what was never sent: such a number is looked up, and not found.
_UNSENT: Final = 2**45
# A term and a log grow by less while a message is on its way.
_ON_THE_WAY: Final = 10**6


def rogue_messages(core: Core, chance: random.Random) -> list[ConsensusMessage]:
    """Make one of each kind for a node."""
    makers = (_of_a_leader, _of_a_follower, _of_a_snapshot, _of_an_election, _of_a_formation)
    return [message for make in makers for message in make(core, chance)]


def second_leader(core: Core) -> AppendEntriesRequest:
    """Make what the leader of a node's term may say, for somebody who is not that."""
    log = core.state.log if core.state is not None else None
    last, last_term = (log.last_index, log.last_term) if log is not None else (0, 0)
    return AppendEntriesRequest(core.term, 1, 1.0, last, last_term, last)


def _above(chance: random.Random, bound: int) -> int:
    return chance.choice((bound + 1, bound + 1 + chance.randrange(bound + 1), _HUGE - 1, _HUGE))


def _long(chance: random.Random, bound: float) -> float:
    return chance.choice((bound + 1, bound * 100, 1e8))


def _far(core: Core, chance: random.Random) -> int:
    """Draw a term; a fresh node knows none, and looks for one that its cluster may really have."""
    return _above(chance, core.term + TERM_STEP + _ON_THE_WAY) if core.term else _HUGE


def _end(core: Core, term: int) -> tuple[int, int]:
    """Tell where a log ends that nobody minds before an entry of a term."""
    log = core.state.log if core.state is not None else None
    return (log.last_index, min(log.last_term, max(term - 1, 0))) if log is not None else (0, 0)


def _but(message: ConsensusMessage, **fields: object) -> ConsensusMessage:
    return msgspec.structs.replace(message, **fields)


def _of_a_leader(core: Core, chance: random.Random) -> Iterator[ConsensusMessage]:
    term = core.term + chance.choice((0, 0, 1, 2))
    append = _but(second_leader(core), term=term, prev_log_term=_end(core, term)[1])
    yield _but(append, term=_far(core, chance))
    yield _but(append, work=_long(chance, CLAIM_MAX))
    yield _but(append, sequence=_above(chance, SEQUENCE_MAX))
    yield _but(append, commit_index=_above(chance, INDEX_MAX))
    yield _but(append, prev_log_index=_above(chance, INDEX_MAX))
    yield _but(append, prev_log_term=_above(chance, term))
    yield _but(append, entries=(Entry(_above(chance, term), EntryKind.NO_OP),))
    yield _but(append, entries=(Entry(term, EntryKind.NO_OP), Entry(_above(chance, term), EntryKind.NO_OP)))


def _of_a_follower(core: Core, chance: random.Random) -> Iterator[ConsensusMessage]:
    last, _ = _end(core, core.term)
    newest = core.state.sequence if core.state is not None else 0  # heartbeats say it to every follower
    appended = AppendEntriesResponse(core.term, newest, 1.0, last, last_choice=False)
    yield _but(appended, term=_far(core, chance), sequence=_UNSENT)
    yield _but(appended, promise=_long(chance, PROMISE_MAX))
    yield _but(appended, matched=_above(chance, INDEX_MAX))
    if core.role == "leader":
        yield _but(appended, matched=_above(chance, last + _ON_THE_WAY))
    yield _but(appended, hint_index=_above(chance, INDEX_MAX), rejected=True)
    yield _but(appended, hint_term=_above(chance, core.term), rejected=True)
    yield _but(appended, sequence=_above(chance, _UNSENT))


def _of_a_snapshot(core: Core, chance: random.Random) -> Iterator[ConsensusMessage]:
    term = core.term + chance.choice((0, 1, 2))
    last, _ = _end(core, term)
    part = InstallSnapshotRequest(term, last + 10, term, 3, 0, 0, b"abc")
    yield _but(part, term=_far(core, chance))
    yield _but(part, index=_above(chance, INDEX_MAX))
    yield _but(part, index_term=_above(chance, term))
    yield _but(part, size=_above(chance, SIZE_MAX))
    yield _but(part, offset=_above(chance, 3))
    yield _but(part, checksum=_above(chance, 2**32))
    installed = InstallSnapshotResponse(core.term, last, 0, installed=False)
    yield _but(installed, term=_far(core, chance))
    yield _but(installed, index=_above(chance, INDEX_MAX), installed=True)
    yield _but(installed, offset=_above(chance, SIZE_MAX))


def _of_an_election(core: Core, chance: random.Random) -> Iterator[ConsensusMessage]:
    last, last_term = _end(core, core.term + 1)
    yield PreVoteRequest(_far(core, chance), 1, last, last_term)
    yield PreVoteRequest(core.term + 1, _HUGE, last, _above(chance, core.term))
    yield PreVoteRequest(core.term + 1, 1, _above(chance, INDEX_MAX), last_term)
    yield PreVoteResponse(_far(core, chance), 1, granted=True)
    yield PreVoteResponse(core.term, _HUGE, granted=True)
    yield VoteRequest(_far(core, chance), last, last_term, transfer=True)
    yield VoteRequest(core.term + 1, last, _above(chance, core.term), transfer=True)
    yield VoteRequest(core.term + 1, _above(chance, INDEX_MAX), last_term, transfer=True)
    yield VoteResponse(_far(core, chance), granted=True, work=0.0, work_term=0)
    yield VoteResponse(core.term, granted=True, work=_long(chance, CLAIM_MAX), work_term=0)
    yield VoteResponse(core.term, granted=True, work=0.0, work_term=_above(chance, core.term))
    yield TimeoutNow(core.term, _long(chance, CLAIM_MAX))
    yield TimeoutNow(_far(core, chance), 0.0)


def _of_a_formation(core: Core, chance: random.Random) -> Iterator[ConsensusMessage]:
    yield FormationView((), _above(chance, 100))
    yield FormationRequest(_HUGE, (core.id, core.id))
