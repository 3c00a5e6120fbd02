"""Rules taken out of the specification, one at a time; TLC must notice each, or the specification shows nothing."""

from dataclasses import dataclass
from typing import Final

from tests.specification.tlc import FOLDER


@dataclass(frozen=True)
class Mutation:
    """One change to a module.

    Attributes
    ----------
    name : str
        What is wrong then.
    module : str
        The module.
    old, new : str
        The text that is there once, and the one that takes its place.
    violates : tuple of str
        The invariants of which TLC may name one.
    bounds : str
        The bounds within which it shows.
    root : str
        The module that is checked, when it is not the changed one but one that extends it.
    """

    name: str
    module: str
    old: str
    new: str
    violates: tuple[str, ...]
    bounds: str = "bounded"
    root: str = ""

    def texts(self) -> dict[str, str]:
        """Give the changed module's text by its name."""
        original = (FOLDER / f"{self.module}.tla").read_text()
        if original.count(self.old) != 1:
            raise ValueError(f"{self.module}.tla has {self.old!r} {original.count(self.old)} times, not once")
        return {self.module: original.replace(self.old, self.new)}


_FORMATION: Final = ("OneFormation", "PromiseKept", "MemberOfStanding")
_LEASE: Final = ("OneLease", "PromiseKept")

_ELECTION: Final = ("OneLeader", "OneVote", "LeadsOnDisk")

