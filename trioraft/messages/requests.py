"""What clients ask nodes to do: commands, requests and their answers."""

import enum
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from trioraft.messages.ids import Counter, Id, Index, Name, NodeId, OptionalNodeId, Term

REQUEST_TAG: Final = 14
# The tags of messages that are put together from encoded ones.
REQUESTS_TAG: Final = 20
RESPONSES_TAG: Final = 21


class Transfer(Struct, frozen=True, array_like=True, tag=1):
    """Ask the leader to give its leadership to another node.

    Attributes
    ----------
    to : int
        The node that is to lead; 0 for the one that suits best.
    """

    to: OptionalNodeId = 0


class AbandonFormation(Struct, frozen=True, array_like=True, tag=2):
    """Ask a forming node to give up the formation it has promised.

    Attributes
    ----------
    formation : int
        The formation that is to be given up.
    """

    formation: Id


class OpenSession(Struct, frozen=True, array_like=True, tag=3):
    """Ask the leader to open a session, in which every command is carried out once (thesis 6.3)."""


class EndSession(Struct, frozen=True, array_like=True, tag=4):
    """Ask the leader to end a session.

    Attributes
    ----------
    session : int
        The session.
    """

    session: Counter


class KeepSession(Struct, frozen=True, array_like=True, tag=5):
    """Report to the leader that the client is still there.

    Attributes
    ----------
    session : int
        Its session.
    """

    session: Counter


class Propose(Struct, frozen=True, array_like=True, tag=6):
    """Ask the leader to commit and apply a command, once, however often this request arrives.

    Attributes
    ----------
    session : int
        The client's session.
    number : int
        The number of the command in its session, from 1 on.
    answered_below : int
        The client no longer waits for the result of any command with a smaller number.
    data : bytes
        The command, for the state machine.
    state_kind : str
        The kind of state it is meant for (:class:`trioraft.replica.machine.StateMachine`); empty for any.
    """

    session: Counter
    number: Counter
    answered_below: Counter
    data: bytes
    state_kind: Name = ""


class Query(Struct, frozen=True, array_like=True, tag=7):
    """Ask the state machine of any node a question.

    Attributes
    ----------
    data : bytes
        The question.
    linearizable : bool
        Whether the answer must reflect everything that was acknowledged before; else it is of the state that the node
        has.
    state_kind : str
        The kind of state it is meant for (:class:`trioraft.replica.machine.StateMachine`); empty for any.
    """

    data: bytes
    linearizable: bool = True
    state_kind: Name = ""


class Ask(Struct, frozen=True, array_like=True, tag=8):
    """Ask the program around the state machine, which may know more than is replicated, and may take long.

    Attributes
    ----------
    data : bytes
        The question.
    leader : bool
        Whether only a node may answer that has confirmed, after the question came, that it leads.
    state_kind : str
        The kind of state it is meant for (:class:`trioraft.replica.machine.StateMachine`); empty for any.
    """

    data: bytes
    leader: bool = False
    state_kind: Name = ""


# The most bytes of a backup that are sent at once.
BACKUP_PART_BYTES: Final = 32 * 1024


class StartBackup(Struct, frozen=True, array_like=True, tag=12):
    """Ask any member to make a backup of a state that reflects everything that was acknowledged before.

    The answer is a :class:`BackupPart`, once the backup is begun.
    """


class ReadBackup(Struct, frozen=True, array_like=True, tag=13):
    """Ask for a part of a backup, or how far it is; the answer is a :class:`BackupPart`.

    Attributes
    ----------
    backup : int
        The backup.
    offset : int
        Where the part begins, in bytes.
    size : int
        The most bytes it may have; 0 to learn only how far the backup is.
    """

    backup: Id
    offset: Counter = 0
    size: Annotated[int, Meta(ge=0, le=BACKUP_PART_BYTES)] = 0


class EndBackup(Struct, frozen=True, array_like=True, tag=14):
    """Allow the node to drop a backup.

    Attributes
    ----------
    backup : int
        The backup.
    """

    backup: Id


class BackupPart(Struct, frozen=True, array_like=True):
    """The state of a backup, and a part of it; as CBOR it is the `data` of a :class:`ClientResponse`.

    Attributes
    ----------
    backup : int
        The id of the backup on that node.
    size : int
        The bytes it has by now.
    whole : bool
        Whether that is all of it; as long as it is not, no part is sent.
    data : bytes
        The part that was asked for.
    """

    backup: Id
    size: Counter
    whole: bool
    data: Annotated[bytes, Meta(max_length=BACKUP_PART_BYTES)] = b""


class StateDigest(Struct, frozen=True, array_like=True, tag=9):
    """Ask a node for a hash of the replicated state it has; the answer is a :class:`StateDigested`."""


class StateDigested(Struct, frozen=True, array_like=True):
    """Answer a :class:`StateDigest`, in :attr:`ClientResponse.data`.

    Attributes
    ----------
    index : int
        The last entry that was applied.
    digest : str
        64 hexadecimal digits: the same on all nodes that have applied the same entries.
    """

    index: Index
    digest: Name


class ReadSettings(Struct, frozen=True, array_like=True, tag=16):
    """Ask any node for the settings of the cluster, with every change that was acknowledged before."""


class ChangeSettings(Struct, frozen=True, array_like=True, tag=17):
    """Ask the leader to change settings of the cluster, once, however often this request arrives.

    Attributes
    ----------
    session, number, answered_below : int
        As in :class:`Propose`.
    data : bytes
        The change (:mod:`trioraft.replica.settings`).
    """

    session: Counter
    number: Counter
    answered_below: Counter
    data: Annotated[bytes, Meta(max_length=10_000)]


