"""``trioraft backup`` and ``trioraft restore``."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from trioraft.cli.exits import in_one_line
from trioraft.cli.running import run_client
from trioraft.cli.streams import tell
from trioraft.client.backup import fetch_backup
from trioraft.client.client import open_client
from trioraft.datagrams.endpoint import Domain
from trioraft.kv.service import KeyValueService
from trioraft.messages import format_id
from trioraft.settings.settings import ClientSettings
from trioraft.storage import backups
from trioraft.storage.backup_file import Backup


@contextmanager
def _progress(text: str) -> Iterator[Callable[[int, int], None]]:
    """Show the progress, on a terminal."""
    console = Console(file=sys.stderr)
    with in_one_line(), Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(text, total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)


def back_up(file: Path, data_dir: Path) -> None:
    """Make a backup of stopped nodes.

    Parameters
    ----------
    file : Path
        The backup.
    data_dir : Path
        The nodes' data.
    """
    with _progress("applying the log") as show:
        about = backups.back_up(file, data_dir, KeyValueService(), show)
    _tell(file, about)


def _tell(file: Path, about: Backup) -> None:
    tell(f"{file}: cluster {format_id(about.cluster)} up to entry {about.index}, {about.size} bytes")


class _Shown:
    """The progress of a backup of a running cluster: a bar on a terminal, elsewhere only the problems."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("looking for a node", total=None)

    def progress(self, what: str, done: int, of: int | None) -> None:
        self._progress.update(self._task, description=what, completed=done, total=of)

    def problem(self, text: str) -> None:
        self._progress.console.print(f"trioraft: {text}", markup=False, highlight=False, soft_wrap=True)


def fetch(file: Path, settings: ClientSettings, seconds: float) -> int:
    """Make a backup of a running cluster.

    Parameters
    ----------
    file : Path
        The backup.
    settings : ClientSettings
        The addresses of the cluster, and an admin key.
    seconds : float
        How long to try while no node begins a backup, or it does not go on, until the command gives up.

    Returns
    -------
    int
        The exit status.
    """
    console = Console(file=sys.stderr)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()

    async def main() -> int:
        with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
            async with open_client(settings, Domain.ADMIN) as client:
                with in_one_line():
                    about = await fetch_backup(client, file, _Shown(progress), seconds)
        _tell(file, about)
        return 0

    return run_client(main)


def restore(file: Path, data_dir: Path, members: int) -> None:
    """Make the data of a new cluster from a backup.

    Parameters
    ----------
    file : Path
        The backup.
    data_dir : Path
        The directory in which the nodes' data is made.
    members : int
        The number of nodes of the new cluster.
    """
    with _progress("writing") as show:
        about, cluster = backups.restore(file, data_dir, members, show)
    old, new = format_id(about.cluster), format_id(cluster)
    if (about.next_term or 0) < about.term:
        tell(
            f"trioraft: its terms begin above {about.next_term}, not above {about.term}, which the old cluster knew"
            " and which leaves no room: let whoever compares fencing tokens begin anew"
        )
    tell(f"{data_dir}: cluster {new}, made from entry {about.index} of cluster {old}; start {members} node(s) on it")
