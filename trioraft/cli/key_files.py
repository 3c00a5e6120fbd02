"""The output of ``trioraft keygen``."""

import sys
from pathlib import Path

import typer

from trioraft.cli.exits import in_one_line
from trioraft.settings.key_files import why_not_secret


def give_key(text: str, path: Path | None) -> None:
    """Print a key, or write it to a file, all at once or not at all.

    Parameters
    ----------
    text : str
        The key, or one on each line.
    path : Path or None
        The file, which must not exist; None to print.

    Raises
    ------
    CommandError
        If the file cannot be written, or exists.
    """
    if path is None:
        typer.echo(text)
        if problem := why_not_secret("/proc/self/fd/1"):
            print(f"trioraft: {problem}; --output FILE makes a better one", file=sys.stderr)  # noqa: T201 - for people
        return
    from trioraft.storage.whole_files import publish, reported, unfinished_file  # noqa: PLC0415

    with in_one_line(), unfinished_file(path) as unfinished:
        with reported(path):
            unfinished.write_text(text + "\n", encoding="ascii")
        publish(unfinished, path)