MUTATIONS: Final = (
    Mutation(
        "the vote is forgotten on restart",
        "Election",
        "  /\\ disk' = IF many = 0 THEN disk ELSE [disk EXCEPT ![n] = unwritten[n][many]]\n  /\\ unwritten' = "
        "[unwritten EXCEPT ![n] = <<>>]",
        "  /\\ disk' = [disk EXCEPT ![n].voted = None]\n  /\\ unwritten' = [unwritten EXCEPT ![n] = <<>>]",
        _ELECTION,
    ),
    Mutation(
        "a node votes for whoever asks",
        "Election",
        r"now.voted \in {None, r.from} /\ r.log",
        "r.log",
        _ELECTION,
    ),
    Mutation(
        "a vote is said before it is on disk",
        "Election",
        r'                /\ m.kind = "VoteResponse" /\ m.granted => disk[m.from].voted = m.to' "\n",
        "",
        _ELECTION,
    ),
    Mutation(
        "messages leave before what they say is on disk",
        "Election",
        r"Arrives(m) == m \in messages /\ OnDisk(m)",
        r"Arrives(m) == m \in messages",
        _ELECTION,
    ),
    Mutation(
        "a voter that heard from a leader votes in a later term",
        "Election",
        r"MayVote(n) == ~Leads(n) /\ refuse[n] <= Slack",
        "MayVote(n) == ~Leads(n)",
        ("OneLease", "PromiseKept"),
        bounds="lease",
    ),
    Mutation(
        "a promise is forgotten on restart",
        "Election",
        "IF disk'[n].promised THEN Lower ELSE 0",
        "0",
        ("OneLease", "PromiseKept"),
        bounds="lease",
    ),
    Mutation(
        "who asks for a pre-vote in an old term does not learn the newer one",
        "Election",
        'kind |-> "PreVoteResponse", from |-> n, to |-> r.from, term |-> Term(n)',
        'kind |-> "PreVoteResponse", from |-> n, to |-> r.from, term |-> Min(Term(n), r.term - 1)',
        ("HasLeader",),
        root="Recovery",
    ),
    Mutation(
        "a leader of an old term does not learn the newer one",
        "Election",
        "to |-> h.from, term |-> Term(n),\n                    number |-> None",
        "to |-> h.from, term |-> h.term,\n                    number |-> None",
        ("HasLeader",),
        root="Recovery",
    ),
    Mutation(
        "a leader leads on although a follower knows a newer term",
        "Election",
        "HandleAppendEntriesResponse(n, r) ==\n  /\\ r.to = n\n"
        "  /\\ IF r.term > Term(n) THEN BecomeFollower(n, r.term)",
        "HandleAppendEntriesResponse(n, r) ==\n  /\\ r.to = n\n  /\\ IF r.term > Term(n) THEN Nothing",
        ("HasLeader",),
        root="Recovery",
    ),
    Mutation(
        "who once promised anything may refuse for ever",
        "Election",
        r"MayRefuse(n) == Leads(n) \/ refuse[n] > 0",
        r"MayRefuse(n) == Leads(n) \/ disk[n].promised",
        ("HasLeader",),
        root="Recovery",
    ),
    Mutation(
        "two formations are promised at once",
        "Formation",
        r"Free(n) == ~Formed(n) /\ memory[n].promised = None",
        "Free(n) == ~Formed(n)",
        _FORMATION,
    ),
    Mutation(
        "the promise of a formation is forgotten on restart",
        "Formation",
        "memory' = [memory EXCEPT ![n] = disk[n]]",
        "memory' = [memory EXCEPT ![n] = [disk[n] EXCEPT !.promised = None]]",
        _FORMATION,
    ),
    Mutation(
        "what depends on the disk is said before it is there",
        "Formation",
        "disk' = [disk EXCEPT ![n] = held[n][many].state]",
        r"disk' \in {disk, [disk EXCEPT ![n] = held[n][many].state]}",
        _FORMATION,
    ),
    Mutation(
        "a refusal is not written down",
        "Formation",
        r"!.never = IF Formed(n) THEN {} ELSE @ \union {f}",
        "!.never = @",
        _FORMATION,
    ),
    Mutation(
        "an old refusal is forgotten for a new one",
        "Formation",
        "never == IF Full(n) THEN memory[n].never ELSE",
        "never == IF Full(n) THEN {f} ELSE",
        _FORMATION,
        bounds="refusals",
    ),
    Mutation(
        "a voter that heard from a leader votes",
        "LeaderWork",
        r"Sticky(n) == Leads(n) \/ refuse[n] > 0",
        "Sticky(n) == Leads(n)",
        _LEASE,
    ),
    Mutation(
        "the promise to a leader is forgotten on restart",
        "LeaderWork",
        "refuse' = [refuse EXCEPT ![n] = longest[n]]",
        "refuse' = [refuse EXCEPT ![n] = 0]",
        _LEASE,
    ),
    Mutation(
        "a leader keeps its lease after it has offered its leadership",
        "LeaderWork",
        r'IF Leads(n) /\ handover[n] # "offered" THEN',
        "IF Leads(n) THEN",
        _LEASE,
    ),
    Mutation(
        "an offer of leadership is taken up in a later term",
        "LeaderWork",
        "o.term = term[n]",
        "o.term <= term[n]",
        _LEASE,
        bounds="terms",
    ),
    Mutation(
        "a new leader does not wait for earlier work to end",
        "LeaderWork",
        "                /\\ work[n] = 0\n",
        "",
        ("ExclusiveWork",),
    ),
    Mutation(
        "a voter forgets on restart what was claimed",
        "LeaderWork",
        "work' = [work EXCEPT ![n] = claimed[n]]",
        "work' = [work EXCEPT ![n] = 0]",
        ("ExclusiveWork",),
    ),
    Mutation(
        "a vote does not tell what remains of earlier work",
        "LeaderWork",
        "to |-> r.from, work |-> work[n]]",
        "to |-> r.from, work |-> 0]",
        ("ExclusiveWork",),
    ),
    Mutation(
        "a leader does not write down its own claim",
        "LeaderWork",
        r"claimed = [n \in Node |-> IF n = first THEN Claim ELSE 0]",
        r"claimed = [n \in Node |-> 0]",
        ("ExclusiveWork",),
    ),
    Mutation(
        "a leader that was killed says that its work has ended while it runs",
        "LeaderWork",
        "     /\\ runs' = [runs EXCEPT ![n] = 0]\n     /\\ former' = [former EXCEPT ![n] = 0]\n     /\\ ends'",
        "     /\\ runs' = runs\n     /\\ former' = [former EXCEPT ![n] = 0]\n     /\\ ends'",
        ("ExclusiveWork",),
        bounds="endings",
    ),
    Mutation(
        "a follower that was killed says that the leader leads no more",
        "LeaderWork",
        """IF mine[n] = "no" THEN ends\n                         ELSE ends""",
        """IF about[n] = 0 THEN ends\n                         ELSE ends""",
        _LEASE,
        bounds="endings",
    ),
    Mutation(
        "the end of another leadership ends a promise and a claim",
        "LeaderWork",
        r"IsLatest(n, e) == ~Leads(n) /\ e.term = about[n]",
        r"IsLatest(n, e) == ~Leads(n)",
        (*_LEASE, "ExclusiveWork"),
        bounds="endings",
    ),
    Mutation(
        "a claim leaves out how long work takes to end",
        "LeaderWork",
        "Claim == Lower + Grace",
        "Claim == Lower",
        ("ExclusiveWork",),
    ),
)
