"""Requests of the store as etcd's JSON, and etcd's JSON as results of the store."""

from base64 import b64decode, b64encode
from typing import Any, Final

from tests.differential.etcd import Document
from trioraft.kv.commands import Compact, Event, EventKind, KeyValue, LeaseGrant, LeaseRecall
from trioraft.kv.requests import (
    Alarm,
    AlarmRequest,
    AlarmType,
    DeleteRangeRequest,
    EmptyRequest,
    PutRequest,
    RangeCompare,
    RangeRequest,
    Request,
    TxnRequest,
)
from trioraft.kv.results import (
    AlarmResult,
    CompactResult,
    DeleteRangeResult,
    ErrorCode,
    LeaseGrantResult,
    LeaseRevokeResult,
    OperationResult,
    PutResult,
    RangeResult,
    Result,
    TxnResult,
)

Asked = Request | Compact | LeaseGrant | LeaseRecall

_CODES: Final = {
    "etcdserver: key is not provided": ErrorCode.EMPTY_KEY,
    "etcdserver: key not found": ErrorCode.KEY_NOT_FOUND,
    "etcdserver: value is provided": ErrorCode.VALUE_PROVIDED,
    "etcdserver: lease is provided": ErrorCode.LEASE_PROVIDED,
    "etcdserver: too many operations in txn request": ErrorCode.TOO_MANY_OPERATIONS,
    "etcdserver: duplicate key given in txn request": ErrorCode.DUPLICATE_KEY,
    "etcdserver: requested lease not found": ErrorCode.LEASE_NOT_FOUND,
    "etcdserver: lease already exists": ErrorCode.LEASE_EXISTS,
    "etcdserver: mvcc: required revision has been compacted": ErrorCode.COMPACTED,
    "etcdserver: mvcc: required revision is a future revision": ErrorCode.FUTURE_REVISION,
}
_PATHS: Final[dict[type[Asked], str]] = {
    PutRequest: "kv/put",
    RangeRequest: "kv/range",
    DeleteRangeRequest: "kv/deleterange",
    TxnRequest: "kv/txn",
    Compact: "kv/compaction",
    LeaseGrant: "lease/grant",
    LeaseRecall: "lease/revoke",
    AlarmRequest: "maintenance/alarm",
}
_KINDS: Final[dict[type[Any], str]] = {
    PutRequest: "request_put",
    RangeRequest: "request_range",
    DeleteRangeRequest: "request_delete_range",
    TxnRequest: "request_txn",
}
_OPERANDS: Final = ("version", "create_revision", "mod_revision", "value", "lease")


def path(asked: Asked) -> str:
    """Return the path where something is asked."""
    return _PATHS[type(asked)]


def document(asked: Asked | RangeCompare | EmptyRequest) -> Document:
    """Return a request as JSON."""
    if isinstance(asked, LeaseGrant):
        return {"TTL": str(asked.ttl), "ID": str(asked.id)}
    if isinstance(asked, LeaseRecall):
        return {"ID": str(asked.id)}
    if isinstance(asked, AlarmRequest):
        return {"action": asked.action, "memberID": str(asked.member), "alarm": asked.alarm}
    found = {name: _json(getattr(asked, name)) for name in asked.__struct_fields__}
    if isinstance(asked, RangeCompare):
        found["result"] = found.pop("operator")
        found[_OPERANDS[asked.target]] = found.pop("operand")
    return found


def _json(value: object) -> object:
    match value:
        case bytes():
            return b64encode(value).decode()
        case bool():
            return value
        case int():
            return int(value) if value >= 0 else str(value)
        case tuple():
            return [_operation(each) for each in value]
        case _:
            raise TypeError(value)


def _operation(asked: Any) -> Document:
    if isinstance(asked, RangeCompare):
        return document(asked)
    return {_KINDS[type(asked)]: document(asked)} if not isinstance(asked, EmptyRequest) else {}


def result(asked: Asked, answer: Document) -> Result | ErrorCode:
    """Return what etcd has answered as the store would; of an error only the code."""
    if "code" in answer:
        return _CODES[answer["message"]]
    revision = int(answer["header"].get("revision", 0))
    match asked:
        case Compact():
            return CompactResult(revision)
        case LeaseGrant():
            return LeaseGrantResult(revision, int(answer["ID"]), int(answer["TTL"]))
        case LeaseRecall():
            return LeaseRevokeResult(revision, 0)
        case AlarmRequest():
            alarms = (Alarm(int(each["memberID"]), AlarmType[each["alarm"]]) for each in answer.get("alarms", ()))
            return AlarmResult(revision, tuple(sorted(alarms)))
        case PutRequest():
            return _result("response_put", answer)
        case RangeRequest():
            return _result("response_range", answer)
        case DeleteRangeRequest():
            return _result("response_delete_range", answer)
        case TxnRequest():
            return _result("response_txn", answer)


def _result(kind: str, answer: Document) -> OperationResult:
    revision = int(answer["header"].get("revision", 0))
    match kind:
        case "response_put":
            return PutResult(revision, key_value(answer["prev_kv"]) if "prev_kv" in answer else None)
        case "response_range":
            kvs = tuple(map(key_value, answer.get("kvs", ())))
            return RangeResult(revision, kvs, int(answer.get("count", 0)), answer.get("more", False))
        case "response_delete_range":
            before = tuple(map(key_value, answer.get("prev_kvs", ())))
            return DeleteRangeResult(revision, int(answer.get("deleted", 0)), before)
        case _:
            responses = (_result(*each) for response in answer.get("responses", ()) for each in response.items())
            return TxnResult(revision, answer.get("succeeded", False), tuple(responses))


def without_nested_revisions(found: Result) -> Result:
    """Leave out what etcd leaves out: the revision of a transaction within another one."""
    if not isinstance(found, TxnResult):
        return found
    return TxnResult(found.revision, found.succeeded, tuple(map(_nested, found.responses)))


def _nested(found: OperationResult) -> OperationResult:
    if not isinstance(found, TxnResult):
        return found
    return TxnResult(0, found.succeeded, tuple(map(_nested, found.responses)))


def key_value(answer: Document) -> KeyValue:
    """Return a key of etcd's."""
    numbers = (int(answer.get(name, 0)) for name in ("create_revision", "mod_revision", "version", "lease"))
    return KeyValue(b64decode(answer["key"]), b64decode(answer.get("value", "")), *numbers)


def event(answer: Document) -> Event:
    """Return an event of etcd's."""
    kind = EventKind.DELETE if answer.get("type") == "DELETE" else EventKind.PUT
    return Event(kind, key_value(answer["kv"]), key_value(answer["prev_kv"]) if "prev_kv" in answer else None)
