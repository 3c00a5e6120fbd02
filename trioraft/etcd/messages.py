"""The messages of etcd's v3 API: the one table of their names, fields and field numbers.

These are facts of etcd's public API. A field's annotation has its type, and its number in protobuf; its name in
Python is that of the API unless ``field(name=…)`` says otherwise. Every field may be left out, and has the default of
its type then, as proto3 has it. A message within a message is None where it is left out.
"""

import enum
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct, field

# Whole numbers of 64 bits are texts in JSON, those of 32 bits are numbers.
Int64: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1), "int64"]
Uint64: TypeAlias = Annotated[int, Meta(ge=0), "uint64"]
Uint32: TypeAlias = Annotated[int, Meta(ge=0, le=2**32 - 1), "uint32"]


class Message(Struct, omit_defaults=True, gc=False):
    """A message of the API."""


class ResponseHeader(Message):
    """Head an answer: whose it is, and of which state."""

    cluster_id: Annotated[Uint64, 1] = 0
    member_id: Annotated[Uint64, 2] = 0
    revision: Annotated[Int64, 3] = 0
    raft_term: Annotated[Uint64, 4] = 0


# --- enumerations: the first member has the number 0, and so on ------------------------------------------------


class SortOrder(enum.Enum):
    """The order of a range."""

    NONE = "NONE"
    ASCEND = "ASCEND"
    DESCEND = "DESCEND"


class SortTarget(enum.Enum):
    """The part of a key by which a range is sorted."""

    KEY = "KEY"
    VERSION = "VERSION"
    CREATE = "CREATE"
    MOD = "MOD"
    VALUE = "VALUE"


class CompareResult(enum.Enum):
    """The operator of a comparison."""

    EQUAL = "EQUAL"
    GREATER = "GREATER"
    LESS = "LESS"
    NOT_EQUAL = "NOT_EQUAL"


class CompareTarget(enum.Enum):
    """The part of a key that is compared."""

    VERSION = "VERSION"
    CREATE = "CREATE"
    MOD = "MOD"
    VALUE = "VALUE"
    LEASE = "LEASE"


class EventType(enum.Enum):
    """The kind of a change."""

    PUT = "PUT"
    DELETE = "DELETE"


class FilterType(enum.Enum):
    """The changes that a watch leaves out."""

    NOPUT = "NOPUT"
    NODELETE = "NODELETE"


class AlarmAction(enum.Enum):
    """The thing to do with an alarm."""

    GET = "GET"
    ACTIVATE = "ACTIVATE"
    DEACTIVATE = "DEACTIVATE"


class AlarmType(enum.Enum):
    """The kind of an alarm."""

    NONE = "NONE"
    NOSPACE = "NOSPACE"
    CORRUPT = "CORRUPT"


# --- mvccpb -----------------------------------------------------------------------------------------------------


class KeyValue(Message):
    """A key as it was at one revision."""

    key: Annotated[bytes, 1] = b""
    create_revision: Annotated[Int64, 2] = 0
    mod_revision: Annotated[Int64, 3] = 0
    version: Annotated[Int64, 4] = 0
    value: Annotated[bytes, 5] = b""
    lease: Annotated[Int64, 6] = 0


class Event(Message):
    """A change of one key."""

    type: Annotated[EventType, 1] = EventType.PUT
    kv: Annotated[KeyValue | None, 2] = None
    prev_kv: Annotated[KeyValue | None, 3] = None


# --- etcdserverpb.KV --------------------------------------------------------------------------------------------


class RangeRequest(Message):
    """Read keys."""

    key: Annotated[bytes, 1] = b""
    range_end: Annotated[bytes, 2] = b""
    limit: Annotated[Int64, 3] = 0
    revision: Annotated[Int64, 4] = 0
    sort_order: Annotated[SortOrder, 5] = SortOrder.NONE
    sort_target: Annotated[SortTarget, 6] = SortTarget.KEY
    serializable: Annotated[bool, 7] = False
    keys_only: Annotated[bool, 8] = False
    count_only: Annotated[bool, 9] = False
    min_mod_revision: Annotated[Int64, 10] = 0
    max_mod_revision: Annotated[Int64, 11] = 0
    min_create_revision: Annotated[Int64, 12] = 0
    max_create_revision: Annotated[Int64, 13] = 0


class RangeResponse(Message):
    """Answer a :class:`RangeRequest`."""

    header: Annotated[ResponseHeader | None, 1] = None
    kvs: Annotated[list[KeyValue], 2] = []
    more: Annotated[bool, 3] = False
    count: Annotated[Int64, 4] = 0


