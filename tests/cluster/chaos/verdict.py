"""What a life has shown: whether what clients saw is linearizable, and whether no term had two leaders."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from tests.cluster.chaos.life import Life
from tests.linearizability import (
    Deleted,
    Found,
    Get,
    KeyValueModel,
    Operation,
    Put,
    Swapped,
    Verdict,
    check,
)
from tests.linearizability.models import KeyValueInput, KeyValueOutput

Known = Operation[KeyValueInput, KeyValueOutput]

_SEARCH_SECONDS = 300.0


@dataclass(frozen=True)
class Judgement:
    """What came of a life.

    Attributes
    ----------
    violations : tuple of str
        What must not be, each with its reason.
    operations, unanswered : int
        How many were answered, and how many not.
    terms, leaders : int
        The highest term, and in how many of them somebody led.
    gap : float
        The longest time between two acknowledged writes, in seconds.
    saw : Counter of str
        What the answers were.
    search : str
        What the search for an order took.
    """

    violations: tuple[str, ...]
    operations: int
    unanswered: int
    terms: int
    leaders: int
    gap: float
    saw: Counter[str]
    search: str


def judge(life: Life, broken: Sequence[str] = ()) -> Judgement:
    """Judge a life, which may have been broken off for some reasons."""
    operations = life.history.operations()
    known = [op for op in operations if op.returned is not None]
    result = check(KeyValueModel(), life.history, time_limit=_SEARCH_SECONDS)
    leaders = leaders_by_term(life)
    violations = [
        *broken,
        *(
            f"term {term} had the leaders {', '.join(sorted(nodes))}"
            for term, nodes in leaders.items()
            if len(nodes) > 1
        ),
    ]
    if result.verdict is not Verdict.LINEARIZABLE:
        violations.append(f"{result}; the history is {life.history_file}")
    began = life.offset + int(life.began * 1e9)
    written = sorted(op.returned for op in known if not isinstance(op.input, Get) and op.returned is not None)
    return Judgement(
        violations=tuple(violations),
        operations=len(known),
        unanswered=len(operations) - len(known),
        terms=max((seen.term for node in life.watch.seen for seen in node), default=0),
        leaders=len(leaders),
        gap=max((after - before for before, after in pairwise([began, *written])), default=0) / 1e9,
        saw=Counter(map(_outcome, known)),
        search=f"{result.partitions} partitions, {result.seconds:.1f} s of search",
    )


def leaders_by_term(life: Life) -> dict[int, set[str]]:
    """Return who led in each term, by what the nodes have written into their logs."""
    leaders: dict[int, set[str]] = {}
    for i in range(life.cluster.size):
        for line in life.cluster.logs(i):
            if line["event"] == "became leader":
                leaders.setdefault(line["term"], set()).add(f"node-{i + 1}")
    return leaders


def with_a_stale_read(operations: list[Known]) -> list[Known]:
    """Return the operations of one key, with one read changed to what was there before: no such history may pass."""
    writes = [op for op in operations if isinstance(op.input, Put) and op.returned is not None]
    for read in reversed(operations):
        if not isinstance(read.input, Get) or read.returned is None:
            continue
        same_key = [op for op in writes if op.input.key == read.input.key and (op.returned or 0) < read.called]
        for newer in same_key:
            older = [op for op in same_key if (op.returned or 0) < newer.called]
            if older and isinstance(older[0].input, Put) and older[0].output is not None:
                stale = Found(older[0].input.value, older[0].output.revision)
                changed = replace(read, output=stale)
                return [changed if op is read else op for op in operations if op.input.key == read.input.key]
    raise AssertionError("no read has come after two writes of its key")


def _outcome(operation: Known) -> str:
    match operation.output:
        case Found(value):
            return "not found" if value is None else "found"
        case Deleted(existed):
            return "deleted" if existed else "nothing deleted"
        case Swapped(succeeded):
            return "swapped" if succeeded else "not swapped"
    return "written"


def sum_up(life: Life, judgement: Judgement) -> str:
    """Say it in one line."""
    faults = Counter(fault.kind for fault in life.storm.faults)
    outcome = f"{len(judgement.violations)} VIOLATIONS" if judgement.violations else "no violation"
    return (
        f"seed {life.seed}: {life.seconds / 60:.1f} minutes, {life.cluster.size} nodes "
        f"{f'on loopback ({life.on_loopback})' if life.on_loopback else 'in network namespaces of their own'}, "
        f"{judgement.operations:,} operations ({judgement.unanswered} unanswered) in {judgement.search}; "
        f"{judgement.leaders} leaders in {judgement.terms} terms, no write for {judgement.gap:.1f} s at most "
        f"(the relay stood still for {life.late:.1f} s); "
        f"datagrams between nodes: {life.lost:,} lost, {life.overtaken:,} overtaken; "
        f"by clients: {life.clients.lost:,} lost; {len(life.storm.faults)} faults "
        f"({', '.join(f'{count} {kind}' for kind, count in sorted(faults.items()))}): {outcome}"
    )
