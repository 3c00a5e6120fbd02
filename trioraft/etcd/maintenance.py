"""The service ``etcdserverpb.Maintenance``."""

from collections.abc import Awaitable, Callable
from typing import Final

from trioraft.etcd import messages as api
from trioraft.etcd import status
from trioraft.etcd.host import Host
from trioraft.etcd.status import ApiError, Code
from trioraft.etcd.translate import checked
from trioraft.kv.codec import encode_request
from trioraft.kv.requests import AlarmAction, AlarmRequest, AlarmType
from trioraft.messages import Transfer

# The release of etcd whose behaviour was measured, and that of the cluster of such servers.
SERVER_VERSION: Final = "3.5.1"
CLUSTER_VERSION: Final = "3.5.0"

# A leader that gives its leadership away ends its work first.
_SECONDS: Final = 30.0

# A database is never without a page; tools take one that has no size for one that does not answer.
_LEAST_SIZE: Final = 4096

_ACTIONS: Final = dict(zip(api.AlarmAction, AlarmAction, strict=True))
_ALARMS: Final = dict(zip(api.AlarmType, AlarmType, strict=True))
_ALARM_NAMES: Final = {int(number): name for name, number in _ALARMS.items()}


class Maintenance:
    """The methods.

    Parameters
    ----------
    host : Host
        The node.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._store = host.service.store

    def alarms(self) -> list[api.AlarmMember]:
        """List the alarms as this node knows them."""
        return [api.AlarmMember(one.member, _ALARM_NAMES[one.alarm]) for one in self._store.alarms]

    async def alarm(self, asked: api.AlarmRequest) -> api.AlarmResponse:
        """List alarms, raise one, or end one."""
        if asked.action is api.AlarmAction.GET:
            await self._host.catch_up()
            wanted = [one for one in self.alarms() if asked.alarm in {api.AlarmType.NONE, one.alarm}]
            return api.AlarmResponse(self._host.header(), wanted)
        request = AlarmRequest(_ACTIONS[asked.action], asked.member_id, _ALARMS[asked.alarm])
        done = checked(await self._host.execute(encode_request(request)))
        changed = [api.AlarmMember(one.member, _ALARM_NAMES[one.alarm]) for one in done.alarms]
        return api.AlarmResponse(self._host.header(done.revision), changed)

    async def status(self, asked: api.EmptyRequest) -> api.StatusResponse:
        """Tell how this node is."""
        self._host.check(needs_leader=False)
        node, core = self._host.node, self._host.node.consensus
        errors = [] if self._host.has_leader else [status.NO_LEADER[1]]
        errors += [f"memberID:{one.member_id} alarm:{one.alarm.value} " for one in self.alarms()]
        size = max(self._store.size, _LEAST_SIZE)
        return api.StatusResponse(
            self._host.header(),
            SERVER_VERSION,
            size,
            core.leader,
            core.state.commit_index if core.state is not None else 0,
            self._host.term,
            node.applied_index,
            errors,
            size,
            node.id not in core.configuration.elector_set,
        )

    async def defragment(self, asked: api.EmptyRequest) -> api.HeaderResponse:
        """Do nothing: the store is in memory, and snapshots hold nothing that was deleted."""
        return api.HeaderResponse()

    async def hash(self, asked: api.EmptyRequest) -> api.HashResponse:
        """Hash the keys as they are now."""
        self._host.check(needs_leader=False)
        found = checked(await self._host.service.hash_kv())
        return api.HashResponse(self._host.header(), found.hash)

    async def hash_kv(self, asked: api.HashKVRequest) -> api.HashKVResponse:
        """Hash the keys at a revision; the same on all nodes."""
        self._host.check(needs_leader=False)
        found = checked(await self._host.service.hash_kv(max(asked.revision, 0)))
        return api.HashKVResponse(self._host.header(), found.hash, found.compact_revision)

    async def move_leader(self, asked: api.MoveLeaderRequest) -> api.HeaderResponse:
        """Give the leadership to a member."""
        if asked.target_id not in self._host.node.consensus.configuration.elector_set:
            raise ApiError(*status.BAD_TRANSFEREE)
        if asked.target_id != self._host.node.consensus.leader:
            response = await self._host.carry_out(Transfer(asked.target_id), seconds=_SECONDS)
            if not response.done:
                raise ApiError(Code.FAILED_PRECONDITION, f"etcdserver: {response.detail}")
        return api.HeaderResponse(self._host.header())

    async def snapshot(self, asked: api.EmptyRequest, send: Callable[[api.Message], Awaitable[None]]) -> None:
        """Refuse to send a database file of etcd: there is none."""
        raise ApiError(
            Code.UNIMPLEMENTED, "etcdserver: there is no database of etcd to send; `trioraft backup FILE` saves all"
        )
