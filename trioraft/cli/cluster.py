"""The commands that ask a cluster, after their arguments are read."""

import json
import sys

import trio

from trioraft.cli.exits import WRONG, CommandError
from trioraft.cli.silence import silence_told
from trioraft.cli.streams import tell
from trioraft.client.client import Client, NoAnswerError, open_client
from trioraft.client.status import ClusterStatus, ObservedNode, printable
from trioraft.clock import FOREVER
from trioraft.datagrams.endpoint import Domain
from trioraft.errors import ProposalError
from trioraft.messages import AbandonFormation, Transfer, parse_id_untrusted
from trioraft.replica.settings import ClusterSettings, ReadMode
from trioraft.settings.settings import ClientSettings

# A leader ends its work first, which may take as long as the grace of its scripts.
_TRANSFER_SECONDS = 60.0
_ABANDON_SECONDS = 5.0
_REFRESH = 1.0


async def show_status(settings: ClientSettings, form: str) -> int:
    """Print the status of a cluster.

    Parameters
    ----------
    settings : ClientSettings
        The addresses of the cluster.
    form : {"table", "wide", "json", "name"}
        The format.

    Returns
    -------
    int
        The exit status.
    """
    async with open_client(settings) as client:
        cluster = await heard(client)
    if form == "json":
        _print_json(cluster, indent=2)
    elif form == "name":
        print("\n".join(printable(node.status.name) for node in cluster.nodes))  # noqa: T201 - what was asked for
    else:
        from trioraft.cli.tables import print_cluster  # noqa: PLC0415

        print_cluster(cluster, wide=form == "wide")
    return 0


async def watch_status(settings: ClientSettings, form: str) -> int:
    """Print the status of a cluster again at every change, until interrupted.

    Parameters
    ----------
    settings : ClientSettings
        The addresses of the cluster.
    form : {"table", "json"}
        A table that is drawn anew, or one line of JSON for each change.

    Returns
    -------
    int
        Never.
    """
    async with open_client(settings) as client:
        await heard(client)
        await client.observe(_REFRESH)
        if form == "json":
            await _watch_json(client)
        from trioraft.cli.tables import watch_cluster  # noqa: PLC0415

        await watch_cluster(client)
    return 0


async def _watch_json(client: Client) -> None:
    shown: object = None
    while True:
        seen, cluster = client.version, client.cluster()
        changing = [
            (n.status.id, n.status.role, n.status.term, n.status.leader, n.reachable, n.status.hook.state)
            for n in cluster.nodes
        ]
        if changing != shown:
            shown = changing
            _print_json(cluster, indent=None)
        await client.changed(seen)


async def transfer(settings: ClientSettings, to: str | None) -> int:
    """Have the leader hand its leadership over, and print who leads then.

    Parameters
    ----------
    settings : ClientSettings
        The addresses of the cluster, and an admin key.
    to : str or None
        The id or name of the node that shall lead; None for the best one.

    Returns
    -------
    int
        The exit status.
    """
    async with open_client(settings, Domain.ADMIN) as client:
        cluster = await heard(client)
        target = 0 if to is None else int(find(cluster, to, "--to").status.id, 16)
        if cluster.leader is None:
            raise CommandError(
                client.why_leader_silent() or "there is no leader that could hand over; see `trioraft status`"
            )
        before, began = cluster.leader.status, trio.current_time()
        response = await client.command(None, Transfer(target), _TRANSFER_SECONDS)
        took = trio.current_time() - began
        if not response.done:
            raise CommandError(f"refused: {printable(response.detail)}")
        after = (await client.statuses()).leader
    if after is None or after.status.id == before.id:
        tell(printable(response.detail))
    else:
        led = f"after {printable(before.name)}, which led in term {before.term}"
        tell(f"{printable(after.status.name)} leads in term {after.status.term} {led}; handed over in {took:.2f} s")
    return 0


