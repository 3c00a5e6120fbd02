"""``trioraft backup`` and ``trioraft restore``."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import Progress

from trioraft import backups
from trioraft.errors import CommandError
from trioraft.kv.service import KeyValueService
from trioraft.messages import format_id
from trioraft.storage import StorageError


@contextmanager
def _progress(text: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far something is, on a terminal, and turn what goes wrong into the command's one line."""
    console = Console(file=sys.stderr)
    try:
        with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
            task = progress.add_task(text, total=None)
            yield lambda done, of: progress.update(task, completed=done, total=of)
    except (backups.BackupError, StorageError) as error:
        raise CommandError(str(error)) from None


def back_up(file: Path, data_dir: Path) -> None:
    """Make a backup of stopped nodes.

    Parameters
    ----------
    file : Path
        The backup.
    data_dir : Path
        The nodes' data.
    """
    with _progress("applying the log") as tell:
        about = backups.back_up(file, data_dir, KeyValueService(), tell)
    typer.echo(f"{file}: cluster {format_id(about.cluster)} up to entry {about.index}, {about.size} bytes")


def restore(file: Path, data_dir: Path, members: int) -> None:
    """Make the data of a new cluster from a backup.

    Parameters
    ----------
    file : Path
        The backup.
    data_dir : Path
        Where the nodes' data is made.
    members : int
        How many nodes the new cluster has.
    """
    with _progress("writing") as tell:
        about, cluster = backups.restore(file, data_dir, members, tell)
    old, new = format_id(about.cluster), format_id(cluster)
    typer.echo(
        f"{data_dir}: cluster {new}, made from entry {about.index} of cluster {old}; start {members} node(s) on it"
    )