class PutRequest(Message):
    """Set the value of a key."""

    key: Annotated[bytes, 1] = b""
    value: Annotated[bytes, 2] = b""
    lease: Annotated[Int64, 3] = 0
    prev_kv: Annotated[bool, 4] = False
    ignore_value: Annotated[bool, 5] = False
    ignore_lease: Annotated[bool, 6] = False


class PutResponse(Message):
    """Answer a :class:`PutRequest`."""

    header: Annotated[ResponseHeader | None, 1] = None
    prev_kv: Annotated[KeyValue | None, 2] = None


class DeleteRangeRequest(Message):
    """Delete keys."""

    key: Annotated[bytes, 1] = b""
    range_end: Annotated[bytes, 2] = b""
    prev_kv: Annotated[bool, 3] = False


class DeleteRangeResponse(Message):
    """Answer a :class:`DeleteRangeRequest`."""

    header: Annotated[ResponseHeader | None, 1] = None
    deleted: Annotated[Int64, 2] = 0
    prev_kvs: Annotated[list[KeyValue], 3] = []


class Compare(Message):
    """A condition of a transaction; it has the operand of its target."""

    result: Annotated[CompareResult, 1] = CompareResult.EQUAL
    target: Annotated[CompareTarget, 2] = CompareTarget.VERSION
    key: Annotated[bytes, 3] = b""
    version: Annotated[Int64, 4] = 0
    create_revision: Annotated[Int64, 5] = 0
    mod_revision: Annotated[Int64, 6] = 0
    value: Annotated[bytes, 7] = b""
    lease: Annotated[Int64, 8] = 0
    range_end: Annotated[bytes, 64] = b""


class RequestOp(Message):
    """An operation of a transaction: one of the fields."""

    request_range: Annotated[RangeRequest | None, 1] = None
    request_put: Annotated[PutRequest | None, 2] = None
    request_delete_range: Annotated[DeleteRangeRequest | None, 3] = None
    request_txn: Annotated["TxnRequest | None", 4] = None


class TxnRequest(Message):
    """Carry out operations that depend on conditions."""

    compare: Annotated[list[Compare], 1] = []
    success: Annotated[list[RequestOp], 2] = []
    failure: Annotated[list[RequestOp], 3] = []


class ResponseOp(Message):
    """The result of an operation: one of the fields."""

    response_range: Annotated[RangeResponse | None, 1] = None
    response_put: Annotated[PutResponse | None, 2] = None
    response_delete_range: Annotated[DeleteRangeResponse | None, 3] = None
    response_txn: Annotated["TxnResponse | None", 4] = None


class TxnResponse(Message):
    """Answer a :class:`TxnRequest`."""

    header: Annotated[ResponseHeader | None, 1] = None
    succeeded: Annotated[bool, 2] = False
    responses: Annotated[list[ResponseOp], 3] = []


class CompactionRequest(Message):
    """Drop what is older than a revision."""

    revision: Annotated[Int64, 1] = 0
    physical: Annotated[bool, 2] = False


class HeaderResponse(Message):
    """Answer a request with nothing but a header; a message with another name in each service."""

    header: Annotated[ResponseHeader | None, 1] = None


# --- etcdserverpb.Watch -----------------------------------------------------------------------------------------


class WatchCreateRequest(Message):
    """Begin to watch keys."""

    key: Annotated[bytes, 1] = b""
    range_end: Annotated[bytes, 2] = b""
    start_revision: Annotated[Int64, 3] = 0
    progress_notify: Annotated[bool, 4] = False
    filters: Annotated[list[FilterType], 5] = []
    prev_kv: Annotated[bool, 6] = False
    watch_id: Annotated[Int64, 7] = 0
    fragment: Annotated[bool, 8] = False


class WatchCancelRequest(Message):
    """End a watch."""

    watch_id: Annotated[Int64, 1] = 0


class WatchProgressRequest(Message):
    """Ask how far the watches of a stream are."""


class WatchRequest(Message):
    """One of the fields."""

    create_request: Annotated[WatchCreateRequest | None, 1] = None
    cancel_request: Annotated[WatchCancelRequest | None, 2] = None
    progress_request: Annotated[WatchProgressRequest | None, 3] = None


class WatchResponse(Message):
    """Tell of a watch, or of changes that it has seen."""

    header: Annotated[ResponseHeader | None, 1] = None
    watch_id: Annotated[Int64, 2] = 0
    created: Annotated[bool, 3] = False
    canceled: Annotated[bool, 4] = False
    compact_revision: Annotated[Int64, 5] = 0
    cancel_reason: Annotated[str, 6] = ""
    fragment: Annotated[bool, 7] = False
    events: Annotated[list[Event], 11] = []


