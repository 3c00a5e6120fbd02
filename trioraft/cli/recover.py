"""``trioraft recover``: a new cluster from the data of one node, when a quorum is lost for good."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from trioraft.cli.exits import WRONG, CommandError, in_one_line
from trioraft.cli.running import DONE, checked
from trioraft.cli.streams import stdin_is_terminal, tell
from trioraft.texts import printable

if TYPE_CHECKING:
    from trioraft.storage.recovery import Recovered, Survivor

_COSTS: Final = """\
A new cluster made of this:
- has every entry of this node's log, also those that were perhaps never acknowledged, and nothing else: a write that
  was acknowledged but did not reach this node is lost. Where other nodes are left, run this command there too, but
  without --force-new-cluster, and take the one whose last entry has the highest term, of those the highest number.
- has a new id, and this node, under a new id too, as its only member. From then on every other member of the old
  cluster is refused; never start one on its data again. Make sure that none of them runs, or comes back: as many of
  them as make a quorum would go on as the old cluster, with leader work of their own.
- has terms above {term}, so fencing tokens keep growing, and starts leader work no sooner than the old cluster's
  must have ended: {work:.1f} s after this node starts.
- keeps keys, settings, sessions and leases as they are in the log. Clients that watch, or hold a lock, may rely on
  what is lost: once they hear of the new cluster, the watch or the lock ends with an error."""
_NO_ROOM: Final = """\
- has terms below {term}, which this node knows: that one leaves no room for others, and no cluster reaches it by
  itself. The new terms are above all in its log ({in_log}). Had the old cluster a leader in a later term, of which
  nothing is in this log, its fencing token was larger than the new ones: let whoever compares tokens begin anew."""
_NEXT: Final = """\
Next:
1. Start this node alone, and wait until `trioraft status` says that it leads.
2. Every other member of the old cluster that is left has to begin anew. Before it is started, move its data aside:
     mv DATA_DIR DATA_DIR.old
3. Start them, or fresh nodes: they join by themselves; with AUTOPILOT=off by
     trioraft members add NODE; trioraft members promote NODE"""


def recover(
    *,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The DATA_DIR of a stopped member, or one node's directory in it; else DATA_DIR of the environment.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force-new-cluster", help="Do it; else only what it costs is told.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> int:
    """Make a new cluster of one node's data.

    For when a majority of the voters is lost for good, with its data: nothing else helps then but a backup. It says
    what is there and what is lost, and asks. The data is kept as it was, beside the new one.
    """
    from trioraft.storage.recovery import make_new_cluster, open_survivor  # noqa: PLC0415

    with in_one_line(), open_survivor(data_dir or Path(_variable("DATA_DIR"))) as survivor:
        work = max(_longest_work(), survivor.longest_work)
        for line in _found(survivor):
            typer.echo(printable(line))
        typer.echo(_COSTS.format(term=survivor.next_term, work=work))
        if survivor.next_term < survivor.term:
            typer.echo(_NO_ROOM.format(term=survivor.term, in_log=survivor.log.last_term))
        if not force:
            raise CommandError(
                "nothing was done; when a quorum can be started again, do that; when it is lost for good, say"
                " --force-new-cluster",
                WRONG,
            )
        _ask(yes=yes)
        recovered = make_new_cluster(survivor, work)
        tell(_done(survivor, recovered))
    return DONE


def _ask(*, yes: bool) -> None:
    if yes:
        return
    if not stdin_is_terminal():
        raise CommandError("nothing was done; there is no terminal to ask at, so say --yes", WRONG)
    if not typer.confirm("Make the new cluster?"):
        raise CommandError("nothing was done")


def _variable(name: str) -> str:
    from trioraft.settings.variables import find_variable  # noqa: PLC0415

    return os.environ.get(name) or find_variable(name, "node").default


def _longest_work() -> float:
    """Compute how long leader work may outlive a leader with this environment's settings, in seconds."""
    from trioraft.consensus.timing import Timing, here  # noqa: PLC0415
    from trioraft.settings.variables import find_variable  # noqa: PLC0415

    def seconds(name: str) -> float:
        return float(checked(lambda: find_variable(name, "node").read(os.environ.get(name, ""))))

    timing = Timing(lower=seconds("ELECTION_TIMEOUT_LOWER_MILLIS"), stop_grace=seconds("HOOK_STOP_GRACE_MILLIS"))
    return here(timing.work_claim)


def _found(survivor: "Survivor") -> Iterator[str]:
    """Describe the data."""
    from trioraft.members.changes import member_statuses  # noqa: PLC0415
    from trioraft.messages import format_id  # noqa: PLC0415

    disk, log = survivor.disk, survivor.log
    own, cluster = format_id(disk.node_id), format_id(survivor.cluster)
    yield f"{disk.directory}: node {own} of cluster {cluster}, in term {survivor.term}"
    yield f"last entry: {log.last_index}, of term {log.last_term}"
    if survivor.committed:
        yield f"surely committed: entries up to {survivor.committed}, which its snapshot has; what follows perhaps"
    else:
        yield "surely committed: it has no snapshot, so that is not known of any entry"
    members = member_statuses(survivor.configuration)
    yield "members: " + ", ".join(
        f"{member.name or '-'} ({member.id}) {member.kind}{', this node' * (member.id == own)}" for member in members
    )
    if all(member.id != own for member in members):
        yield "this node is none of them: a change that removes it is in its log, perhaps not committed"
    if disk.log_is_unsynced:
        yield "its log was not synced (DURABILITY=memory): it may lack even what this node has acknowledged"
    for other in survivor.others:
        yield f"{other}: another member, whose log does not go further"


def _done(survivor: "Survivor", recovered: "Recovered") -> str:
    """Describe the new cluster, and the next steps."""
    from trioraft.messages import format_id  # noqa: PLC0415

    lines = [
        f"{survivor.disk.directory}: cluster {format_id(recovered.cluster)}, whose only member is this node, now"
        f" {format_id(recovered.node)}; its terms begin above {recovered.term}",
        f"the data as it was: {recovered.aside}",
        _NEXT,
    ]
    lines += [f"     mv {other} {other}.old" for other in survivor.others]
    return "\n".join(lines)
