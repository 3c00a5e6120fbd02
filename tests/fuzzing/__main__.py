"""Fuzz what strangers can reach, with coverage as the guide."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer

from tests.fuzzing import TARGETS, corpus

# The largest UDP datagram; several of them for an endpoint.
_INPUT_MAX: Final = 65507


def fuzz(target: str, *, runs: int = -1, seconds: int = 0, seed: int = 0, keep: bool = False) -> str:
    """Fuzz one target in a process of its own.

    Parameters
    ----------
    target : str
        One of :data:`~tests.fuzzing.TARGETS`.
    runs : int
        The number of inputs after which it ends; -1 for no limit.
    seconds : int
        The seconds after which it ends; 0 for no limit.
    seed : int
        What chance begins with; 0 for another one each time.
    keep : bool
        Whether inputs that reach something new go into the corpus.

    Returns
    -------
    str
        What libFuzzer printed.

    Raises
    ------
    subprocess.CalledProcessError
        If a promise was broken; its output names the file with the input.
    """
    with tempfile.TemporaryDirectory() as found:
        folders = [str(corpus(target))] if keep else [found, str(corpus(target))]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.fuzzing.run", target),
                *(f"-runs={runs}", f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={_INPUT_MAX}"),
                *(f"-artifact_prefix={tempfile.gettempdir()}/", "-timeout=10", "-rss_limit_mb=1024"),
                *folders,
            ],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, f"fuzzing of {target}", done.stdout)
    return done.stdout


def main(
    targets: Annotated[list[str] | None, typer.Argument(help=f"Some of {', '.join(TARGETS)}; else all.")] = None,
    seconds: Annotated[int, typer.Option(min=1, help="For how long each is fuzzed.")] = 60,
    keep: Annotated[
        bool, typer.Option("--keep", help="Put inputs that reach something new into the corpus.")
    ] = False,
) -> None:
    """Fuzz; exit 1 when a promise was broken."""
    for target in targets or TARGETS:
        if target not in TARGETS:
            print(f"tests.fuzzing: {target!r} is no target; allowed: {', '.join(TARGETS)}", file=sys.stderr)
            raise typer.Exit(2)
        try:
            printed = fuzz(target, seconds=seconds, keep=keep)
        except subprocess.CalledProcessError as broken:
            print(broken.stdout, file=sys.stderr)
            print(f"{target}: a promise is broken")
            raise typer.Exit(1) from None
        print(f"{target}: {printed.strip().splitlines()[-1]}")


if __name__ == "__main__":
    typer.run(main)
