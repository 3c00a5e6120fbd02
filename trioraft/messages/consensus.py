"""What nodes say to each other: greetings, formation, election, replication, and reads on followers."""

from typing import Annotated

from msgspec import Meta, Struct

from trioraft.messages.ids import (
    FIRST_VERSION,
    Counter,
    Id,
    Index,
    Members,
    Name,
    Nonce,
    Seconds,
    Term,
    Version,
)
from trioraft.messages.log import Entry

EphemeralValue = Annotated[bytes, Meta(max_length=32)]
Signature = Annotated[bytes, Meta(max_length=64)]

# --- who is there -------------------------------------------------------------------------------------------


class Hello(Struct, frozen=True, array_like=True, tag=1):
    """Introduce the sender, and prove that it is there now.

    Three of them make a handshake: ``challenge`` → ``challenge, echo`` → ``echo``. Each side trusts the address and
    the process of the other one only when its own fresh challenge comes back.

    Attributes
    ----------
    service : str
        The service name that all nodes of one cluster share (``APP_NAME``). Empty, as `name` is then, where an
        answer would otherwise be larger than what it answers.
    name : str
        The sender's name as people know it, such as ``node-1``.
    challenge : bytes
        The challenge that the receiver has to echo; empty when the sender asks for nothing.
    echo : bytes
        The receiver's own challenge; empty when there is none.
    token : bytes
        The token that the receiver has to put into every datagram that it sends unsealed; empty when sealed.
    padding : bytes
        Bytes that make the first ``Hello`` at least as large as its answer, so that no node can be used to multiply
        traffic.
    lowest, highest : int
        The versions of the protocol that the sender speaks (:mod:`trioraft.versions`); those of a member are not
        below the version of its cluster.
    ephemeral : bytes
        An X25519 value of the sender's process, 32 bytes (:mod:`trioraft.datagrams.sealing`); empty when unsealed,
        and where `service` is.
    signature : bytes
        An Ed25519 signature of a node for a client, 64 bytes (:mod:`trioraft.datagrams.sealing`); empty when there is
        none.
    """

    service: Name
    name: Name
    challenge: Nonce = b""
    echo: Nonce = b""
    token: Nonce = b""
    padding: bytes = b""
    lowest: Version = FIRST_VERSION
    highest: Version = FIRST_VERSION
    ephemeral: EphemeralValue = b""
    signature: Signature = b""


# --- formation ----------------------------------------------------------------------------------------------


class FormationView(Struct, frozen=True, array_like=True, tag=2):
    """Report which nodes a node without a cluster sees. It changes nothing durable.

    Attributes
    ----------
    sees : tuple of int
        The ids of all nodes without a cluster that the sender has heard of lately, its own among them.
    expect : int
        The sender's ``BOOTSTRAP_EXPECT``; 0 when it never forms a cluster, but joins one.
    """

    sees: Members
    expect: Counter


class FormationRequest(Struct, frozen=True, array_like=True, tag=3):
    """Report that the sender has promised a formation, and ask the receiver to promise it too.

    Attributes
    ----------
    formation : int
        The random id of the formation, which becomes the cluster id when all have promised it.
    members : tuple of int
        All members, in ascending order.
    """

    formation: Id
    members: Members


class FormationResponse(Struct, frozen=True, array_like=True, tag=4):
    """Answer a :class:`FormationRequest`.

    Attributes
    ----------
    formation : int
        The formation that was asked for.
    promised : bool
        Whether the sender has promised it; False is a durable statement that it never will.
    """

    formation: Id
    promised: bool


# --- election -----------------------------------------------------------------------------------------------


class PreVoteRequest(Struct, frozen=True, array_like=True, tag=5):
    """Ask whether an election could be won (thesis 9.6).

    Attributes
    ----------
    term : int
        The term that the election would have.
    round : int
        The number of the sender's round, so that an answer to an earlier one does not count.
    last_log_index, last_log_term : int
        The end of the sender's log.
    """

    term: Term
    round: Counter
    last_log_index: Index
    last_log_term: Term


class PreVoteResponse(Struct, frozen=True, array_like=True, tag=6):
    """Answer a :class:`PreVoteRequest`.

    Attributes
    ----------
    term : int
        The sender's own term.
    round : int
        The round that was asked about.
    granted : bool
        Whether the sender would vote for the receiver now.
    """

    term: Term
    round: Counter
    granted: bool


class VoteRequest(Struct, frozen=True, array_like=True, tag=7):
    """Ask for a vote (Raft, figure 2: RequestVote).

    Attributes
    ----------
    term : int
        The candidate's term.
    last_log_index, last_log_term : int
        The end of the candidate's log.
    transfer : bool
        Whether the leader of the term directly before gave its leadership to the candidate. Such a vote is granted
        although the voter heard from that leader a moment ago.
    """

    term: Term
    last_log_index: Index
    last_log_term: Term
    transfer: bool


