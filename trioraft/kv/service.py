"""The store as a node's state machine, with what needs a running node: the clock of leases, and watches.

::

    async with open_node(settings, service) as node:
        node.answer_questions(service.answer, service.only_reads)
        await service.run(node)
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import trio

from trioraft.clock import FOREVER
from trioraft.kv.codec import encode_command, encode_result, pack, unpack
from trioraft.kv.commands import STATE_KIND, Lease, Range
from trioraft.kv.holders import LeaseHolders
from trioraft.kv.lessor import Lessor
from trioraft.kv.local import HashKV, LocalReads
from trioraft.kv.paging import LEASES_PAGE, PagedReads, page_of_keys
from trioraft.kv.questions import (
    ALL_LEASES,
    Answer,
    AnyQuestion,
    LeaseKeepAlive,
    LeaseKeepAliveAnswer,
    LeaseList,
    LeaseListAnswer,
    LeaseTimeToLive,
    LeaseTimeToLiveAnswer,
    Refused,
    WatchAnswer,
    WatchEvents,
)
from trioraft.kv.requests import RangeRequest, TxnRequest
from trioraft.kv.results import Error, ErrorCode, OperationResult, RangeResult
from trioraft.kv.store import Change, KeyValueStore
from trioraft.kv.watch import TAKE_BYTES, Watch, WatchHub
from trioraft.messages import Instant, Seconds, Term
from trioraft.tally import Asker, Limit

# A watch without events is answered after so many seconds, so that no node waits for a client that is gone.
WATCH_SECONDS: Final = 20.0
WATCHES_MAX: Final = 10_000
# Leases and waiting watches are checked once in so many seconds.
_LOOK_INTERVAL: Final = 0.25
# One change may concern very many watches: so many of them are answered before other tasks get their turn.
_AT_ONCE: Final = 64


class Leader(Protocol):
    """What the clock of leases needs from a node."""

    @property
    def leads_in(self) -> Term:
        """The term in which the node leads, 0 when it does not."""

    def now(self) -> Instant:
        """Return the time in seconds, on a clock that counts while the machine is suspended."""

    def propose_in_term(self, term: Term, command: bytes) -> None:
        """Propose a command without waiting for it, if this node leads in that term."""


class Host(Leader, Protocol):
    """What the service needs from a node."""

    async def read_barrier(self) -> None:
        """Wait until everything that was acknowledged before is applied."""

    async def role_changed(self) -> None:
        """Wait until the node leads, or does not lead any more; it may return without that, too."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A client that waits for events."""

    watch: Watch
    answer: Callable[[bytes], None]
    until: Instant


