"""The cluster as a table for people."""

from datetime import timedelta

import trio
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from trioraft.client.client import Client
from trioraft.client.status import ClusterStatus, ObservedNode, printable
from trioraft.messages import FIRST_VERSION, HookStatus, MemberStatus, NodeStatus
from trioraft.versions import Versions

_STYLES = {"leader": "bold green", "follower": "", "learner": "cyan"}  # of rows, by role; the others are passing ones
_DEAD = "red"
_HEADINGS = ("NAME", "ID", "ADDRESS", "ROLE", "TERM", "LEADER", "HOOK", "VERSION", "UP")
# What a narrow terminal does without, the least important first.
_LEFT_OUT = ("ID", "VERSION", "LEADER", "HOOK", "UP")
_BETWEEN = 2  # spaces between columns


def print_cluster(cluster: ClusterStatus, *, wide: bool) -> None:
    """Print a table of a cluster's nodes, and the problems.

    Parameters
    ----------
    cluster : ClusterStatus
        The cluster.
    wide : bool
        Whether to print all columns, however wide the terminal is.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 160)  # a pipe gets whole ids and addresses
    console.print(render(cluster, 1000 if wide else console.width), crop=not wide)


def print_members(members: tuple[MemberStatus, ...], cluster: ClusterStatus) -> None:
    """Print a table of a cluster's members, and how many failures it survives.

    Parameters
    ----------
    members : tuple of MemberStatus
        The members.
    cluster : ClusterStatus
        The nodes, as far as they are known.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 160)
    found = {node.status.id: node for node in cluster.nodes}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("NAME", "ID", "KIND", "ROLE", "ADDRESS", "VERSION", "LAST INDEX"):
        table.add_column(heading, no_wrap=True, justify="right" if heading == "LAST INDEX" else "left")
    for member in members:
        node = found.get(member.id)
        seen = ("unreachable", "-", "-", "-")
        if node is not None:
            seen = (node.status.role, str(node.address), _version(node.status), str(node.status.last_index))
        table.add_row(*(Text(printable(cell)) for cell in (member.name or "-", member.id, member.kind, *seen)))
    console.print(table)
    console.print(Text(cluster.survival.text if cluster.survival else "no leader"))


async def watch_cluster(client: Client) -> None:
    """Draw the table again at every change, until cancelled.

    Parameters
    ----------
    client : Client
        A client that observes the cluster.
    """
    console = Console(highlight=False)
    with Live(render(client.cluster(), console.width), console=console, auto_refresh=False) as live:
        while True:
            seen = client.version
            live.update(render(client.cluster(), console.width), refresh=True)
            await client.changed(seen)
            await trio.sleep(0.05)  # changes of one moment are drawn together


def render(cluster: ClusterStatus, width: int) -> RenderableType:
    """Lay the cluster out.

    Parameters
    ----------
    cluster : ClusterStatus
        The cluster.
    width : int
        The columns of the terminal; the table leaves out what does not fit.

    Returns
    -------
    rich.console.RenderableType
        A heading, the table, and lines below it.
    """
    names = {node.status.id: node.status.name for node in cluster.nodes}
    rows = [(_row(node, names), _style(node)) for node in cluster.nodes]
    for member in (member for each in cluster.clusters for member in each.members if member.id not in names):
        rows.append(((member.name or "-", member.id, "-", "unreachable", *"-----"), _DEAD))
    shown = _columns([cells for cells, _ in rows], width)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _BETWEEN, 0, 0))
    for column in shown:
        heading = _HEADINGS[column]
        table.add_column(heading, no_wrap=True, justify="right" if heading == "TERM" else "left")
    for cells, style in rows:
        # As Text, because rich reads a plain string as markup.
        table.add_row(*(Text(printable(cells[column])) for column in shown), style=style)
    remarks = (Text(printable(line), style="yellow") for line in _remarks(cluster))
    # There should be one cluster. If there are several, each has a term, a leader and voters of its own.
    return Group(*map(_heading, cluster.clusters or (cluster,)), table, *remarks)


def _columns(rows: list[tuple[str, ...]], width: int) -> list[int]:
    """Choose the columns that fit into a width, by their numbers."""
    shown = list(range(len(_HEADINGS)))
    for heading in _LEFT_OUT:
        needed = (max(len(cells[column]) for cells in (_HEADINGS, *rows)) + _BETWEEN for column in shown)
        if sum(needed) - _BETWEEN <= width:
            break
        shown.remove(_HEADINGS.index(heading))
    return shown


