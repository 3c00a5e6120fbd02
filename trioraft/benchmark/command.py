"""The command, after its options are read."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from trioraft.benchmark.baseline import measure_baseline
from trioraft.benchmark.load import Load, Outcome, run_load
from trioraft.benchmark.local import open_local_cluster
from trioraft.benchmark.report import Report
from trioraft.settings.settings import ClientSettings


async def bench_running(settings: ClientSettings, load: Load, form: str) -> int:
    """Put a running cluster under load.

    Parameters
    ----------
    settings : ClientSettings
        The addresses of the cluster.
    load : Load
        The load.
    form : {'table', 'json'}
        How to print the result.

    Returns
    -------
    int
        The exit status.
    """
    with _progress(load) as tell:
        finished = await run_load(settings, load, _new_prefix(), tell)
    _print(Report(load, finished.outcome, finished.cluster, None, None), form)
    return 0


async def bench_locally(
    nodes: int, durability: Literal["sync", "memory"], data_dir: Path | None, load: Load, form: str
) -> int:
    """Put a cluster of its own under load.

    Parameters
    ----------
    nodes : int
        The number of nodes.
    durability : {'sync', 'memory'}
        Whether the nodes sync their logs.
    data_dir : Path or None
        The place of their data during the run; None for the system's temporary directory.
    load : Load
        The load.
    form : {'table', 'json'}
        How to print the result.

    Returns
    -------
    int
        The exit status.
    """
    async with open_local_cluster(nodes, durability, data_dir) as cluster:
        with _progress(load) as tell:
            finished = await run_load(cluster.settings, load, _new_prefix(), tell)
        directory, environment = cluster.directory, cluster.environment
        baseline = await measure_baseline(directory, environment)
    _print(Report(load, finished.outcome, finished.cluster, durability, baseline), form)
    return 0


def _new_prefix() -> bytes:
    return b"trioraft-bench/%s/" % os.urandom(8).hex().encode()


def _print(report: Report, form: str) -> None:
    if form == "json":
        json.dump(report.to_json(), sys.stdout, indent=2)
        sys.stdout.write("\n")
        sys.stdout.flush()
    else:
        report.print_table()


@contextmanager
def _progress(load: Load) -> Iterator[Callable[[Outcome], None]]:
    """Show the progress, on a terminal."""
    console = Console(file=sys.stderr)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rate]:,.0f} commits/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(
            f"{load.concurrency} at a time", total=load.commands or load.seconds, rate=0.0, start=True
        )

        def tell(outcome: Outcome) -> None:
            done = outcome.latencies.count if load.commands else outcome.seconds
            progress.update(task, completed=done, rate=outcome.commits_per_second)

        yield tell
