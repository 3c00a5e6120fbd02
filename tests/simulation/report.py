"""What came of many lives, as a table, as JSON and in one line."""

from typing import Any, Final

from rich.table import Table

from tests.simulation.campaign import Tally

_FAULT: Final = "fault: "


def figures(tally: Tally) -> dict[str, Any]:
    """Sum up what happened."""
    count = tally.count
    faults = {what.removeprefix(_FAULT): number for what, number in count.items() if what.startswith(_FAULT)}
    return {
        "lives": tally.lives,
        "events": tally.events,
        "cluster-hours": round(tally.seconds / 3600, 1),
        "formations": count.get("formations", 0),
        "elections": count.get("elections", 0),
        "leadership transfers": count.get("transfers", 0),
        "membership changes": count.get("configurations committed", 0),
        "pieces of leader work": count.get("pieces of leader work", 0),
        "writes": count.get("commands acknowledged", 0),
        "reads": count.get("reads", 0),
        "faults": sum(faults.values()),
        "events/s and core": round(tally.events / tally.processor_seconds) if tally.processor_seconds else 0,
        "processor hours": round(tally.processor_seconds / 3600, 2),
        "hours": round(tally.wall_seconds / 3600, 2),
        "faults by kind": dict(sorted(faults.items())),
        "more": {what: number for what, number in sorted(count.items()) if not what.startswith(_FAULT)},
    }


def table(tally: Tally) -> Table:
    """Show all of it."""
    shown = Table(show_header=False, box=None, pad_edge=False)
    shown.add_column(justify="right")
    shown.add_column()
    summed = figures(tally)
    groups = {"what was lived": {}, "what else happened": summed.pop("more"), "faults": summed.pop("faults by kind")}
    groups["what was lived"] = summed
    for title, group in groups.items():
        shown.add_row("", f"[bold]{title}[/bold]")
        for what, number in group.items():
            shown.add_row(f"{number:,}", what)
    return shown


def summary(tally: Tally, violations: int, *, interrupted: bool = False) -> str:
    """Write it in one line."""
    outcome = f"{violations} VIOLATIONS" if violations else "no violation"
    of = figures(tally)
    return (
        f"{'interrupted: ' if interrupted else ''}{of['lives']:,} lives, {of['events']:,} events, "
        f"{of['cluster-hours']:,} cluster-hours, {of['formations']:,} formations, {of['elections']:,} elections, "
        f"{of['leadership transfers']:,} transfers, {of['membership changes']:,} membership changes, "
        f"{of['pieces of leader work']:,} pieces of leader work, {of['writes']:,} writes, {of['reads']:,} reads "
        f"({tally.count.get('reads by lease', 0):,} by the lease), "
        f"{tally.count.get('snapshots installed', 0):,} snapshots installed, {of['faults']:,} faults, "
        f"{of['events/s and core']:,} events/s and core: {outcome}"
    )
