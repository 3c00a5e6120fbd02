"""The service ``etcdserverpb.KV``: ranges, puts, deletions, transactions and compactions."""

from typing import Any, Final

import trio

from trioraft.etcd import messages as api
from trioraft.etcd import status, translate
from trioraft.etcd.host import Host
from trioraft.etcd.status import ApiError
from trioraft.etcd.translate import checked
from trioraft.kv.checks import is_read_only, why_refused
from trioraft.kv.codec import encode_command, encode_request
from trioraft.kv.commands import Compact
from trioraft.kv.requests import (
    AlarmAction,
    AlarmRequest,
    AlarmType,
    PutRequest,
    Request,
    TxnRequest,
)
from trioraft.kv.results import Error, ErrorCode, Result
from trioraft.node.node import Node

# The most that keys, values and all else of a request may have, in bytes; and the most that gRPC takes in.
REQUEST_MAX: Final = 3 * 2**19
RECEIVED_MAX: Final = 2**21
# So many keys are made messages of at once.
_AT_ONCE: Final = 500


class KV:
    """The methods.

    Parameters
    ----------
    host : Host
        The node.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._store = host.service.store

    async def range(self, asked: api.RangeRequest) -> api.RangeResponse:
        """Read keys: at once where the request allows an old answer, else what was acknowledged before."""
        request = translate.range_request(asked)
        _check(request)
        if asked.serializable:
            self._host.check(needs_leader=False)
        else:
            await self._host.catch_up()
        found = checked(await self._host.service.range(request))
        answer = api.RangeResponse(self._host.header(found.revision), [], found.more, found.count)
        for start in range(0, len(found.kvs), _AT_ONCE):
            answer.kvs += translate.key_values(found.kvs[start : start + _AT_ONCE])
            if len(found.kvs) > _AT_ONCE:
                await trio.lowlevel.checkpoint()
        return answer

    async def put(self, asked: api.PutRequest) -> api.PutResponse:
        """Set the value of a key."""
        done = checked(await self._write(translate.put_request(asked), translate.size_of(asked)))
        return translate.put_response(done, self._host.header(done.revision))

    async def delete_range(self, asked: api.DeleteRangeRequest) -> api.DeleteRangeResponse:
        """Delete keys."""
        done = checked(await self._write(translate.delete_request(asked), translate.size_of(asked)))
        return translate.delete_response(done, self._host.header(done.revision))

    async def txn(self, asked: api.TxnRequest) -> api.TxnResponse:
        """Carry out operations that depend on conditions; without the log where none of them changes anything."""
        request = translate.txn_request(asked)
        if is_read_only(request):
            _check(request)
            await self._host.catch_up()
            done = checked(self._host.service.txn(request))
        else:
            done = checked(await self._write(request, translate.size_of(asked)))
        return translate.txn_response(done, self._host.header(done.revision))

    async def compact(self, asked: api.CompactionRequest) -> api.HeaderResponse:
        """Drop what is older than a revision; nothing is left for later, so `physical` asks for nothing more."""
        if asked.revision < 0:
            raise ApiError(*status.COMPACTED)
        done = checked(await self._host.execute(encode_command(Compact(asked.revision))))
        return api.HeaderResponse(self._host.header(done.revision))

    async def _write(self, request: Request, size: int) -> Result:
        if size > RECEIVED_MAX:
            text = f"grpc: received message larger than max ({size} vs. {RECEIVED_MAX})"
            raise ApiError(status.Code.RESOURCE_EXHAUSTED, text)
        _check(request)
        if size > REQUEST_MAX:
            raise ApiError(*status.TOO_LARGE)
        if _puts(request):
            refuse_if_full(self._host)
        try:
            command = encode_request(request)
        except ValueError:
            raise ApiError(*status.TOO_LARGE) from None
        result = await self._host.execute(command)
        if isinstance(result, Error):
            result = _as_etcd_says(result, request)
            if result.code is ErrorCode.NO_SPACE:
                raise_alarm(self._host.node)
        return result


def _check(request: Any) -> None:
    code = why_refused(request)
    if code is not None:
        raise translate.error_of(code)


def _puts(request: object) -> bool:
    """Check whether a put is among the operations, in any branch."""
    if isinstance(request, TxnRequest):
        return any(map(_puts, (*request.success, *request.failure)))
    return isinstance(request, PutRequest)


def _as_etcd_says(error: Error, request: Request) -> Error:
    """Tell apart what an ordinary put, which is a command of earlier versions, has one code for."""
    if isinstance(request, PutRequest) and error.code is ErrorCode.TOO_LARGE:
        return Error(error.revision, ErrorCode.NO_SPACE, error.message)
    if error.code is ErrorCode.LEASE_EXISTS:
        return Error(error.revision, ErrorCode.LOCKED, error.message)
    return error


def refuse_if_full(host: Host) -> None:
    """Refuse what makes the store larger while it has the alarm NOSPACE.

    Parameters
    ----------
    host : Host
        The node.
    """
    if any(alarm.alarm == AlarmType.NOSPACE for alarm in host.service.store.alarms):
        raise ApiError(*status.NO_SPACE)


def raise_alarm(node: Node) -> None:
    """Raise the alarm NOSPACE, without waiting for it.

    Parameters
    ----------
    node : Node
        The node that has found the store to be full.
    """
    node.submit(encode_request(AlarmRequest(AlarmAction.ACTIVATE, node.id, AlarmType.NOSPACE)), lambda outcome: None)