async def settings(where: ClientSettings, reads: str | None, quota: int | None, form: str, seconds: float) -> int:
    """Change the settings of a cluster, if asked for, and print them.

    Parameters
    ----------
    where : ClientSettings
        The addresses of the cluster, and an admin key.
    reads : str or None
        The mode of linearizable reads; None to leave it as it is.
    quota : int or None
        The most bytes of the key-value store; None to leave it as it is.
    form : {"text", "json"}
        The format.
    seconds : float
        How long to try; 0 for no limit.

    Returns
    -------
    int
        The exit status.
    """
    found: ClusterSettings | None = None
    async with (
        open_client(where, Domain.READER if reads is None else Domain.ADMIN) as client,
        silence_told(client, seconds),
    ):
        with trio.move_on_after(seconds or FOREVER):
            try:
                if reads is None and quota is None:
                    found = await client.cluster_settings()
                else:
                    mode = ReadMode(reads) if reads is not None else None
                    found = await client.change_cluster_settings(reads=mode, quota=quota)
            except ProposalError as error:
                raise CommandError(printable(str(error))) from None
        if found is None:
            raise NoAnswerError(f"{printable(client.problem)} (waited {seconds:g} s)")
    shown = {printable(name): printable(value) for name, value in found.shown().items()}
    text = json.dumps(shown) if form == "json" else "\n".join(f"{name}: {value}" for name, value in shown.items())
    if reads is None and quota is None:
        print(text, flush=True)  # noqa: T201 - what the command is for
    else:
        tell(text)
    return 0


async def abandon_formation(settings: ClientSettings, *, yes: bool) -> int:
    """Have the nodes that wait in a formation abandon it.

    Parameters
    ----------
    settings : ClientSettings
        The addresses of the nodes, and an admin key.
    yes : bool
        Whether to do it; otherwise the command only prints what it would do.

    Returns
    -------
    int
        The exit status.
    """
    async with open_client(settings, Domain.ADMIN) as client:
        cluster = await heard(client)
        for node in cluster.nodes:
            if node.status.cluster_id is not None:
                raise CommandError(
                    f"refused: {_named(node)} is a member of cluster {node.status.cluster_id};"
                    " the formation may stand, and the waiting nodes will learn of it"
                )
        waiting = [(node, node.status.forming) for node in cluster.nodes]
        promised = [(node, forming) for node, forming in waiting if forming and forming.formation]
        if not promised:
            raise CommandError("no node that answers has promised a formation; there is nothing to abandon")
        for node, forming in promised:
            missing = ", ".join(forming.missing) or "none"
            tell(f"{_named(node)} waits in formation {forming.formation}; missing members: {missing}")
        if not yes:
            raise CommandError(
                "nothing was done; make sure that the missing members are lost for good, or remove their data"
                " directories before they start again, then say --yes",
                WRONG,
            )
        refused = [line for node, forming in promised if (line := await _abandon(client, node, forming.formation))]
    if refused:
        raise CommandError("; ".join(refused))
    return 0


async def _abandon(client: Client, node: ObservedNode, formation: str | None) -> str:
    """Have one node abandon its formation; return the reason when it did not, else an empty text."""
    command = AbandonFormation(parse_id_untrusted(formation))
    response = await client.command(node.status.id, command, _ABANDON_SECONDS)
    if not response.done:
        return f"{_named(node)} refused: {printable(response.detail)}"
    tell(f"{_named(node)}: {printable(response.detail)}")
    return ""


async def heard(client: Client) -> ClusterStatus:
    """Ask all nodes for their status.

    Parameters
    ----------
    client : Client
        The client that asks.

    Returns
    -------
    ClusterStatus
        The answers.

    Raises
    ------
    CommandError
        If no node answers.
    """
    cluster = await client.statuses()
    if not cluster.nodes:
        raise CommandError(client.why_silent())
    return cluster


def find(cluster: ClusterStatus, wanted: str, argument: str) -> ObservedNode:
    """Find the node with an id or a name.

    Parameters
    ----------
    cluster : ClusterStatus
        The cluster.
    wanted : str
        The id or name.
    argument : str
        The argument that it was given as, for the error.

    Returns
    -------
    ObservedNode
        The node.

    Raises
    ------
    CommandError
        If there is no such node, or several.
    """
    nodes = [node for node in cluster.nodes if wanted in {node.status.id, node.status.name}]
    if len(nodes) == 1:
        return nodes[0]
    known = ", ".join(f"{node.status.id} ({printable(node.status.name)})" for node in cluster.nodes)
    what = "the name of several nodes" if nodes else "no node that answers"
    raise CommandError(f"{argument}={printable(wanted[:100])}: {what}; allowed: {known}", WRONG)


def _named(node: ObservedNode) -> str:
    return f"{printable(node.status.name)} ({node.status.id})"


def _print_json(cluster: ClusterStatus, indent: int | None) -> None:
    json.dump(cluster.to_json(), sys.stdout, indent=indent)
    sys.stdout.write("\n")
    sys.stdout.flush()
