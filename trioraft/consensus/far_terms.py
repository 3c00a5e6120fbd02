"""Terms far above a member's own: how a member learns one, although it takes none from a single message.

A message of a term more than `TERM_STEP` above one's own is dropped (:mod:`trioraft.consensus.numbers`). Three kinds
of nodes meet such a term although nobody lies:

* a *fresh* node, which knows no term, in a cluster that was recovered or restored: its terms begin 2**32 higher;
* a fresh node in a cluster that has had more than a million elections;
* a member that was away for more than a million elections.

Such a node *asks* other nodes for their terms. It sends the question of a pre-vote: the question changes nothing at
its receiver, and a member of any release answers it with its own term. The number of the question is drawn at random
for each search, and a far term counts only in an answer that repeats it. So whoever speaks in the name of a node that
cannot be reached is not believed: that node has not got the question. The asking node adopts a term only when enough
nodes of the cluster have answered that they know that term or a later one:

1. A node that knows the voters asks them, and believes what a majority of the *other* voters says, and at least two
   of them. A leader of a far term was elected by a majority, and each of that majority has the term on disk. So a
   true term is named by enough voters; and in a cluster of three or more neither a single liar nor the leader alone
   is enough.
2. A node that knows no voters asks all nodes that it reaches, and waits for a lower election timeout, so that all can
   answer. Then it believes what most of the answers say that come from members of its cluster and name a term above
   0: other nodes may be as fresh as itself, and know no term either. A member does the same after ten upper election
   timeouts without any leader, when its voters have left meanwhile or do not answer: otherwise a cluster that has
   lost a part of its nodes would stand still.

The only voter of a cluster believes no other node, because no leader is elected without its own vote.

A node that leads, or that heard from a leader a moment ago, needs no other term and does not ask; and a node that
begins to follow a leader ends its search. If one node names several terms during a search, the lowest one counts.
Terms only grow, so a truthful node names a lower term before a higher one; and a liar that speaks in the name of a
truthful node is contradicted by it.

Even then no term above `TERM_FAR_MAX` is adopted, however many nodes name it. So the worst case, a majority of liars
or a fresh node that reaches nobody but a liar, yields a large term and never the last one: 2**61 elections and half a
billion recoveries are left. Each step from there takes a message of its own and a write to the disk, so the last term
is not reached in the lifetime of a cluster.
"""

from collections.abc import Collection
from typing import Final

from trioraft.consensus.lease import is_sticky
from trioraft.consensus.numbers import is_far
from trioraft.consensus.roles import become_follower
from trioraft.consensus.state import FarTerms, State
from trioraft.messages import MEMBERS_MAX, Instant, NodeId, PreVoteRequest, PreVoteResponse, Term

TERM_FAR_MAX: Final = 2**61
# After so many upper election timeouts without a leader the terms count of all nodes that answer, voters or not.
_PATIENCE: Final = 10
# Nobody guesses a number of so many bits while a search lasts.
_QUESTION_BITS: Final = 62


def hear_far_term(
    s: State, sender: NodeId, term: Term, peers: Collection[NodeId], now: Instant, *, answers: bool
) -> None:
    """Note that a node knows a far term, ask other nodes for theirs, and adopt a term that enough of them know.

    Parameters
    ----------
    s : State
        The member's state.
    sender : int
        The node that knows it.
    term : int
        The far term.
    peers : collection of int
        The nodes that can be reached; a node that knows no voters asks these.
    now : float
        The time in seconds.
    answers : bool
        Whether this answers the question of this search; anything else may begin a search, and names no term.
    """
    if is_sticky(s, now) or term > TERM_FAR_MAX:
        return
    far = s.far_terms
    if far is None or now - far.since > 2 * _PATIENCE * s.timing.upper:
        far = s.far_terms = FarTerms(since=now, question=s.random.getrandbits(_QUESTION_BITS))
        answers = False
    if now - far.asked_at >= s.timing.lower:
        far.asked_at = now
        question = PreVoteRequest(
            term=s.term + 1, round=far.question, last_log_index=s.log.last_index, last_log_term=s.log.last_term
        )
        for node in {*(s.other_electors or sorted(peers)[:MEMBERS_MAX]), sender} - {s.id}:
            s.ledger.send(node, question)
    if answers:
        hear_term(s, sender, term, now)


def answers_search(s: State, response: PreVoteResponse) -> bool:
    """Check whether a message answers the question of this node's search for a far term.

    Parameters
    ----------
    s : State
        The member's state.
    response : PreVoteResponse
        The message.

    Returns
    -------
    bool
        Whether it does.
    """
    return s.far_terms is not None and response.round == s.far_terms.question


def is_usual(s: State, now: Instant) -> bool:
    """Check whether a far term needs no attention, because a fresh node is about to learn its first term.

    Parameters
    ----------
    s : State
        The member's state.
    now : float
        The time in seconds.

    Returns
    -------
    bool
        Whether it is.
    """
    return s.term == 0 and s.far_terms is not None and now - s.far_terms.since < 2 * s.timing.upper


def hear_term(s: State, sender: NodeId, term: Term, now: Instant) -> None:
    """Note the term that a node knows, while this node searches for a far one.

    Parameters
    ----------
    s : State
        The member's state.
    sender : int
        The node.
    term : int
        Its term.
    now : float
        The time in seconds.
    """
    far = s.far_terms
    if far is None:
        return
    if sender in far.said or sender in s.configuration.electors or len(far.said) < MEMBERS_MAX:
        far.said[sender] = min(term, far.said.get(sender, term))
    known = known_by_enough(s, far, now)
    if is_far(s, known):
        s.far_terms = None
        become_follower(s, known, now, f"most of the cluster know term {known}")


def known_by_enough(s: State, far: FarTerms, now: Instant) -> Term:
    """Find the highest term that enough of the cluster know; 0 while too few have answered."""
    others = s.other_electors
    if s.configuration.electors == (s.id,):
        return 0  # no leader is elected without the vote of the only voter
    has_waited = now - far.since >= (_PATIENCE * s.timing.upper if others else s.timing.lower)
    if has_waited:
        said = [term for term in far.said.values() if term > 0]
        needed = len(said) // 2 + 1
    else:
        said = [far.said[node] for node in others if node in far.said]
        needed = max(len(others) // 2 + 1, 2)
    return sorted(said, reverse=True)[needed - 1] if len(said) >= needed else 0
