"""Terms far above a member's own, and how it comes to know one, although no single message can give it that.

A message of a term more than `TERM_STEP` above one's own is dropped (:mod:`trioraft.consensus.numbers`). Three kinds
of nodes meet such a term although nobody lies:

* a *fresh* node, which knows no term, in a cluster that was recovered or restored: its terms begin 2**32 higher;
* a fresh node in a cluster that has had more than a million elections;
* a member that was away for that many.

Such a node *asks*. It sends the question of a pre-vote, which changes nothing where it comes, and is answered by each
member of every release with its own term. It takes a term over only when enough of the cluster have said that they
know it or a later one:

1. Whoever knows the voters asks them, and believes what a majority of the *others* says, two of them at least. For a
   leader of a far term was elected by a majority, all of which has that term on disk. So in a cluster of three or
   more a single liar, or the leader's word alone, is not enough, and what is true is said by enough of them.
2. Whoever knows no voters asks those that it reaches, and waits for a lower election timeout, so that all can answer.
   Then it believes what most of those say that are members of its cluster and have a term at all: others that are as
   fresh as itself know nothing either. The same is done, after ten upper election timeouts without any leader, by a
   member whose voters have left meanwhile or do not answer: else a cluster of which a part is lost would stand still.

The only voter of a cluster believes nobody: no leader is elected without its own vote.

Whoever leads, or heard from a leader a moment ago, needs no other term and does not ask; a leader that is followed
ends the search. Of what one node says in the course of it the lowest term counts: terms only grow, so whoever is
truthful says less first, and who speaks in another one's name is contradicted by that one.

Even then no term above `TERM_FAR_MAX` is taken, however many say it. So what the worst can make of it, a majority of
liars or a fresh node that reaches nobody else, is a large number and never the end: 2**61 elections and half a
billion recoveries are left. And as each step from there is a message of its own and a write to the disk, the last
term is not reached in the lifetime of a cluster.
"""

from collections.abc import Collection
from typing import Final

from trioraft.consensus.lease import is_sticky
from trioraft.consensus.numbers import is_far
from trioraft.consensus.roles import become_follower
from trioraft.consensus.state import FarTerms, State
from trioraft.messages import MEMBERS_MAX, Instant, NodeId, PreVoteRequest, Term

TERM_FAR_MAX: Final = 2**61
# After so many upper election timeouts without a leader the words of those count that answer, whoever they are.
_PATIENCE: Final = 10


def hear_far_term(s: State, sender: NodeId, term: Term, peers: Collection[NodeId], now: Instant) -> None:
    """Note that a node knows a far term, ask others for theirs, and take one over that enough of them know.

    Parameters
    ----------
    s : State
        The member's state.
    sender : int
        Who said it.
    term : int
        The far term.
    peers : collection of int
        The nodes that can be reached, for whoever knows no voters.
    now : float
        The time in seconds.
    """
    if is_sticky(s, now) or term > TERM_FAR_MAX:
        return
    far = s.far_terms
    if far is None or now - far.since > 2 * _PATIENCE * s.timing.upper:
        far = s.far_terms = FarTerms(since=now)
    if now - far.asked_at >= s.timing.lower:
        far.asked_at = now
        question = PreVoteRequest(
            term=s.term + 1, round=0, last_log_index=s.log.last_index, last_log_term=s.log.last_term
        )
        for node in {*(s.other_electors or sorted(peers)[:MEMBERS_MAX]), sender} - {s.id}:
            s.ledger.send(node, question)
    hear_term(s, sender, term, now)


def is_usual(s: State, now: Instant) -> bool:
    """Tell whether a far term is nothing that anybody should look at: a fresh node is about to learn its first one.

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
    """Note which term a node knows, while this one looks for a far one.

    Parameters
    ----------
    s : State
        The member's state.
    sender : int
        Who said it.
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
    """Find the highest term that enough of the cluster have said to know; 0 while too few have answered."""
    others = s.other_electors
    if s.configuration.electors == (s.id,):
        return 0  # nobody is elected without the vote of the only voter
    has_waited = now - far.since >= (_PATIENCE * s.timing.upper if others else s.timing.lower)
    if has_waited:
        said = [term for term in far.said.values() if term > 0]
        needed = len(said) // 2 + 1
    else:
        said = [far.said[node] for node in others if node in far.said]
        needed = max(len(others) // 2 + 1, 2)
    return sorted(said, reverse=True)[needed - 1] if len(said) >= needed else 0
