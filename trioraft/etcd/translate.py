"""Messages of the API as commands of the store, and its results as messages."""

from collections.abc import Iterable
from typing import Any, Final

from trioraft.etcd import messages as api
from trioraft.etcd import status
from trioraft.etcd.status import ApiError, Code
from trioraft.kv.commands import CompareOperator, CompareTarget, EventKind
from trioraft.kv.commands import Event as StoredEvent
from trioraft.kv.commands import KeyValue as StoredKey
from trioraft.kv.requests import (
    DeleteRangeRequest,
    EmptyRequest,
    PutRequest,
    RangeCompare,
    RangeRequest,
    SortOrder,
    SortTarget,
    TxnRequest,
)
from trioraft.kv.results import (
    DeleteRangeResult,
    Error,
    ErrorCode,
    OperationResult,
    PutResult,
    RangeResult,
    TxnResult,
)

_ORDERS: Final = dict(zip(api.SortOrder, SortOrder, strict=True))
_TARGETS: Final = dict(zip(api.SortTarget, SortTarget, strict=True))
_OPERATORS: Final = dict(zip(api.CompareResult, CompareOperator, strict=True))
_COMPARED: Final = dict(zip(api.CompareTarget, CompareTarget, strict=True))
_OPERANDS: Final = {
    api.CompareTarget.VERSION: "version",
    api.CompareTarget.CREATE: "create_revision",
    api.CompareTarget.MOD: "mod_revision",
    api.CompareTarget.VALUE: "value",
    api.CompareTarget.LEASE: "lease",
}

_ERRORS: Final = {
    ErrorCode.EMPTY_KEY: status.EMPTY_KEY,
    ErrorCode.KEY_NOT_FOUND: status.KEY_NOT_FOUND,
    ErrorCode.VALUE_PROVIDED: status.VALUE_PROVIDED,
    ErrorCode.LEASE_PROVIDED: status.LEASE_PROVIDED,
    ErrorCode.TOO_MANY_OPERATIONS: status.TOO_MANY_OPERATIONS,
    ErrorCode.DUPLICATE_KEY: status.DUPLICATE_KEY,
    ErrorCode.LEASE_NOT_FOUND: status.LEASE_NOT_FOUND,
    ErrorCode.LEASE_EXISTS: status.LEASE_EXISTS,
    ErrorCode.COMPACTED: status.COMPACTED,
    ErrorCode.FUTURE_REVISION: status.FUTURE_REVISION,
    ErrorCode.NO_SPACE: status.NO_SPACE,
    ErrorCode.TOO_LARGE: status.TOO_LARGE,
}


def error_of(code: ErrorCode, message: str = "") -> ApiError:
    """Return the answer to a request that the store refuses.

    Parameters
    ----------
    code : ErrorCode
        The store's reason.
    message : str
        The same in words, for a reason that etcd does not have.

    Returns
    -------
    ApiError
        The error.
    """
    if code in _ERRORS:
        return ApiError(*_ERRORS[code])
    return ApiError(Code.FAILED_PRECONDITION, f"etcdserver: {message}")


def checked(result: Any) -> Any:
    """Return a result of the store, or raise the error that it is."""
    if isinstance(result, Error):
        raise error_of(result.code, result.message)
    return result


# --- requests -------------------------------------------------------------------------------------------------


def range_request(asked: api.RangeRequest) -> RangeRequest:
    """Return the question to the store; a negative limit or revision counts as none."""
    return RangeRequest(
        asked.key,
        asked.range_end,
        max(asked.limit, 0),
        max(asked.revision, 0),
        _ORDERS[asked.sort_order],
        _TARGETS[asked.sort_target],
        asked.keys_only,
        asked.count_only,
        asked.min_mod_revision,
        asked.max_mod_revision,
        asked.min_create_revision,
        asked.max_create_revision,
    )


def put_request(asked: api.PutRequest) -> PutRequest:
    """Return the command."""
    return PutRequest(asked.key, asked.value, asked.lease, asked.prev_kv, asked.ignore_value, asked.ignore_lease)


def delete_request(asked: api.DeleteRangeRequest) -> DeleteRangeRequest:
    """Return the command."""
    return DeleteRangeRequest(asked.key, asked.range_end, asked.prev_kv)