class KeyValueService:
    """The key-value store of one node.

    Parameters
    ----------
    store : KeyValueStore, optional
        The store; an empty one by default.

    Attributes
    ----------
    watch_page_bytes : int
        About how many bytes of keys and values one answer to a watch has.
    hub : WatchHub
        The watches of this node's store.
    """

    state_kind = STATE_KIND

    def __init__(self, store: KeyValueStore | None = None) -> None:
        self.watch_page_bytes = TAKE_BYTES
        self.store = store or KeyValueStore()
        self.store.on_change = self._changed
        self.hub = WatchHub(self.store)
        self._reads = PagedReads(self.store)
        self._local = LocalReads(self.store, self._reads, self._now)
        self._holders = LeaseHolders()
        self._lessor: Lessor | None = None
        self._lessor_term = 0
        self._host: Leader | None = None
        self._waiting: dict[_Waiting, None] = {}
        self._ready: list[_Waiting] = []
        self._has_ready = trio.Event()
        self._has_waiting = trio.Event()
        self._has_news = trio.Event()  # for the clock of leases

    # --- the state machine ----------------------------------------------------------------------------------

    def apply(self, command: bytes) -> bytes:
        """Carry out an encoded command; see :meth:`KeyValueStore.apply`."""
        return self.store.apply(command)

    def query(self, question: bytes) -> bytes:
        """Read keys.

        Parameters
        ----------
        question : bytes
            An encoded :class:`~trioraft.kv.commands.Range`.

        Returns
        -------
        bytes
            An encoded :class:`~trioraft.kv.results.RangeResult` or :class:`~trioraft.kv.results.Error`.
        """
        try:
            request = self.store.decode(question)
        except ValueError:
            request = None
        if not isinstance(request, Range):
            return encode_result(self._malformed("this is no question of the key-value store"))
        if self._host is None:
            return encode_result(self.store.query(request))
        result = self._reads.read(request, self._host.now())
        self._wait_if_any()
        return encode_result(result)

    def snapshot(self) -> Iterator[bytes]:
        """Write the state as it is now; see :meth:`KeyValueStore.snapshot`."""
        return self.store.snapshot()

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Take over the state of a snapshot; see :meth:`KeyValueStore.restore`."""
        self.store.restore(chunks)

    def version_needed(self, command: bytes) -> int:
        """Return the version that a command needs; see :meth:`KeyValueStore.version_needed`."""
        return self.store.version_needed(command)

    def follow_version(self, version: int) -> None:
        """Follow a version; see :meth:`KeyValueStore.follow_version`."""
        self.store.follow_version(version)

    @property
    def size(self) -> int:
        """The bytes that count for the quota; see :attr:`KeyValueStore.size`."""
        return self.store.size

    @property
    def quota(self) -> int:
        """The quota in bytes; see :attr:`KeyValueStore.quota`."""
        return self.store.quota

    def follow_quota(self, quota: int) -> None:
        """Follow a quota; see :meth:`KeyValueStore.follow_quota`."""
        self.store.follow_quota(quota)

    def begin_share(self, who: Asker, command: bytes) -> Limit:
        """Count what a command is going to take; see :meth:`LeaseHolders.begin_share`."""
        return self._holders.begin_share(who, command)

    def end_share(self, who: Asker, command: bytes, result: bytes) -> None:
        """Note what the command has taken; see :meth:`LeaseHolders.end_share`."""
        self._holders.end_share(who, command, result)

    # --- for what serves clients in this process ------------------------------------------------------------

    async def range(self, request: RangeRequest) -> RangeResult | Error:
        """Read keys of this node's store, in parts; see :meth:`LocalReads.range`."""
        return await self._local.range(request)

    def txn(self, request: TxnRequest) -> OperationResult | Error:
        """Carry out a transaction that only reads, at once; see :meth:`KeyValueStore.evaluate`."""
        return self.store.evaluate(request)

    async def hash_kv(self, revision: int = 0) -> HashKV | Error:
        """Compute the hash of all keys of this node's store, in parts; see :meth:`LocalReads.hash_kv`."""
        return await self._local.hash_kv(revision)

    def leases_by_expiry(self) -> list[Lease]:
        """List all leases: where this node leads, those that end first come first; else in the order of their ids."""
        host, lessor, leases = self._host, self._current_lessor(), self.store.leases()
        if host is None or lessor is None:
            return leases
        now = host.now()
        return sorted(leases, key=lambda lease: lessor.remaining(lease.id, now) or 0.0)

    # --- changes --------------------------------------------------------------------------------------------

    def _changed(self, change: Change) -> None:
        if change.restored and not trio.lowlevel.in_trio_run():
            trio.from_thread.run_sync(self.publish, change)  # a node restores in a thread
        else:
            self.publish(change)

    def publish(self, change: Change) -> None:
        """Pass a change of the store on to the watches and the clock of leases.

        Parameters
        ----------
        change : Change
            The change, as the store reports it.
        """
        self.hub.publish(change)
        self._reads.follow(change)
        if change.restored or change.granted or change.ended:
            self._follow_leases(change)

    def _follow_leases(self, change: Change) -> None:
        self._holders.follow(change)
        if self._lessor is None or self._host is None:
            return
        if change.restored:
            self._lessor = None  # no leader is given a snapshot
        else:
            self._lessor.follow(change, self._host.now())
            if change.granted:
                self._has_news.set()

    # --- questions ------------------------------------------------------------------------------------------

    def answer(self, question: bytes, answered: Callable[[bytes], None]) -> Callable[[], None] | None:
        """Answer a question, now or later.

        The node passes a question for the leader on only when it has made sure that it leads, and has applied
        everything that was acknowledged before.

        Parameters
        ----------
        question : bytes
            An encoded :data:`~trioraft.kv.questions.Question`.
        answered : callable
            Called with the encoded :data:`~trioraft.kv.questions.Answer`.

        Returns
        -------
        callable or None
            A function to call when nobody waits for the answer any more.
        """
        try:
            asked = unpack(question, AnyQuestion)
        except ValueError:
            answered(pack(Refused(self._malformed("this is no question of the key-value store"))))
            return None
        match asked:
            case WatchEvents():
                return self._watch(asked, answered)
            case LeaseList(after=after):
                answered(pack(self._list_leases(after)))
            case LeaseKeepAlive(id=lease) | LeaseTimeToLive(id=lease):
                found = self._ask_lessor(asked)
                answered(pack(found if found is not None else Refused(self._no_lease(lease))))
        return None

    @staticmethod
    def only_reads(question: bytes) -> bool:
        """Check whether a question changes nothing, so that a client with a reader's key may ask it.

        Parameters
        ----------
        question : bytes
            An encoded :data:`~trioraft.kv.questions.Question`.

        Returns
        -------
        bool
            Whether it is no keep-alive of a lease.
        """
        try:
            return not isinstance(unpack(question, AnyQuestion), LeaseKeepAlive)
        except ValueError:  # `answer` refuses it
            return True

    def _list_leases(self, after: int) -> LeaseListAnswer:
        if after == ALL_LEASES:
            return LeaseListAnswer(tuple(lease.id for lease in self.store.leases()))
        ids = self.store.lease_ids(after, LEASES_PAGE + 1)
        page = ids[:LEASES_PAGE]
        if page[-1:] == [ALL_LEASES]:
            del page[-1]  # the question for the next page would mean all
        return LeaseListAnswer(tuple(page), more=len(page) < len(ids))

    def _ask_lessor(self, asked: LeaseKeepAlive | LeaseTimeToLive) -> Answer | None:
        host, lessor = self._host, self._current_lessor()
        lease = self.store.lease(asked.id)
        if host is None or lessor is None or lease is None:
            return None
        if isinstance(asked, LeaseKeepAlive):
            ttl = lessor.keep_alive(asked.id, host.now())
            return None if ttl is None else LeaseKeepAliveAnswer(asked.id, ttl)
        remaining = lessor.remaining(asked.id, host.now())
        if remaining is None:
            return None
        keys, more = tuple(self.store.lease_keys(asked.id)) if asked.keys else (), False
        if asked.after is not None:
            keys, more = page_of_keys(keys, asked.after)
        return LeaseTimeToLiveAnswer(asked.id, lease.ttl, remaining, keys, more)

    def _malformed(self, text: str) -> Error:
        return Error(self.store.revision, ErrorCode.MALFORMED, text)

    def _no_lease(self, lease: int) -> Error:
        found = self.store.lease(lease)
        if found is not None and not found.grant:
            text = f"the lease {lease:016x} was revoked"
        else:
            text = f"there is no lease {lease:016x}; it may have expired"
        return Error(self.store.revision, ErrorCode.LEASE_NOT_FOUND, text)

    # --- watches --------------------------------------------------------------------------------------------

    def _watch(self, asked: WatchEvents, answered: Callable[[bytes], None]) -> Callable[[], None] | None:
        def wake() -> None:
            self._ready.append(waiting)
            self._has_ready.set()

        if self._host is None or len(self._waiting) >= WATCHES_MAX:
            answered(pack(Refused(self._malformed(f"there are {WATCHES_MAX} watches already; try again later"))))
            return None
        watch = self.hub.watch(
            asked.key,
            asked.range_end,
            revision=asked.revision,
            given=asked.given,
            prev_kv=asked.prev_kv,
            wake=wake,
        )
        waiting = _Waiting(watch, answered, self._host.now() + WATCH_SECONDS)
        self._waiting[waiting] = None
        self._wait_if_any()
        self._give(waiting)
        return partial(self._forget, waiting)

    def _forget(self, waiting: _Waiting) -> None:
        """End the watch of a client that waits no more."""
        if waiting in self._waiting:
            waiting.watch.close()
            del self._waiting[waiting]

    def _give(self, waiting: _Waiting) -> None:
        """Answer, if there are events or an error."""
        taken = waiting.watch.take(self.watch_page_bytes)
        if isinstance(taken, Error):
            self._end(waiting, Refused(taken))
        elif taken is not None:
            self._end(waiting, WatchAnswer(taken.revision, taken.events, taken.given))

    def _end(self, waiting: _Waiting, answer: Answer) -> None:
        waiting.watch.close()
        del self._waiting[waiting]
        waiting.answer(pack(answer))

    async def _serve_watches(self) -> None:
        while True:
            await self._has_ready.wait()
            self._has_ready = trio.Event()
            while self._ready:
                self.give_ready(_AT_ONCE)
                await trio.lowlevel.checkpoint()

    def give_ready(self, most: int | None = None) -> None:
        """Answer the clients that watch something that has changed.

        Parameters
        ----------
        most : int, optional
            The largest number of answers; all by default.
        """
        ready, self._ready = self._ready[:most], self._ready[most:] if most else []
        for waiting in ready:
            if waiting in self._waiting:
                self._give(waiting)

    def end_old_watches(self, now: Instant) -> None:
        """Answer the clients that have waited for long without an event.

        Parameters
        ----------
        now : float
            The time.
        """
        for waiting in list(self._waiting):
            if waiting.until > now:
                return  # the others came later
            watch = waiting.watch
            self._end(waiting, WatchAnswer(watch.next_revision - 1, (), watch.given))

    # --- time -----------------------------------------------------------------------------------------------

    def _now(self) -> Instant:
        return self._host.now() if self._host is not None else 0.0

    def attach(self, host: Leader) -> None:
        """Attach the service to its node, as :meth:`run` does first.

        Parameters
        ----------
        host : Leader
            The node.
        """
        self._host = host

    async def run(self, host: Host) -> None:
        """Let leases end, and answer watches, until cancelled.

        Parameters
        ----------
        host : Host
            The node.
        """
        self.attach(host)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve_watches)
            nursery.start_soon(self._lead, host)
            nursery.start_soon(self._follow_roles, host)
            while True:
                await self._has_waiting.wait()
                await trio.sleep(_LOOK_INTERVAL)
                self.end_old_watches(host.now())
                self._reads.end_old(host.now())
                self._has_waiting = trio.Event()
                self._wait_if_any()

    def _wait_if_any(self) -> None:
        """Have the end of watches and of paged reads waited for, if there are any."""
        if self._waiting or self._reads.are_kept:
            self._has_waiting.set()

    async def _lead(self, host: Host) -> None:
        """Propose the end of leases whose time is up, whenever this node leads."""
        while True:
            news = self._has_news = trio.Event()
            term, pause = host.leads_in, FOREVER
            if term and not self.has_clock(term):
                await host.read_barrier()
            if term and host.leads_in == term:
                pause = self.end_due_leases(host)
            with trio.move_on_after(pause):
                await news.wait()

    async def _follow_roles(self, host: Host) -> None:
        while True:
            await host.role_changed()
            self._has_news.set()

    def has_clock(self, term: Term) -> bool:
        """Check whether the clock of leases runs for a term; before it starts, what is acknowledged must be applied.

        Parameters
        ----------
        term : int
            The term.

        Returns
        -------
        bool
            Whether it runs.
        """
        return self._lessor_term == term

    def end_due_leases(self, host: Leader) -> Seconds:
        """Propose the end of the leases whose time is up; call it on a leader.

        Parameters
        ----------
        host : Leader
            The node; everything that was acknowledged before its term is applied there.

        Returns
        -------
        float
            The time until it has to be called again, in seconds; infinity where there is no lease.
        """
        lessor = self._current_lessor()
        if lessor is None:
            return 0.0
        now = host.now()
        for command in lessor.due(now):
            host.propose_in_term(host.leads_in, encode_command(command))
        deadline = lessor.next_deadline()
        return FOREVER if deadline is None else min(max(deadline - now, 0), _LOOK_INTERVAL)

    def _current_lessor(self) -> Lessor | None:
        """Return the leader's clock of leases, a new one in each term; everything of earlier terms is applied."""
        host = self._host
        if host is None or not host.leads_in:
            return None
        if self._lessor is None or self._lessor_term != host.leads_in:
            self._lessor, self._lessor_term = Lessor(self.store.leases(), host.now()), host.leads_in
        return self._lessor
