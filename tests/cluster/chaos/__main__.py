"""Chaos on real processes: ``python -m tests.cluster.chaos --help``."""

import json
import random
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import trio
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tests.cluster.chaos.life import Life, live
from tests.cluster.chaos.picture import draw
from tests.cluster.chaos.storm import BrokenError
from tests.cluster.chaos.verdict import judge, sum_up

_BUILT = Path(__file__).parents[3] / "build" / "chaos"


def _now(life: Life) -> str:
    """Say in a few words how things are."""
    cluster = life.cluster.client.cluster()
    leader = cluster.leader.status.name if cluster.leader is not None else "nobody"
    fault = next((fault.kind for fault in reversed(life.storm.faults) if fault.ended is None), "")
    return f"term {cluster.term}, {leader} leads, {len(life.storm.faults)} faults {fault}"


class Course:
    """Lives once, with a bar that shows how far it has come.

    Attributes
    ----------
    life : Life or None
        What is known of the life, also when it was broken off.
    broken : tuple of str
        What broke it off.
    stopped : signal.Signals or None
        The signal that ended it before its time; nothing of it is left but what is kept.
    """

    def __init__(self) -> None:
        self.life: Life | None = None
        self.broken: tuple[str, ...] = ()
        self.stopped: signal.Signals | None = None

    def run(self, directory: Path, seed: int, seconds: float, nodes: int, clients: int) -> None:
        """Live."""
        columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("starting", total=seconds)

            def progress(life: Life) -> None:
                self.life = life
                bar.update(task, completed=trio.current_time() - life.began, description=_now(life))

            try:
                trio.run(
                    self._unless_stopped,
                    partial(live, directory, seed, seconds, nodes=nodes, clients=clients, progress=progress),
                )
            except BaseExceptionGroup as group:
                broken = group.subgroup(BrokenError)
                if broken is None:
                    raise
                self.broken = tuple(map(str, leaves(broken)))

    async def _unless_stopped(self, life: Callable[[], Awaitable[Life]]) -> None:
        """Live until a signal says otherwise; then all that was begun is undone, whatever signals come meanwhile."""

        async def listen() -> None:
            async for number in signals:
                self.stopped = signal.Signals(number)
                nursery.cancel_scope.cancel()

        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen)
                await life()
                nursery.cancel_scope.cancel()


def leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """Return the exceptions in a group, and in the groups in it."""
    for one in group.exceptions:
        if isinstance(one, BaseExceptionGroup):
            yield from leaves(one)
        else:
            yield one


def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long the storm lasts.")] = 10.0,
    seed: Annotated[int | None, typer.Option(help="What chance begins with; another one each time.")] = None,
    nodes: Annotated[int, typer.Option(min=3, max=15, help="How many nodes.")] = 5,
    clients: Annotated[int, typer.Option(min=1, max=100, help="How many clients.")] = 10,
    directory: Annotated[
        Path | None, typer.Option(help="Where to keep everything; build/chaos/SEED here.", file_okay=False)
    ] = None,
) -> None:
    """Have a cluster and its clients in a storm, and judge what came of it; exit status 1 when a rule was broken.

    As root on Linux each node has a network namespace and a file system of
    its own: links go down, addresses change, disks are full. Elsewhere they
    are on loopback, without these faults. Ctrl-C and SIGTERM end a run, which
    then leaves nothing behind but its files.
    """
    seed = random.randrange(10**6) if seed is None else seed
    where = directory or _BUILT / str(seed)
    if where.exists():
        print(f"tests.cluster.chaos: {where} is there already; choose another --directory", file=sys.stderr)
        raise typer.Exit(2)
    print(f"seed {seed}; everything is kept in {where}", file=sys.stderr)
    course = Course()
    course.run(where, seed, 60 * minutes, nodes, clients)
    if course.stopped is not None:
        print(f"seed {seed}: broken off by {course.stopped.name}; what was written until then is in {where}")
        raise typer.Exit(128 + course.stopped)
    if course.life is None:
        print(f"seed {seed}: the cluster did not start: {course.broken}")
        raise typer.Exit(1)
    life = course.life
    judgement = judge(life, course.broken)
    picture = draw(life, judgement, where / "timeline.png")
    print(f"drawn: {picture}", file=sys.stderr)
    faults = [asdict(fault) for fault in life.storm.faults]
    (where / "faults.json").write_text(json.dumps({"began": life.began, "faults": faults}, indent=1))
    for title, counter in (
        ("faults", Counter(f"{fault.group}: {fault.kind}" for fault in life.storm.faults)),
        ("answers", judgement.saw),
        ("reads", life.clients.done),
        ("people", life.storm.count),
    ):
        print(f"{title}: {', '.join(f'{what} {count:,}' for what, count in sorted(counter.items()))}")
    for violation in judgement.violations:
        print(violation)
    print(sum_up(life, judgement))
    raise typer.Exit(1 if judgement.violations else 0)


if __name__ == "__main__":
    typer.run(main)
