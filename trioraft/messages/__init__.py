"""Every message that nodes, clients and monitors exchange.

Each is a frozen :class:`msgspec.Struct` that is an *array* on the wire, ``[tag, field, field, …]``;
:mod:`trioraft.datagrams.wire` specifies how a message becomes a datagram. A field that a later version appends is
ignored by an older one; :mod:`trioraft.versions` lists what each version adds, and when that is used.

Every duration is in seconds, counted on the sender's clock. Ids (of nodes, clusters, formations) are random integers
from 1 to 2**63 - 1, and are written as 16 hexadecimal digits everywhere but on the wire; 0 stands for "none".

``ids``        ids, terms, indexes, times and durations
``log``        entries of the log
``batch``      commands that are one entry, and their outcomes
``consensus``  what nodes say to each other
``status``     what a node reports about itself
``requests``   what clients ask, and the answers
``fragments``  parts of large messages
"""

from typing import TypeAlias

from trioraft.messages.batch import (
    BATCH_BYTES_MAX,
    COMMANDS_MAX,
    Batch,
    PartOutcome,
    Refused,
    decode_batch_untrusted,
    decode_outcomes_untrusted,
    encode_batch,
    encode_outcomes,
)
from trioraft.messages.consensus import (
    AppendEntriesRequest,
    AppendEntriesResponse,
    FormationRequest,
    FormationResponse,
    FormationView,
    Hello,
    InstallSnapshotRequest,
    InstallSnapshotResponse,
    LeadershipEnded,
    PreVoteRequest,
    PreVoteResponse,
    ReadIndexRequest,
    ReadIndexResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from trioraft.messages.fragments import FRAGMENTED_MAX, Fragment, FragmentsReceived
from trioraft.messages.ids import (
    FIRST_VERSION,
    LARGEST_ID,
    MEMBERS_MAX,
    TERM_LEAP,
    TERM_MAX,
    TERM_ROOM,
    Counter,
    Id,
    Index,
    Instant,
    Members,
    Name,
    NodeId,
    Nonce,
    OptionalId,
    OptionalNodeId,
    Seconds,
    Term,
    Version,
    first_term,
    format_id,
    parse_id_untrusted,
)
from trioraft.messages.log import ENTRY_MAX, PAYLOAD_MAX, Entry, EntryKind
from trioraft.messages.requests import (
    BACKUP_PART_BYTES,
    BATCH_MAX,
    REQUEST_TAG,
    REQUESTS_TAG,
    RESPONSES_TAG,
    AbandonFormation,
    Ask,
    BackupPart,
    Cancel,
    ChangeMember,
    ChangeSettings,
    ClientRequest,
    ClientRequests,
    ClientResponse,
    ClientResponses,
    Command,
    EndBackup,
    EndSession,
    KeepSession,
    OpenSession,
    Propose,
    ProposeBatch,
    Query,
    ReadBackup,
    ReadSettings,
    Refusal,
    StartBackup,
    StateDigest,
    StateDigested,
    StepDown,
    Transfer,
    UnknownCommand,
)
from trioraft.messages.status import (
    AutopilotNote,
    Election,
    FormingStatus,
    HookStatus,
    JobStatus,
    MemberStatus,
    NodeStatus,
    Status,
    StatusRequest,
    why_not_running,
)

__all__ = [
    "BACKUP_PART_BYTES",
    "BATCH_BYTES_MAX",
    "BATCH_MAX",
    "COMMANDS_MAX",
    "ENTRY_MAX",
    "FIRST_VERSION",
    "FRAGMENTED_MAX",
    "LARGEST_ID",
    "MEMBERS_MAX",
    "PAYLOAD_MAX",
    "REQUESTS_TAG",
    "REQUEST_TAG",
    "RESPONSES_TAG",
    "TERM_LEAP",
    "TERM_MAX",
    "TERM_ROOM",
    "AbandonFormation",
    "AppendEntriesRequest",
    "AppendEntriesResponse",
    "Ask",
    "AutopilotNote",
    "BackupPart",
    "Batch",
    "Cancel",
    "ChangeMember",
    "ChangeSettings",
    "ClientMessage",
    "ClientRequest",
    "ClientRequests",
    "ClientResponse",
    "ClientResponses",
    "Command",
    "ConsensusMessage",
    "Counter",
    "Election",
    "ElectionMessage",
    "EndBackup",
    "EndSession",
    "Entry",
    "EntryKind",
    "FormationMessage",
    "FormationRequest",
    "FormationResponse",
    "FormationView",
    "FormingStatus",
    "Fragment",
    "FragmentsReceived",
    "Hello",
    "HookStatus",
    "Id",
    "Index",
    "InstallSnapshotRequest",
    "InstallSnapshotResponse",
    "Instant",
    "JobStatus",
    "KeepSession",
    "LeadershipEnded",
    "MemberStatus",
    "Members",
    "Message",
    "Name",
    "NodeId",
    "NodeStatus",
    "Nonce",
    "OpenSession",
    "OptionalId",
    "OptionalNodeId",
    "PartOutcome",
    "PreVoteRequest",
    "PreVoteResponse",
    "Propose",
    "ProposeBatch",
    "Query",
    "ReadBackup",
    "ReadIndexRequest",
    "ReadIndexResponse",
    "ReadMessage",
    "ReadSettings",
    "Refusal",
    "Refused",
    "ReplicationMessage",
    "Seconds",
    "StartBackup",
    "StateDigest",
    "StateDigested",
    "Status",
    "StatusRequest",
    "StepDown",
    "Term",
    "TimeoutNow",
    "Transfer",
    "UnknownCommand",
    "Version",
    "VoteRequest",
    "VoteResponse",
    "decode_batch_untrusted",
    "decode_outcomes_untrusted",
    "encode_batch",
    "encode_outcomes",
    "first_term",
    "format_id",
    "parse_id_untrusted",
    "why_not_running",
]

ElectionMessage: TypeAlias = (
    PreVoteRequest | PreVoteResponse | VoteRequest | VoteResponse | TimeoutNow | LeadershipEnded
)
ReplicationMessage: TypeAlias = (
    AppendEntriesRequest | AppendEntriesResponse | InstallSnapshotRequest | InstallSnapshotResponse
)
FormationMessage: TypeAlias = FormationView | FormationRequest | FormationResponse
ConsensusMessage: TypeAlias = FormationMessage | ElectionMessage | ReplicationMessage
ReadMessage: TypeAlias = ReadIndexRequest | ReadIndexResponse
ClientMessage: TypeAlias = ClientRequest | ClientRequests | ClientResponse | ClientResponses
Message: TypeAlias = ConsensusMessage | ReadMessage | Hello | StatusRequest | Status | ClientMessage