def _heading(cluster: ClusterStatus) -> Text:
    if cluster.cluster_id is None:
        return Text("no cluster yet")
    leader = cluster.leader
    text = f"led by {leader.status.name} in term {cluster.term}" if leader else f"no leader (term {cluster.term})"
    if leader and leader.status.settings.get("reads") == "lease":
        text += ", reads by lease"
    if leader and leader.status.state_quota:
        text += f", {_mebibytes(leader.status.state_bytes)} of {_mebibytes(leader.status.state_quota)} MiB taken"
    spoken = (leader.status.cluster_version if leader else 0) or FIRST_VERSION  # the oldest software reports none
    if leader and any(node.status.highest_version > spoken for node in cluster.nodes):
        text += f", version {spoken} of the protocol until all are upgraded"
    can = f"; {cluster.survival.text}" if cluster.survival else ""
    return Text(printable(f"cluster {cluster.cluster_id}, {text}{can}"), style="" if leader else "bold red")


def _row(node: ObservedNode, names: dict[str, str]) -> tuple[str, ...]:
    status = node.status
    role = status.role if node.reachable else "unreachable"
    leader = names.get(status.leader, status.leader) if status.leader else "-"
    up = str(timedelta(seconds=int(status.uptime_seconds)))
    return (
        status.name,
        status.id,
        str(node.address),
        role,
        str(status.term),
        leader,
        _hook(status.hook),
        _version(status),
        up,
    )


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.1f}".removesuffix(".0")


def _version(status: NodeStatus) -> str:
    """Format the version of a node's software, and the versions of the protocol that it speaks, as "0.9 (1 to 2)"."""
    return f"{status.version} ({Versions(status.lowest_version, status.highest_version)})"


def _style(node: ObservedNode) -> str:
    return _STYLES.get(node.status.role, "yellow") if node.reachable else _DEAD


def _hook(hook: HookStatus) -> str:
    if hook.state == "none":
        return "-"
    ended = f" ({hook.exit_status})" if hook.state in {"exited", "failed"} and hook.exit_status is not None else ""
    return f"{hook.script} {hook.state}{ended}".strip()


def _absent(cluster: ClusterStatus) -> list[str]:
    """Describe the members that do not answer, as far as they are known."""
    answering = {node.status.id for node in cluster.nodes if node.reachable}
    lines = []
    for member in cluster.members:
        if member.id not in answering:
            line = f"{member.name or '-'} ({member.id}), {member.kind}, does not answer"
            if cluster.leader is not None:
                line += f"; the leader {_last_heard(member.silent_seconds)}"
            lines.append(line)
    if cluster.leader is None and cluster.members:
        voters = [member.id for member in cluster.members if member.kind != "learner"]
        lines.append(f"{sum(voter in answering for voter in voters)} of {len(voters)} voters answer")
    return lines


def _last_heard(seconds: float | None) -> str:
    return "has never heard it" if seconds is None else f"heard it last {timedelta(seconds=int(seconds))} ago"


def _remarks(cluster: ClusterStatus) -> list[str]:
    lines = []
    if exposed := [node.status.name or node.status.id for node in cluster.nodes if node.exposed]:
        lines.append(
            f"not sealed, and not on loopback only: {', '.join(exposed)};"
            " whoever can reach a node reads and changes everything: give all nodes a CLUSTER_KEY_FILE"
        )
    for node in cluster.nodes:
        if node.reachable and node.status.job.text:
            lines.append(f"{node.status.name}, its job: {node.status.job.text}")
        if node.status.forming is not None:
            lines.append(f"{node.status.name} waits for {node.status.forming.waiting_for}")
        if node.status.disk_stuck:
            lines.append(f"{node.status.name}: its disk is stuck")
        if node.status.log_lines_dropped:
            lines.append(f"{node.status.name}: {node.status.log_lines_dropped:,} lines of its log were dropped")
        lines.extend(f"{node.status.name}: {alert}" for alert in node.status.alerts)
    for each in cluster.clusters:
        if each.leader is not None:
            lines.extend(
                f"autopilot, {note.kind} {_ago(note.seconds_ago)}: {note.text}"
                for note in each.leader.status.autopilot
            )
        lines.extend(_absent(each))
    lines.extend(cluster.foreign)
    if cluster.silent:
        lines.append(f"no answer from {', '.join(map(str, cluster.silent))}")
    return lines


def _ago(seconds: float) -> str:
    return f"{timedelta(seconds=int(seconds))} ago"
