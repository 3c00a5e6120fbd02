"""The load: puts, several at a time, through the sessions of ordinary clients."""

import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import trio

from trioraft.benchmark.errors import BenchmarkError
from trioraft.benchmark.latencies import Latencies
from trioraft.client.client import Client, NoAnswerError, open_client
from trioraft.client.status import ClusterStatus, printable
from trioraft.clock import FOREVER
from trioraft.datagrams.endpoint import Domain
from trioraft.errors import ProposalError
from trioraft.kv.errors import KeyValueError
from trioraft.nurseries import first_error
from trioraft.settings.settings import ClientSettings

# The method of a client that the load is put with, as any program would: `_Run._put_one_by_one`. Reports name it.
INTERFACE: Final = "Client.put"
# A session takes at most 1,024 commands, counted from the oldest that is not answered.
COMMANDS_OF_A_CLIENT: Final = 500
# How long the search for a leader may take, and how long the cluster may commit nothing, until the run is given up.
_FIND_SECONDS: Final = 30.0
_SILENCE_SECONDS: Final = 30.0
_LOOK_INTERVAL: Final = 0.1
_CLEAN_UP_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Load:
    """The load on the cluster.

    Attributes
    ----------
    value_bytes : int
        The size of each value.
    concurrency : int
        The number of commands under way at any time.
    commands : int
        The number of commands in all; 0 for as many as there is time for.
    seconds : float
        How long new commands are begun.
    """

    value_bytes: int
    concurrency: int
    commands: int = 0
    seconds: float = FOREVER

    @property
    def clients(self) -> int:
        """The number of clients that the load needs."""
        return -(-self.concurrency // COMMANDS_OF_A_CLIENT)


@dataclass(slots=True)
class Outcome:
    """The result of a load.

    Attributes
    ----------
    latencies : Latencies
        The latency of each commit, from the call to its result.
    seconds : float
        How long the load has run, until now or its end.
    """

    latencies: Latencies = field(default_factory=Latencies)
    seconds: float = 0.0

    @property
    def commits_per_second(self) -> float:
        """The number of commands committed each second."""
        return self.latencies.count / self.seconds if self.seconds else 0.0


class Finished(NamedTuple):
    """A load that has ended.

    Attributes
    ----------
    outcome : Outcome
        The result.
    cluster : ClusterStatus
        The cluster as its clients saw it.
    """

    outcome: Outcome
    cluster: ClusterStatus


class _Run:
    """A load under way."""

    def __init__(self, load: Load, prefix: bytes) -> None:
        self.outcome = Outcome()
        self._load = load
        self._prefix = prefix
        self._value = bytes(load.value_bytes)
        self._begun = 0
        self._started_at = time.perf_counter()

    async def run(self, clients: list[Client], tell: Callable[[Outcome], None]) -> Outcome:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, clients[0], tell)
            async with trio.open_nursery() as workers:
                for number in range(self._load.concurrency):
                    workers.start_soon(self._put_one_by_one, clients[number % len(clients)], number)
            nursery.cancel_scope.cancel()
        self._count_time()
        return self.outcome

    async def _put_one_by_one(self, client: Client, number: int) -> None:
        """Put one value after another under a key of its own, in a task of its own."""
        load, add = self._load, self.outcome.latencies.add
        key = self._prefix + b"%d" % number
        until = self._started_at + load.seconds
        while (begun := time.perf_counter()) < until:
            if load.commands and self._begun >= load.commands:
                return
            self._begun += 1
            await client.put(key, self._value)
            add(time.perf_counter() - begun)

    def _count_time(self) -> None:
        self.outcome.seconds = time.perf_counter() - self._started_at

    async def _watch(self, client: Client, tell: Callable[[Outcome], None]) -> None:
        """Report the progress, and give up when nothing is committed any more."""
        seen, seen_at = 0, trio.current_time()
        while True:
            await trio.sleep(_LOOK_INTERVAL)
            self._count_time()
            tell(self.outcome)
            if self.outcome.latencies.count > seen:
                seen, seen_at = self.outcome.latencies.count, trio.current_time()
            elif trio.current_time() > seen_at + _SILENCE_SECONDS:
                why = client.problem or "the cluster does not answer any more"
                raise NoAnswerError(f"nothing was committed for {_SILENCE_SECONDS:g} s: {printable(why)}")


async def run_load(settings: ClientSettings, load: Load, prefix: bytes, tell: Callable[[Outcome], None]) -> Finished:
    """Put a cluster under load, and remove the keys afterwards.

    Parameters
    ----------
    settings : ClientSettings
        The addresses of the cluster, and the keys.
    load : Load
        The load.
    prefix : bytes
        The prefix of the keys, which nobody else may use.
    tell : callable
        Called now and then with the result so far.

    Returns
    -------
    Finished
        The result, and the cluster.

    Raises
    ------
    NoAnswerError
        If there is no leader, or nothing is committed for 30 s.
    BenchmarkError
        If the cluster refuses a command.
    """
    try:
        async with _open_clients(settings, load.clients) as clients:
            await _warm_up(clients, prefix)
            try:
                return Finished(await _Run(load, prefix).run(clients, tell), clients[0].cluster())
            finally:
                await _clean_up(clients[0], prefix)
    except* (KeyValueError, ProposalError) as group:
        raise BenchmarkError(printable(str(first_error(group)))) from None


@asynccontextmanager
async def _open_clients(settings: ClientSettings, number: int) -> AsyncIterator[list[Client]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_client(settings, Domain.CLIENT)) for _ in range(number)]


async def _warm_up(clients: list[Client], prefix: bytes) -> None:
    """Find the leader, and open every client's session."""
    with trio.move_on_after(_FIND_SECONDS) as scope:
        for client in clients:
            await client.put(prefix, b"")
    if scope.cancelled_caught:
        raise NoAnswerError(f"{printable(clients[0].problem)} (waited {_FIND_SECONDS:g} s)")
    await clients[0].statuses()


async def _clean_up(client: Client, prefix: bytes) -> None:
    with trio.move_on_after(_CLEAN_UP_SECONDS, shield=True) as scope:
        await client.delete(prefix, prefix=True)
    if scope.cancelled_caught:
        text = f"trioraft: keys are left: remove them with `trioraft delete --prefix {prefix.decode()}`"
        print(text, file=sys.stderr)  # noqa: T201 - for the user of the benchmark