# --- etcdserverpb.Lease -----------------------------------------------------------------------------------------


class LeaseGrantRequest(Message):
    """Make a lease."""

    ttl: Annotated[Int64, 1] = field(name="TTL", default=0)
    id: Annotated[Int64, 2] = field(name="ID", default=0)


class LeaseGrantResponse(Message):
    """Answer a :class:`LeaseGrantRequest`."""

    header: Annotated[ResponseHeader | None, 1] = None
    id: Annotated[Int64, 2] = field(name="ID", default=0)
    ttl: Annotated[Int64, 3] = field(name="TTL", default=0)
    error: Annotated[str, 4] = ""


class LeaseRevokeRequest(Message):
    """End a lease."""

    id: Annotated[Int64, 1] = field(name="ID", default=0)


class LeaseKeepAliveRequest(Message):
    """Renew a lease."""

    id: Annotated[Int64, 1] = field(name="ID", default=0)


class LeaseKeepAliveResponse(Message):
    """Answer a :class:`LeaseKeepAliveRequest`; without a TTL where there is no such lease."""

    header: Annotated[ResponseHeader | None, 1] = None
    id: Annotated[Int64, 2] = field(name="ID", default=0)
    ttl: Annotated[Int64, 3] = field(name="TTL", default=0)


class LeaseTimeToLiveRequest(Message):
    """Ask how long a lease still lives."""

    id: Annotated[Int64, 1] = field(name="ID", default=0)
    keys: Annotated[bool, 2] = False


class LeaseTimeToLiveResponse(Message):
    """Answer a :class:`LeaseTimeToLiveRequest`; with a TTL of -1 where there is no such lease."""

    header: Annotated[ResponseHeader | None, 1] = None
    id: Annotated[Int64, 2] = field(name="ID", default=0)
    ttl: Annotated[Int64, 3] = field(name="TTL", default=0)
    granted_ttl: Annotated[Int64, 4] = field(name="grantedTTL", default=0)
    keys: Annotated[list[bytes], 5] = []


class LeaseStatus(Message):
    """A lease in a list."""

    id: Annotated[Int64, 1] = field(name="ID", default=0)


class LeaseLeasesResponse(Message):
    """Answer a question for all leases."""

    header: Annotated[ResponseHeader | None, 1] = None
    leases: Annotated[list[LeaseStatus], 2] = []


# --- etcdserverpb.Cluster ---------------------------------------------------------------------------------------


class Member(Message):
    """A member of the cluster."""

    id: Annotated[Uint64, 1] = field(name="ID", default=0)
    name: Annotated[str, 2] = ""
    peer_urls: Annotated[list[str], 3] = field(name="peerURLs", default_factory=list)
    client_urls: Annotated[list[str], 4] = field(name="clientURLs", default_factory=list)
    is_learner: Annotated[bool, 5] = field(name="isLearner", default=False)


class MemberAddRequest(Message):
    """Add a member."""

    peer_urls: Annotated[list[str], 1] = field(name="peerURLs", default_factory=list)
    is_learner: Annotated[bool, 2] = field(name="isLearner", default=False)


class MemberAddResponse(Message):
    """Answer a :class:`MemberAddRequest`."""

    header: Annotated[ResponseHeader | None, 1] = None
    member: Annotated[Member | None, 2] = None
    members: Annotated[list[Member], 3] = []


class MemberRequest(Message):
    """Name the member to remove or promote."""

    id: Annotated[Uint64, 1] = field(name="ID", default=0)


class MemberUpdateRequest(Message):
    """Change the addresses of a member."""

    id: Annotated[Uint64, 1] = field(name="ID", default=0)
    peer_urls: Annotated[list[str], 2] = field(name="peerURLs", default_factory=list)


class MemberListRequest(Message):
    """Ask for the members."""

    linearizable: Annotated[bool, 1] = False


class MembersResponse(Message):
    """Answer with the members."""

    header: Annotated[ResponseHeader | None, 1] = None
    members: Annotated[list[Member], 2] = []


# --- etcdserverpb.Maintenance -----------------------------------------------------------------------------------


class EmptyRequest(Message):
    """Ask for what needs no more than the path; a message with another name in each service."""


class StatusResponse(Message):
    """Answer a question for the status of the node."""

    header: Annotated[ResponseHeader | None, 1] = None
    version: Annotated[str, 2] = ""
    db_size: Annotated[Int64, 3] = field(name="dbSize", default=0)
    leader: Annotated[Uint64, 4] = 0
    raft_index: Annotated[Uint64, 5] = field(name="raftIndex", default=0)
    raft_term: Annotated[Uint64, 6] = field(name="raftTerm", default=0)
    raft_applied_index: Annotated[Uint64, 7] = field(name="raftAppliedIndex", default=0)
    errors: Annotated[list[str], 8] = []
    db_size_in_use: Annotated[Int64, 9] = field(name="dbSizeInUse", default=0)
    is_learner: Annotated[bool, 10] = field(name="isLearner", default=False)