class VoteResponse(Struct, frozen=True, array_like=True, tag=8):
    """Answer a :class:`VoteRequest`.

    Attributes
    ----------
    term : int
        The sender's own term.
    granted : bool
        Whether the candidate has the sender's vote in that term.
    work : float
        How long, from now on, leader work of `work_term` or of a term before it may still run.
    work_term : int
        The term of the last leader that the sender remembers.
    """

    term: Term
    granted: bool
    work: Seconds
    work_term: Term


class TimeoutNow(Struct, frozen=True, array_like=True, tag=9):
    """Transfer leadership to the receiver (thesis 3.10). The sender has no lease, and runs no leader work any more.

    Attributes
    ----------
    term : int
        The sender's term. The receiver may start an election in the term directly after, and in no other.
    work : float
        How long leader work of this term or an earlier one may still run; 0 when all has ended.
    """

    term: Term
    work: Seconds


class LeadershipEnded(Struct, frozen=True, array_like=True, tag=22):
    """Tell the voters that the process by which the sender led a term has ended (:mod:`trioraft.consensus.endings`).

    Attributes
    ----------
    term : int
        The term. The sender, started again, leads it no more, and holds no lease of it.
    work_ended : bool
        Whether all leader work of that term and of all terms before has ended too.
    """

    term: Term
    work_ended: bool


# --- replication --------------------------------------------------------------------------------------------


class AppendEntriesRequest(Struct, frozen=True, array_like=True, tag=10):
    """Replicate entries; a request without entries is the heartbeat (Raft, figure 2).

    Attributes
    ----------
    term : int
        The leader's term.
    sequence : int
        The number of the message among the leader's in this term; the answer names it.
    work : float
        How long after this message leader work of this term or an earlier one may still run.
    prev_log_index, prev_log_term : int
        The entry before the new ones. A heartbeat is the same for all followers, and has the newest committed entry.
    commit_index : int
        The leader's commit index.
    entries : tuple of Entry
        The new entries.
    """

    term: Term
    sequence: Counter
    work: Seconds
    prev_log_index: Index
    prev_log_term: Term
    commit_index: Index
    entries: tuple[Entry, ...] = ()


class AppendEntriesResponse(Struct, frozen=True, array_like=True, tag=11):
    """Answer an :class:`AppendEntriesRequest`.

    Attributes
    ----------
    term : int
        The sender's own term.
    sequence : int
        The message that is answered.
    promise : float
        How long, from the receipt of that message on, the sender refuses to vote for anybody else; 0 in a refusal.
    matched : int
        The index up to which the sender's log is the same as the leader's, and on disk.
    last_choice : bool
        Whether another node should rather lead, because the leader script failed here lately.
    hint_index, hint_term : int
        The last index at which the logs may agree, and the term of the sender's entry there, when the sender does not
        have the entry before the new ones; else 0.
    rejected : bool
        Whether the sender did not have the entry before the new ones.
    """

    term: Term
    sequence: Counter
    promise: Seconds
    matched: Index
    last_choice: bool
    hint_index: Index = 0
    hint_term: Term = 0
    rejected: bool = False


class InstallSnapshotRequest(Struct, frozen=True, array_like=True, tag=16):
    """Send a part of a snapshot to a follower that needs entries the leader has dropped (Raft, section 7).

    Attributes
    ----------
    term : int
        The leader's term.
    index, index_term : int
        The last entry that the snapshot covers.
    size : int
        The size of the whole, in bytes.
    checksum : int
        CRC-32 of the whole.
    offset : int
        Where this part begins, in bytes.
    data : bytes
        The part.
    configuration : bytes
        The configuration after that entry, as entries have it; empty when it is the formation's.
    """

    term: Term
    index: Index
    index_term: Term
    size: Counter
    checksum: Counter
    offset: Counter
    data: bytes = b""
    configuration: bytes = b""


class InstallSnapshotResponse(Struct, frozen=True, array_like=True, tag=17):
    """Answer an :class:`InstallSnapshotRequest`.

    Attributes
    ----------
    term : int
        The sender's own term.
    index : int
        The snapshot that is answered for.
    offset : int
        The number of bytes, from the beginning on, that the sender has.
    installed : bool
        Whether all that the snapshot covers is in its log or state, on disk.
    """

    term: Term
    index: Index
    offset: Counter
    installed: bool


# --- reads on followers -------------------------------------------------------------------------------------


class ReadIndexRequest(Struct, frozen=True, array_like=True, tag=18):
    """Ask the leader for the index up to which the log must be applied for a linearizable read (thesis 6.4).

    Attributes
    ----------
    read : int
        The number of the sender's round of reads; the answer names it.
    """

    read: Counter


class ReadIndexResponse(Struct, frozen=True, array_like=True, tag=19):
    """Answer a :class:`ReadIndexRequest`.

    Attributes
    ----------
    read : int
        The round that is answered.
    done : bool
        Whether the sender leads, and has confirmed that since it was asked.
    index : int
        The read index.
    """

    read: Counter
    done: bool
    index: Index = 0
