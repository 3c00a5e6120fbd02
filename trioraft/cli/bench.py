"""The options of ``trioraft bench``."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from trioraft.cli.exits import WRONG, CommandError
from trioraft.cli.running import Peers, choice, client_settings, number, run_client
from trioraft.clock import FOREVER

if TYPE_CHECKING:
    from trioraft.benchmark.load import Load

_SECONDS: Final = "10"
_VALUE_MAX: Final = 1024 * 1024
_CONCURRENCY_MAX: Final = 10_000  # a node takes up to 20,000 requests at a time


def bench(  # noqa: PLR0913 - an option each
    size: Annotated[str, typer.Option(metavar="BYTES", help="The size of each value.")] = "64",
    concurrency: Annotated[str, typer.Option(metavar="N", help="How many commands are under way.")] = "64",
    commands: Annotated[
        str | None, typer.Option(metavar="N", help="So many commands, however long it takes.", show_default=False)
    ] = None,
    seconds: Annotated[
        str | None, typer.Option(metavar="N", help="For so long; 10 by default.", show_default=False)
    ] = None,
    *,
    local: Annotated[bool, typer.Option("--local", help="Start a temporary cluster here, and bench that.")] = False,
    nodes: Annotated[str | None, typer.Option(metavar="N", help="With --local: its size, 3 by default.")] = None,
    durability: Annotated[
        str | None, typer.Option(metavar="sync|memory", help="With --local: whether it syncs; sync by default.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --local: the disk to use.", show_default=False)
    ] = None,
    peers: Peers = None,
    form: Annotated[
        str, typer.Option("--output", "-o", "--format", metavar="table|json", help="How to print.")
    ] = "table",
) -> int:
    """Measure commits/s and latencies.

    Puts values under keys of its own in the running cluster, through client sessions as any client does, and
    removes them afterwards. With --local it starts a cluster of its own, and tells how latencies compare with what
    this machine's network stack and disk need by themselves.
    """
    choice("--output", form, "table", "json")
    _check_local(local, {"--peers": peers}, {"--nodes": nodes, "--durability": durability, "--data-dir": data_dir})
    asked = _what_is_done(size, concurrency, commands, seconds)
    if local:
        count = number("--nodes", nodes or "3", 1, 100)
        choice("--durability", durability or "sync", "sync", "memory")
        mode: Literal["sync", "memory"] = "memory" if durability == "memory" else "sync"
        from trioraft.benchmark.command import bench_locally  # noqa: PLC0415
        from trioraft.benchmark.errors import BenchmarkError  # noqa: PLC0415

        return run_client(lambda: bench_locally(count, mode, data_dir, asked, form), errors=(BenchmarkError,))
    settings = client_settings(peers)
    from trioraft.benchmark.command import bench_running  # noqa: PLC0415
    from trioraft.benchmark.errors import BenchmarkError  # noqa: PLC0415

    return run_client(lambda: bench_running(settings, asked, form), errors=(BenchmarkError,))


def _check_local(local: bool, without: Mapping[str, object], only_with: Mapping[str, object]) -> None:
    """Refuse options that need --local where it is not given, and those that it excludes where it is."""
    for option, given in (without if local else only_with).items():
        if given is not None:
            text = f"{option}={str(given)[:100]!r}: allowed only {'without' if local else 'with'} --local"
            raise CommandError(text, WRONG)
    data_dir = only_with["--data-dir"]
    if isinstance(data_dir, Path) and not data_dir.is_dir():
        raise CommandError(f"--data-dir={str(data_dir)[:100]!r}: allowed: a directory that there is", WRONG)


def _what_is_done(size: str, concurrency: str, commands: str | None, seconds: str | None) -> "Load":
    if commands is not None and seconds is not None:
        raise CommandError("--commands and --seconds exclude each other; give one of them", WRONG)
    value_bytes = number("--size", size, 0, _VALUE_MAX)
    outstanding = number("--concurrency", concurrency, 1, _CONCURRENCY_MAX)
    total = number("--commands", commands, 1, 1_000_000_000) if commands is not None else 0
    duration = FOREVER if total else float(number("--seconds", seconds or _SECONDS, 1, 86_400))
    from trioraft.benchmark.load import Load  # noqa: PLC0415

    return Load(value_bytes, outstanding, total, duration)
