"""The commands that change the members of a cluster, after their arguments are read."""

import json
import sys

import msgspec

from trioraft.cli.cluster import find, heard
from trioraft.cli.exits import WRONG, CommandError
from trioraft.cli.streams import tell
from trioraft.client.client import Client, open_client
from trioraft.client.status import ClusterStatus, printable
from trioraft.datagrams.endpoint import Domain
from trioraft.members.changes import Action
from trioraft.messages import ChangeMember, Command, MemberStatus, StepDown
from trioraft.settings.settings import ClientSettings
from trioraft.texts import natural

# A new voter catches up first, and a leader that removes itself ends its work first; both may take some time.
_SECONDS = 60.0


async def list_members(settings: ClientSettings, form: str) -> int:
    """Print the members of a cluster.

    Parameters
    ----------
    settings : ClientSettings
        The addresses of the cluster.
    form : {"table", "json"}
        The format.

    Returns
    -------
    int
        The exit status.
    """
    async with open_client(settings) as client:
        cluster = await heard(client)
    members = _members(cluster)
    if form == "json":
        found = {node.status.id: node for node in cluster.nodes}
        documents = [
            {
                "id": member.id,
                "name": member.name,
                "kind": member.kind,
                "address": str(found[member.id].address) if member.id in found else None,
                "role": found[member.id].status.role if member.id in found else None,
                "version": found[member.id].status.version if member.id in found else None,
                "highest_version": found[member.id].status.highest_version if member.id in found else None,
                "last_index": found[member.id].status.last_index if member.id in found else None,
            }
            for member in members
        ]
        json.dump(documents, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        from trioraft.cli.tables import print_members  # noqa: PLC0415

        print_members(members, cluster)
    return 0


def _members(cluster: ClusterStatus) -> tuple[MemberStatus, ...]:
    """List the members by name; a member that answers has its present name."""
    if not cluster.members:
        raise CommandError("no node that answers is a member of a cluster; see `trioraft status`")
    names = {node.status.id: node.status.name for node in cluster.nodes}
    named = [msgspec.structs.replace(member, name=names.get(member.id, member.name)) for member in cluster.members]
    return tuple(sorted(named, key=lambda member: (not member.name, natural(member.name), member.id)))


async def change_member(settings: ClientSettings, action: Action, who: str) -> int:
    """Have the leader change the membership of a node.

    Parameters
    ----------
    settings : ClientSettings
        The addresses of the cluster, and an admin key.
    action : {'add', 'remove', 'promote', 'demote'}
        The change.
    who : str
        The node's id or name; it need not answer if it is a member.

    Returns
    -------
    int
        The exit status.
    """
    async with open_client(settings, Domain.ADMIN) as client:
        cluster = await heard(client)
        node = _choose(cluster, action, who)
        return await _have_done(client, cluster, ChangeMember(action, int(node, 16)))


def _choose(cluster: ClusterStatus, action: Action, who: str) -> str:
    """Find the id of a node by id or name: of a member, even if it does not answer, or of a node to be added.

    A removed node that comes back with a new id may have the name of the member that it was.
    """
    members = {member.id for member in _members(cluster)}
    named = {member.id for member in _members(cluster) if who in {member.id, member.name}}
    named |= {node.status.id for node in cluster.nodes if who in {node.status.id, node.status.name}}
    fitting = named - members if action == "add" else named & members
    chosen = sorted(fitting or named)
    if len(chosen) > 1:
        raise CommandError(
            f"NODE={printable(who[:100])}: the name of several nodes; say which: {', '.join(chosen)}", WRONG
        )
    return chosen[0] if chosen else find(cluster, who, "NODE").status.id


async def step_down(settings: ClientSettings) -> int:
    """Have the leader give its leadership up for a while.

    Parameters
    ----------
    settings : ClientSettings
        The addresses of the cluster, and an admin key.

    Returns
    -------
    int
        The exit status.
    """
    async with open_client(settings, Domain.ADMIN) as client:
        return await _have_done(client, await heard(client), StepDown())


async def _have_done(client: Client, cluster: ClusterStatus, command: Command) -> int:
    if cluster.leader is None:
        raise CommandError(
            client.why_leader_silent() or "there is no leader that could do that; see `trioraft status`"
        )
    response = await client.command(None, command, _SECONDS)
    if not response.done:
        raise CommandError(f"refused: {printable(response.detail)}")
    tell(printable(response.detail))
    return 0