class ChangeMember(Struct, frozen=True, array_like=True, tag=18):
    """Ask the leader to change the part that one node has in the cluster; answered when that is committed.

    Attributes
    ----------
    action : str
        ``add`` (make it a learner), ``promote`` (a learner to a voter), ``demote`` (the reverse) or ``remove``; or
        ``leave``, which a member asks for itself before it stops: it is removed if the rules of the autopilot allow
        it.
    node : int
        The node.
    """

    action: Literal["add", "remove", "promote", "demote", "leave"]
    node: NodeId


class StepDown(Struct, frozen=True, array_like=True, tag=19):
    """Ask the leader not to lead for a while: it transfers its leadership, or ends it when nobody else can lead."""


class Cancel(Struct, frozen=True, array_like=True, tag=20):
    """Report that this client no longer waits for some of its requests. It is not answered.

    Commands that were proposed may be carried out all the same.

    Attributes
    ----------
    requests : tuple of int
        Their numbers. Some may have been reported before, because a datagram may be lost.
    """

    requests: Annotated[tuple[Counter, ...], Meta(max_length=256)]


class ProposeBatch(Struct, frozen=True, array_like=True, tag=21):
    """Ask the leader to commit and apply several commands of one session, each once.

    Attributes
    ----------
    data : bytes
        The commands (:mod:`trioraft.messages.batch`); so are their outcomes in the answer.
    state_kind : str
        The kind of state they are meant for (:class:`trioraft.replica.machine.StateMachine`); empty for any.
    """

    data: bytes
    state_kind: Name = ""


class UnknownCommand(Struct, frozen=True, array_like=True, tag=0):
    """A stand-in for a command that only a later version knows, or that has a wrong field. It is never sent.

    Attributes
    ----------
    command : int
        Its tag.
    problem : str
        Which field is wrong; empty where this version does not know the command.
    """

    command: Counter
    problem: str = ""


Command: TypeAlias = (
    Transfer
    | AbandonFormation
    | OpenSession
    | EndSession
    | KeepSession
    | Propose
    | Query
    | Ask
    | StartBackup
    | ReadBackup
    | EndBackup
    | StateDigest
    | ReadSettings
    | ChangeSettings
    | ChangeMember
    | StepDown
    | Cancel
    | ProposeBatch
    | UnknownCommand
)


class ClientRequest(Struct, frozen=True, array_like=True, tag=REQUEST_TAG):
    """Ask a node to do something.

    Attributes
    ----------
    request : int
        The number of the request, counted from a random number that others cannot know. The answer names it, and a
        repeated request is carried out once.
    command : Command
        What to do.
    """

    request: Counter
    command: Command


class Refusal(enum.StrEnum):
    """Why a request was not carried out, as far as a program has to know; the detail is for people.

    ``NOT_LEADER``, ``NO_LEADER``, ``BUSY``, ``NO_CLUSTER``   it was not, here; elsewhere or later it may be
    ``NOT_COMMITTED``   it was not, and never will be
    ``UNKNOWN``         it was, or will be, or not; within a session it is safe to repeat it
    ``SESSION_ENDED``   the session has ended: whether earlier tries were carried out is not known
    ``LIMIT``           it was not: the client has as many requests under way as it may
    ``REFUSED``         it was not, and it will not be when it is repeated
    ``NO_RESULT``       it was, but its result cannot be sent
    """

    NOT_LEADER = "not-leader"
    NO_LEADER = "no-leader"
    NO_CLUSTER = "no-cluster"
    BUSY = "busy"
    NOT_COMMITTED = "not-committed"
    UNKNOWN = "unknown"
    SESSION_ENDED = "session-ended"
    LIMIT = "limit"
    REFUSED = "refused"
    NO_RESULT = "no-result"


class ClientResponse(Struct, frozen=True, array_like=True, tag=15):
    """Answer a :class:`ClientRequest`.

    Attributes
    ----------
    request : int
        The request that is answered.
    done : bool
        Whether it was carried out.
    detail : str
        What was done, or why it was not, in words.
    leader : int
        The leader, when the request must go to it and another node answers; else 0.
    code : str
        Why it was not carried out, as one of :class:`Refusal`; empty when it was.
    data : bytes
        The answer of the state machine, or of the program around it; or a :class:`BackupPart`.
    session : int
        The session that was opened.
    term : int
        The term of the answering node, in which `leader` leads.
    leader_address : str
        The numeric ``ip:port`` of the leader as the answering node knows it; empty where it does not know it.
    """

    request: Counter
    done: bool
    detail: Annotated[str, Meta(max_length=1000)] = ""
    leader: OptionalNodeId = 0
    code: Annotated[str, Meta(max_length=32)] = ""
    data: bytes = b""
    session: Counter = 0
    term: Term = 0
    leader_address: Name = ""


# The most requests or answers in one message.
BATCH_MAX: Final = 256


class ClientRequests(Struct, frozen=True, array_like=True, tag=REQUESTS_TAG):
    """Ask a node to do several things.

    Attributes
    ----------
    requests : tuple of ClientRequest
        The requests, each of which is carried out and answered as if it had come alone.
    """

    requests: Annotated[tuple[ClientRequest, ...], Meta(max_length=BATCH_MAX)]


class ClientResponses(Struct, frozen=True, array_like=True, tag=RESPONSES_TAG):
    """Answer several requests.

    Attributes
    ----------
    responses : tuple of ClientResponse
        The answers.
    """

    responses: Annotated[tuple[ClientResponse, ...], Meta(max_length=BATCH_MAX)]
