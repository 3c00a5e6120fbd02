"""The service ``etcdserverpb.Cluster``: the members, and how clients reach each of them."""

from typing import Final

from trioraft.etcd import messages as api
from trioraft.etcd import status
from trioraft.etcd.advertised import Advertised
from trioraft.etcd.host import Host
from trioraft.etcd.status import ApiError, Code
from trioraft.members.changes import Action
from trioraft.messages import ChangeMember, NodeId

# A new member catches up first; that may take some time.
_SECONDS: Final = 60.0


class Cluster:
    """The methods.

    Parameters
    ----------
    host : Host
        The node.
    advertised : Advertised
        The URLs of the nodes for clients.
    """

    def __init__(self, host: Host, advertised: Advertised) -> None:
        self._host = host
        self._advertised = advertised

    def members(self) -> list[api.Member]:
        """List the members as this node knows them."""
        configuration = self._host.node.consensus.configuration
        names = self._host.node.names()
        return [
            api.Member(
                node,
                names.get(node) or configuration.name(node),
                _peer_urls(self._host.node.address_of(node)),
                self._advertised.urls(node),
                node not in configuration.elector_set,
            )
            for node in configuration.members
        ]

    async def member_list(self, asked: api.MemberListRequest) -> api.MembersResponse:
        """List the members; a quorum is needed only where the list must be the newest one."""
        self._host.check(needs_leader=asked.linearizable)
        if asked.linearizable:
            await self._host.catch_up()
        return api.MembersResponse(self._host.header(0), self.members())

    async def member_add(self, asked: api.MemberAddRequest) -> api.MemberAddResponse:
        """Add the node that runs at one of the addresses; it must have been started before."""
        addresses = {_address(url) for url in asked.peer_urls}
        if not addresses or "" in addresses:
            raise ApiError(*status.BAD_URLS)
        node = next((one for one in self._host.node.names() if self._host.node.address_of(one) in addresses), None)
        if node is None:
            shown = ", ".join(sorted(addresses))
            text = f"etcdserver: no node is in touch at {shown}: start it first; it joins by itself, too"
            raise ApiError(Code.FAILED_PRECONDITION, text)
        await self._change("add", node)
        if not asked.is_learner:
            await self._change("promote", node)
        members = self.members()
        member = next((one for one in members if one.id == node), None)
        return api.MemberAddResponse(self._host.header(0), member, members)

    async def member_remove(self, asked: api.MemberRequest) -> api.MembersResponse:
        """Remove a member."""
        self._find(asked.id)
        await self._change("remove", asked.id)
        return api.MembersResponse(self._host.header(0), self.members())

    async def member_promote(self, asked: api.MemberRequest) -> api.MembersResponse:
        """Make a voter of a learner."""
        if not self._find(asked.id).is_learner:
            raise ApiError(*status.MEMBER_NOT_LEARNER)
        await self._change("promote", asked.id)
        return api.MembersResponse(self._host.header(0), self.members())

    async def member_update(self, asked: api.MemberUpdateRequest) -> api.MembersResponse:
        """Refuse to change addresses: nodes find each other, and follow a member to another address by themselves."""
        self._find(asked.id)
        if not asked.peer_urls or not all(map(_address, asked.peer_urls)):
            raise ApiError(*status.BAD_URLS)
        return api.MembersResponse(self._host.header(0), self.members())

    def _find(self, node: NodeId) -> api.Member:
        found = next((member for member in self.members() if member.id == node), None)
        if found is None:
            raise ApiError(*status.MEMBER_NOT_FOUND)
        return found

    async def _change(self, action: Action, node: NodeId) -> None:
        response = await self._host.carry_out(ChangeMember(action, node), seconds=_SECONDS)
        if not response.done:
            raise ApiError(Code.FAILED_PRECONDITION, f"etcdserver: {response.detail}")


def _peer_urls(address: str) -> list[str]:
    return [f"udp://{address}"] if address else []


def _address(url: str) -> str:
    """Return the ``host:port`` of a URL; empty where it has none."""
    scheme, found, rest = url.partition("://")
    address = rest.rstrip("/") if found else scheme
    host, _, port = address.rpartition(":")
    return address if host and port.isdigit() and "/" not in address else ""