class AlarmRequest(Message):
    """Ask for alarms, raise one or end one."""

    action: Annotated[AlarmAction, 1] = AlarmAction.GET
    member_id: Annotated[Uint64, 2] = field(name="memberID", default=0)
    alarm: Annotated[AlarmType, 3] = AlarmType.NONE


class AlarmMember(Message):
    """An alarm."""

    member_id: Annotated[Uint64, 1] = field(name="memberID", default=0)
    alarm: Annotated[AlarmType, 2] = AlarmType.NONE


class AlarmResponse(Message):
    """Answer an :class:`AlarmRequest`."""

    header: Annotated[ResponseHeader | None, 1] = None
    alarms: Annotated[list[AlarmMember], 2] = []


class HashResponse(Message):
    """Answer with a hash of what the node has."""

    header: Annotated[ResponseHeader | None, 1] = None
    hash: Annotated[Uint32, 2] = 0


class HashKVRequest(Message):
    """Ask for a hash of the keys at a revision."""

    revision: Annotated[Int64, 1] = 0


class HashKVResponse(Message):
    """Answer a :class:`HashKVRequest`."""

    header: Annotated[ResponseHeader | None, 1] = None
    hash: Annotated[Uint32, 2] = 0
    compact_revision: Annotated[Int64, 3] = 0


class MoveLeaderRequest(Message):
    """Give the leadership to a member."""

    target_id: Annotated[Uint64, 1] = field(name="targetID", default=0)


class SnapshotResponse(Message):
    """A part of a snapshot."""

    header: Annotated[ResponseHeader | None, 1] = None
    remaining_bytes: Annotated[Uint64, 2] = 0
    blob: Annotated[bytes, 3] = b""


# --- v3lockpb.Lock and v3electionpb.Election --------------------------------------------------------------------


class LockRequest(Message):
    """Take a lock."""

    name: Annotated[bytes, 1] = b""
    lease: Annotated[Int64, 2] = 0


class LockResponse(Message):
    """Answer a :class:`LockRequest` once the lock is held."""

    header: Annotated[ResponseHeader | None, 1] = None
    key: Annotated[bytes, 2] = b""


class UnlockRequest(Message):
    """Release a lock."""

    key: Annotated[bytes, 1] = b""


class LeaderKey(Message):
    """The key by which an election was won."""

    name: Annotated[bytes, 1] = b""
    key: Annotated[bytes, 2] = b""
    rev: Annotated[Int64, 3] = 0
    lease: Annotated[Int64, 4] = 0


class CampaignRequest(Message):
    """Stand for an election."""

    name: Annotated[bytes, 1] = b""
    lease: Annotated[Int64, 2] = 0
    value: Annotated[bytes, 3] = b""


class CampaignResponse(Message):
    """Answer a :class:`CampaignRequest` once it is won."""

    header: Annotated[ResponseHeader | None, 1] = None
    leader: Annotated[LeaderKey | None, 2] = None


class LeaderRequest(Message):
    """Ask who has won an election, now or from now on."""

    name: Annotated[bytes, 1] = b""


class LeaderResponse(Message):
    """Answer a :class:`LeaderRequest`."""

    header: Annotated[ResponseHeader | None, 1] = None
    kv: Annotated[KeyValue | None, 2] = None


class ResignRequest(Message):
    """Give up what an election has won."""

    leader: Annotated[LeaderKey | None, 1] = None


class ProclaimRequest(Message):
    """Change the value of the winner."""

    leader: Annotated[LeaderKey | None, 1] = None
    value: Annotated[bytes, 2] = b""


# --- etcdserverpb.Auth ------------------------------------------------------------------------------------------


class AuthStatusResponse(Message):
    """Answer whether requests are authenticated."""

    header: Annotated[ResponseHeader | None, 1] = None
    enabled: Annotated[bool, 2] = False
    auth_revision: Annotated[Uint64, 3] = field(name="authRevision", default=0)


class AuthenticateRequest(Message):
    """Ask for a token."""

    name: Annotated[str, 1] = ""
    password: Annotated[str, 2] = ""


class AuthenticateResponse(Message):
    """Answer an :class:`AuthenticateRequest`."""

    header: Annotated[ResponseHeader | None, 1] = None
    token: Annotated[str, 2] = ""
