"""The methods of the API: the one table of their services, names, paths and messages."""

import enum
from typing import Final, TypeAlias

from msgspec import Struct

from trioraft.etcd import messages as api


class Kind(enum.Enum):
    """The way in which a method is asked and answers."""

    UNARY = "one message, and one answer soon"
    WAITS = "one message, and one answer that may take any time"
    ANSWERS = "one message, and a stream of answers"
    STREAM = "a stream of messages, and one of answers"


class Method(Struct, frozen=True):
    """A method.

    Attributes
    ----------
    service, name : str
        Its service, and its name there, as gRPC has them.
    path : str
        Its path in the JSON API, after ``/v3/``.
    request : type
        The message that it takes.
    kind : Kind
        The way in which it answers.
    """

    service: str
    name: str
    path: str
    request: type[api.Message]
    kind: Kind = Kind.UNARY


_Row: TypeAlias = tuple[str, str, type[api.Message]] | tuple[str, str, type[api.Message], Kind]


def _of(service: str, *methods: _Row) -> list[Method]:
    return [Method(service, *method) for method in methods]


METHODS: Final[tuple[Method, ...]] = (
    *_of(
        "etcdserverpb.KV",
        ("Range", "kv/range", api.RangeRequest),
        ("Put", "kv/put", api.PutRequest),
        ("DeleteRange", "kv/deleterange", api.DeleteRangeRequest),
        ("Txn", "kv/txn", api.TxnRequest),
        ("Compact", "kv/compaction", api.CompactionRequest),
    ),
    *_of("etcdserverpb.Watch", ("Watch", "watch", api.WatchRequest, Kind.STREAM)),
    *_of(
        "etcdserverpb.Lease",
        ("LeaseGrant", "lease/grant", api.LeaseGrantRequest),
        ("LeaseRevoke", "lease/revoke", api.LeaseRevokeRequest),
        ("LeaseKeepAlive", "lease/keepalive", api.LeaseKeepAliveRequest, Kind.STREAM),
        ("LeaseTimeToLive", "lease/timetolive", api.LeaseTimeToLiveRequest),
        ("LeaseLeases", "lease/leases", api.EmptyRequest),
    ),
    *_of(
        "etcdserverpb.Cluster",
        ("MemberAdd", "cluster/member/add", api.MemberAddRequest),
        ("MemberRemove", "cluster/member/remove", api.MemberRequest),
        ("MemberUpdate", "cluster/member/update", api.MemberUpdateRequest),
        ("MemberList", "cluster/member/list", api.MemberListRequest),
        ("MemberPromote", "cluster/member/promote", api.MemberRequest),
    ),
    *_of(
        "etcdserverpb.Maintenance",
        ("Alarm", "maintenance/alarm", api.AlarmRequest),
        ("Status", "maintenance/status", api.EmptyRequest),
        ("Defragment", "maintenance/defragment", api.EmptyRequest),
        ("Hash", "maintenance/hash", api.EmptyRequest),
        ("HashKV", "", api.HashKVRequest),  # etcd's gateway has no path for it
        ("Snapshot", "maintenance/snapshot", api.EmptyRequest, Kind.ANSWERS),
        ("MoveLeader", "maintenance/transfer-leadership", api.MoveLeaderRequest),
    ),
    *_of(
        "v3lockpb.Lock",
        ("Lock", "lock/lock", api.LockRequest, Kind.WAITS),
        ("Unlock", "lock/unlock", api.UnlockRequest),
    ),
    *_of(
        "v3electionpb.Election",
        ("Campaign", "election/campaign", api.CampaignRequest, Kind.WAITS),
        ("Proclaim", "election/proclaim", api.ProclaimRequest),
        ("Leader", "election/leader", api.LeaderRequest),
        ("Observe", "election/observe", api.LeaderRequest, Kind.ANSWERS),
        ("Resign", "election/resign", api.ResignRequest),
    ),
    *_of(
        "etcdserverpb.Auth",
        ("AuthEnable", "auth/enable", api.EmptyRequest),
        ("AuthDisable", "auth/disable", api.EmptyRequest),
        ("AuthStatus", "auth/status", api.EmptyRequest),
        ("Authenticate", "auth/authenticate", api.AuthenticateRequest),
        ("UserAdd", "auth/user/add", api.EmptyRequest),
        ("UserGet", "auth/user/get", api.EmptyRequest),
        ("UserList", "auth/user/list", api.EmptyRequest),
        ("UserDelete", "auth/user/delete", api.EmptyRequest),
        ("UserChangePassword", "auth/user/changepw", api.EmptyRequest),
        ("UserGrantRole", "auth/user/grant", api.EmptyRequest),
        ("UserRevokeRole", "auth/user/revoke", api.EmptyRequest),
        ("RoleAdd", "auth/role/add", api.EmptyRequest),
        ("RoleGet", "auth/role/get", api.EmptyRequest),
        ("RoleList", "auth/role/list", api.EmptyRequest),
        ("RoleDelete", "auth/role/delete", api.EmptyRequest),
        ("RoleGrantPermission", "auth/role/grant", api.EmptyRequest),
        ("RoleRevokePermission", "auth/role/revoke", api.EmptyRequest),
    ),
)

# Paths that an earlier release of etcd had, and clients still use.
FORMER_PATHS: Final = {f"kv/lease/{name}": f"lease/{name}" for name in ("revoke", "timetolive", "leases")}