def txn_request(asked: api.TxnRequest) -> TxnRequest:
    """Return the command."""
    return TxnRequest(
        tuple(map(_compare, asked.compare)),
        tuple(map(_operation, asked.success)),
        tuple(map(_operation, asked.failure)),
    )


def _compare(asked: api.Compare) -> RangeCompare:
    operand = getattr(asked, _OPERANDS[asked.target])
    return RangeCompare(asked.key, _COMPARED[asked.target], _OPERATORS[asked.result], operand, asked.range_end)


def _operation(asked: api.RequestOp) -> Any:
    if asked.request_put is not None:  # the one that counts in etcd, too, where a document has several
        return put_request(asked.request_put)
    if asked.request_range is not None:
        return range_request(asked.request_range)
    if asked.request_delete_range is not None:
        return delete_request(asked.request_delete_range)
    return EmptyRequest() if asked.request_txn is None else txn_request(asked.request_txn)


def size_of(asked: api.Message) -> int:
    """Compute how many bytes keys and values of a request, with those of its operations, have in protobuf."""
    if isinstance(asked, api.PutRequest):
        return _field_size(len(asked.key)) + _field_size(len(asked.value))
    if isinstance(asked, api.TxnRequest):
        every = [*asked.success, *asked.failure]
        inner = [one.request_put or one.request_txn or one.request_range or one.request_delete_range for one in every]
        sizes = [size_of(one) for one in inner if one is not None]
        sizes += [sum(map(_field_size, map(len, (one.key, one.value, one.range_end)))) for one in asked.compare]
        return sum(_field_size(_field_size(size)) for size in sizes)
    if isinstance(asked, api.RangeRequest | api.DeleteRangeRequest):
        return _field_size(len(asked.key)) + _field_size(len(asked.range_end))
    return 0


def _field_size(length: int) -> int:
    """Compute how many bytes a field of bytes takes: its number, its length in groups of 7 bits, and itself."""
    return 1 + max(-(-length.bit_length() // 7), 1) + length if length else 0


# --- results --------------------------------------------------------------------------------------------------


def key_value(kv: StoredKey) -> api.KeyValue:
    """Return the message for a key."""
    return api.KeyValue(kv.key, kv.create_revision, kv.mod_revision, kv.version, kv.value, kv.lease)


def key_values(kvs: Iterable[StoredKey]) -> list[api.KeyValue]:
    """Return the messages for keys."""
    return [api.KeyValue(kv.key, kv.create_revision, kv.mod_revision, kv.version, kv.value, kv.lease) for kv in kvs]


def event(stored: StoredEvent, *, prev_kv: bool) -> api.Event:
    """Return the message for a change."""
    kind = api.EventType.DELETE if stored.kind is EventKind.DELETE else api.EventType.PUT
    before = key_value(stored.prev_kv) if prev_kv and stored.prev_kv is not None else None
    return api.Event(kind, key_value(stored.kv), before)


def range_response(found: RangeResult, header: api.ResponseHeader) -> api.RangeResponse:
    """Return the answer to a range."""
    return api.RangeResponse(header, key_values(found.kvs), found.more, found.count)


def put_response(done: PutResult, header: api.ResponseHeader) -> api.PutResponse:
    """Return the answer to a put."""
    return api.PutResponse(header, key_value(done.prev_kv) if done.prev_kv is not None else None)


def delete_response(done: DeleteRangeResult, header: api.ResponseHeader) -> api.DeleteRangeResponse:
    """Return the answer to a deletion."""
    return api.DeleteRangeResponse(header, done.deleted, key_values(done.prev_kvs))


def txn_response(done: TxnResult, header: api.ResponseHeader) -> api.TxnResponse:
    """Return the answer to a transaction; the headers within it have a revision only, and that of a txn nothing."""
    return api.TxnResponse(header, done.succeeded, [_result(one) for one in done.responses])


def _result(done: OperationResult | TxnResult) -> api.ResponseOp:
    if isinstance(done, TxnResult):
        return api.ResponseOp(response_txn=txn_response(done, api.ResponseHeader()))
    header = api.ResponseHeader(revision=done.revision)
    if isinstance(done, RangeResult):
        return api.ResponseOp(response_range=range_response(done, header))
    if isinstance(done, PutResult):
        return api.ResponseOp(response_put=put_response(done, header))
    return api.ResponseOp(response_delete_range=delete_response(done, header))
