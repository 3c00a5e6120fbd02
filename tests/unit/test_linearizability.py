"""The linearizability checker: on histories from the literature, and against a search of every order."""

import io
import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.linearizability import (
    Add,
    Cas,
    CasRevision,
    CounterModel,
    Delete,
    Deleted,
    Found,
    Get,
    History,
    KeyValueModel,
    Model,
    Operation,
    Put,
    Read,
    Swapped,
    Total,
    Verdict,
    Written,
    assert_linearizable,
    check,
)
from tests.linearizability.brute_force import KeyValueOperation, brute_force
from tests.linearizability.checker import explain
from tests.linearizability.models import KeyValueInput, KeyValueOutput
from tests.linearizability.simulated import simulate

KV = KeyValueModel()
PUT_A, PUT_B, PUT_C, GET = Put("x", "a"), Put("x", "b"), Put("x", "c"), Get("x")
DONE = Written()
A, B, C, NOTHING = Found("a"), Found("b"), Found("c"), Found(None)
YES, NO = Swapped(True), Swapped(False)


def span(called: int, returned: int | None, asked: Any, answered: Any = None) -> Operation[Any, Any]:
    """One operation of a process of its own; `returned` is None where the outcome is not known."""
    return Operation(called, asked, answered, called, returned)


GOOD = {
    "nothing happened": [],
    "one after another": [span(0, 1, PUT_A, DONE), span(2, 3, GET, A), span(4, 5, Delete("x"), Deleted(True))],
    "Herlihy and Wing, H5-like: overlapping writes in either order": [
        span(0, 5, PUT_A, DONE),
        span(1, 4, PUT_B, DONE),
        span(6, 7, GET, A),
    ],
    "a read that overlaps a write sees the old value after another saw the old one": [
        span(0, 1, PUT_A, DONE),
        span(2, 9, PUT_B, DONE),
        span(3, 4, GET, A),
        span(5, 6, GET, A),
        span(7, 8, GET, B),
    ],
    "unknown write seen later": [
        span(0, 1, PUT_A, DONE),
        span(2, None, PUT_B),
        span(3, 4, GET, A),
        span(50, 51, GET, B),
    ],
    "unknown write never seen": [span(0, 1, PUT_A, DONE), span(2, None, PUT_B), span(3, 4, GET, A)],
    "unknown delete explains a key that is gone": [
        span(0, 1, PUT_A, DONE),
        span(2, None, Delete("x")),
        span(3, 4, GET, NOTHING),
    ],
    "unknown cas took effect": [
        span(0, 1, PUT_A, DONE),
        span(2, None, Cas("x", "a", "b")),
        span(3, 4, Cas("x", "b", "c"), YES),
    ],
    "equal times overlap": [span(0, 1, PUT_A, DONE), span(1, 2, GET, NOTHING)],
    "revisions skip those of other keys": [
        span(0, 1, PUT_A, Written(2)),
        span(2, 3, PUT_B, Written(7)),
        span(4, 5, GET, Found("b", 7)),
        span(6, 7, CasRevision("x", 7, "c"), Swapped(True, 9)),
        span(8, 9, CasRevision("x", 0, "a"), NO),
    ],
    "an unknown write has some revision": [
        span(0, 1, PUT_A, Written(2)),
        span(2, None, PUT_B),
        span(3, 4, CasRevision("x", 3, "c"), NO),
        span(5, 6, GET, Found("b", 4)),
        span(7, 8, PUT_A, Written(5)),
    ],
    "either of two unknown changes explains a failed cas, and only one leaves the other for later": [
        span(0, 1, PUT_A, DONE),
        span(2, None, Delete("x")),
        span(3, None, PUT_B),
        span(4, 5, Cas("x", "a", "b"), NO),
        span(6, 7, PUT_C, DONE),
        span(8, 9, GET, NOTHING),
    ],
    "two keys are independent": [
        span(0, 1, PUT_A, DONE),
        span(2, 3, Get("y"), NOTHING),
        span(4, 5, Put("y", "b"), DONE),
        span(6, 7, GET, A),
    ],
}

BAD = {
    "stale read": [span(0, 1, PUT_A, DONE), span(2, 3, PUT_B, DONE), span(4, 5, GET, A)],
    "lost update: the second of two writes is missing": [
        span(0, 1, PUT_A, DONE),
        span(2, 3, Cas("x", "a", "b"), YES),
        span(4, 5, Cas("x", "a", "c"), YES),
        span(6, 7, GET, C),
    ],
    "read of a value never written": [span(0, 1, PUT_A, DONE), span(2, 3, GET, Found("z"))],
    "read of a value before anyone wrote it": [span(0, 1, GET, A), span(2, 3, PUT_A, DONE)],
    "an acknowledged write is gone": [span(0, 1, PUT_A, DONE), span(2, 3, GET, NOTHING)],
    "overlapping cas from one value succeeded twice": [
        span(0, 1, PUT_A, DONE),
        span(2, 9, Cas("x", "a", "b"), YES),
        span(3, 8, Cas("x", "a", "c"), YES),
    ],
    "cas at one revision succeeded twice": [
        span(0, 1, PUT_A, Written(2)),
        span(2, 9, CasRevision("x", 2, "b"), Swapped(True, 3)),
        span(3, 8, CasRevision("x", 2, "c"), Swapped(True, 4)),
    ],
    "cas failed though nothing else happened": [span(0, 1, PUT_A, DONE), span(2, 3, Cas("x", "a", "b"), NO)],
    "unknown write seen and then unseen": [
        span(0, 1, PUT_A, DONE),
        span(2, None, PUT_B),
        span(3, 4, GET, B),
        span(5, 6, GET, A),
    ],
    "unknown write took effect before it was called": [
        span(0, 1, PUT_A, DONE),
        span(2, 3, GET, B),
        span(4, None, PUT_B),
    ],
    "one unknown delete cannot happen twice": [
        span(0, 1, PUT_A, DONE),
        span(2, None, Delete("x")),
        span(3, 4, GET, NOTHING),
        span(5, 6, PUT_A, DONE),
        span(7, 8, GET, NOTHING),
    ],
    "two readers see overlapping writes in opposite orders": [
        span(0, 20, PUT_A, DONE),
        span(0, 20, PUT_B, DONE),
        span(1, 2, GET, A),
        span(3, 4, GET, B),
        span(5, 6, GET, A),
    ],
    "reads that do not overlap are reversed within one write": [
        span(0, 1, PUT_A, DONE),
        span(2, 9, PUT_B, DONE),
        span(3, 4, GET, B),
        span(5, 6, GET, A),
    ],
    "mod_revision goes back": [span(0, 1, PUT_A, Written(5)), span(2, 3, PUT_B, Written(4))],
    "mod_revision of another write": [
        span(0, 1, PUT_A, Written(2)),
        span(2, 3, PUT_B, Written(3)),
        span(4, 5, GET, Found("b", 2)),
    ],
    "a failed cas ruled out the revision that is read later": [
        span(0, 1, PUT_A, Written(2)),
        span(2, None, PUT_B),
        span(3, 4, GET, B),
        span(5, 6, CasRevision("x", 5, "c"), NO),
        span(7, 8, GET, Found("b", 5)),
    ],
    "a failed cas ruled out the only revision that an unknown write can have": [
        span(0, 1, PUT_A, Written(2)),
        span(2, None, PUT_B),
        span(3, 4, GET, B),
        span(5, 6, CasRevision("x", 3, "c"), NO),
        span(7, 8, PUT_C, Written(4)),
    ],
    "no room for the revision of an unknown write": [
        span(0, 1, PUT_A, Written(2)),
        span(2, None, PUT_B),
        span(3, 4, GET, B),
        span(5, 6, PUT_C, Written(3)),
    ],
}


@pytest.mark.parametrize("name", GOOD)
def test_known_good_histories_are_accepted(name: str) -> None:
    result = assert_linearizable(KV, GOOD[name])
    assert result.ok
    assert result.operations == len(GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_known_bad_histories_are_rejected(name: str) -> None:
    result = check(KV, BAD[name])
    assert result.verdict is Verdict.VIOLATED
    with pytest.raises(AssertionError, match="not linearizable"):
        assert_linearizable(KV, BAD[name])


@pytest.mark.parametrize("name", [*GOOD, *BAD])
def test_brute_force_agrees_about_the_known_histories(name: str) -> None:
    for key in ("x", "y"):
        history = [op for op in {**GOOD, **BAD}[name] if op.input.key == key]
        assert brute_force(history) == check(KV, history).ok


class Enqueue(NamedTuple):
    item: str


class Dequeue(NamedTuple):
    pass


class QueueModel(Model[tuple[str, ...], Enqueue | Dequeue, str]):
    """The first-in, first-out queue of Herlihy and Wing's examples."""

    def initial(self) -> tuple[str, ...]:
        return ()

    def step(self, state: tuple[str, ...], asked: Enqueue | Dequeue, answered: str) -> tuple[str, ...] | None:
        if isinstance(asked, Enqueue):
            return (*state, asked.item)
        return state[1:] if state and state[0] == answered else None

    def effect(self, state: tuple[str, ...], asked: Enqueue | Dequeue) -> tuple[str, ...]:
        return (*state, asked.item) if isinstance(asked, Enqueue) else state[1:]


ENQ_X, ENQ_Y, DEQ = Enqueue("x"), Enqueue("y"), Dequeue()


@pytest.mark.parametrize(
    ("history", "linearizable"),
    [
        pytest.param(  # Figure 1(a): x and y overlap, so that either may come out first
            [span(0, 3, ENQ_X, ""), span(1, 4, ENQ_Y, ""), span(5, 7, DEQ, "y"), span(6, 8, DEQ, "x")], True, id="H1"
        ),
        pytest.param(  # Figure 1(b): x was in before y was called, and y comes out first
            [span(0, 1, ENQ_X, ""), span(2, 3, ENQ_Y, ""), span(4, 7, DEQ, "y")], False, id="H2"
        ),
        pytest.param(  # Figure 1(c): the enqueue has not returned, and may have taken effect
            [span(0, None, ENQ_X), span(1, 2, DEQ, "x")], True, id="H3"
        ),
        pytest.param(  # Figure 1(d): one item comes out twice
            [span(0, 1, ENQ_X, ""), span(2, 9, ENQ_Y, ""), span(3, 5, DEQ, "y"), span(6, 8, DEQ, "y")], False, id="H4"
        ),
    ],
)
def test_the_queues_of_herlihy_and_wing(history: list[Operation[Any, Any]], linearizable: bool) -> None:
    assert check(QueueModel(), history).ok is linearizable


@pytest.mark.parametrize(
    ("history", "linearizable"),
    [
        pytest.param([span(0, 5, Add(1), Total(2)), span(0, 5, Add(1), Total(1))], True, id="overlapping"),
        pytest.param([span(0, 5, Add(1), Total(1)), span(0, 5, Add(1), Total(1))], False, id="lost-update"),
        pytest.param([span(0, 1, Add(1), Total()), span(2, 3, Read(), Total(0))], False, id="stale"),
        pytest.param(
            [span(0, None, Add(1)), span(2, 3, Read(), Total(0)), span(4, 5, Read(), Total(1))], True, id="late"
        ),
        pytest.param([span(0, None, Add(1)), span(2, 3, Read(), Total(2))], False, id="applied-twice"),
        pytest.param(
            [*(span(0, None, Add(1)) for _ in range(60)), span(2, 3, Read(), Total(61))], False, id="60-of-61"
        ),
        pytest.param([span(0, 1, Add(1, "a"), Total(1)), span(2, 3, Read("b"), Total(0))], True, id="two-counters"),
    ],
)
def test_histories_of_counters_are_judged_right(history: list[Operation[Any, Any]], linearizable: bool) -> None:
    assert check(CounterModel(), history).ok is linearizable


def test_revisions_are_checked_across_keys() -> None:
    put_y = Put("y", "b")
    twice = [span(0, 5, PUT_A, Written(2)), span(0, 5, put_y, Written(2))]
    backwards = [span(0, 1, PUT_A, Written(3)), span(2, 3, put_y, Written(2))]
    seen_before = [span(0, 5, PUT_A, Written(3)), span(1, 2, GET, Found("a", 3)), span(3, 4, put_y, Written(2))]
    for history in (twice, backwards, seen_before):
        result = check(KV, history)
        assert result.verdict is Verdict.VIOLATED
        assert result.violation is not None
        assert len(result.violation.stuck) == 2
        assert "put y 'b' -> written @2" in str(result)
    overlapping = [span(0, 3, PUT_A, Written(3)), span(2, 5, put_y, Written(2))]
    assert check(KV, overlapping).ok


def test_the_smallest_bad_partition_isexplained_where_it_breaks() -> None:
    later = [replace(op, called=op.called + 100, returned=(op.returned or 0) + 100) for op in BAD["stale read"]]
    fine = [span(10 * number, 10 * number + 1, Put("x", str(number)), DONE) for number in range(6)]
    larger = [span(0, 1, Put("w", "q"), DONE), span(2, 3, Get("w"), NOTHING)]
    larger += [span(4 + number, 5 + number, Get("w"), NOTHING) for number in range(30)]
    result = check(KV, [*fine, *later, *larger, span(200, 201, PUT_C, DONE), span(202, 203, GET, C)])
    assert result.violation is not None
    assert result.violation.key == "x"
    assert result.violation.culprit == later[-1]
    assert [op.input for op in result.violation.prefix] == [op.input for op in [*fine, *later[:-1]]]
    assert list(result.violation.stuck) == [later[-1]]
    assert "put x 'b' -> written" in str(result)
    assert "get x -> 'a'" in str(result)
    assert "leads to 'b' @8 or above, and none of these can follow:" in str(result)


def test_a_search_that_takes_too_long_is_undecided_never_ok() -> None:
    amounts = [span(0, None, Add(3**number)) for number in range(40)]
    history = [*amounts, span(1, 2, Read(), Total(2)), span(3, 4, Add(0, "other"), Total(0))]
    for result in (check(CounterModel(), history, time_limit=0.2), check(CounterModel(), history, places=500)):
        assert result.verdict is Verdict.UNDECIDED
        assert not result.ok
        assert result.undecided == ("counter",)
        assert result.seconds < 5
    with pytest.raises(AssertionError, match="undecided"):
        assert_linearizable(CounterModel(), history, time_limit=0.2)


def test_an_explanation_that_was_cut_short_says_so() -> None:
    amounts = [span(20, None, Add(3**number)) for number in range(12)]
    history = [span(0, 1, Add(1), Total(1)), *amounts, span(21, 22, Read(), Total(3)), span(23, 24, Read(), Total(3))]
    assert check(CounterModel(), history).violation is not None
    cut = explain(CounterModel(), "counter", history, 60.0, 100)
    assert not cut.complete
    assert "At the latest with this return:" in str(cut)


# Small enough for every order, and with few values and little time, so that about half are not linearizable.
_INPUTS: st.SearchStrategy[KeyValueInput] = st.sampled_from(
    [
        *[GET, PUT_A, PUT_B, Delete("x"), Cas("x", "a", "b"), Cas("x", None, "a")],
        *[CasRevision("x", 0, "a"), CasRevision("x", 2, "b"), CasRevision("x", 3, "c")],
    ]
)
_REVISION = st.none() | st.integers(1, 5)


@st.composite
def _operations(draw: st.DrawFn) -> KeyValueOperation:
    asked = draw(_INPUTS)
    called = draw(st.integers(0, 8))
    returned = draw(st.none() | st.integers(called, 10)) if draw(st.booleans()) else called + draw(st.integers(0, 3))
    return Operation(0, asked, None if returned is None else draw(_answers(asked)), called, returned)


def _answers(asked: KeyValueInput) -> st.SearchStrategy[KeyValueOutput]:
    match asked:
        case Get():
            return st.just(NOTHING) | st.builds(Found, st.sampled_from(["a", "b", "c"]), _REVISION)
        case Put():
            return st.builds(Written, _REVISION)
        case Delete():
            return st.just(Deleted(False)) | st.builds(Deleted, st.just(True), _REVISION)
        case Cas() | CasRevision():
            return st.just(NO) | st.builds(Swapped, st.just(True), _REVISION)


class _OneKey(KeyValueModel):
    """Without what is checked across keys, which is another thing than an order of one key's operations."""

    def across(self, operations: object) -> None:
        return None


@settings(max_examples=500, deadline=None)
@given(st.lists(_operations(), min_size=1, max_size=5))
def test_brute_force_agrees_about_any_small_history(history: list[KeyValueOperation]) -> None:
    result = check(_OneKey(), history)
    assert result.verdict is not Verdict.UNDECIDED
    assert result.ok == brute_force(history)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.data())
def test_brute_force_agrees_about_a_changed_answer(seed: int, data: st.DataObject) -> None:
    source = random.Random(seed)
    history = simulate(source, 6, processes=3, values=3, unknown=0.3, revisions=source.random() < 0.5)
    assert brute_force(history)
    index = data.draw(st.sampled_from(range(6)))
    if history[index].returned is not None:
        history[index] = replace(history[index], output=data.draw(_answers(history[index].input)))
    assert check(_OneKey(), history).ok == brute_force(history)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(1, 300),
    st.integers(1, 10),
    st.integers(1, 5),
    st.sampled_from([0, 3]),
    st.sampled_from([0.0, 0.05, 0.3]),
    st.booleans(),
)
def test_histories_of_one_real_store_are_accepted(
    seed: int, operations: int, processes: int, keys: int, values: int, unknown: float, revisions: bool
) -> None:
    history = simulate(random.Random(seed), operations, processes, keys, values, unknown, revisions)
    assert check(KV, history, time_limit=20).verdict is not Verdict.VIOLATED


@pytest.mark.parametrize("unknown", [0.0, 0.06])
@pytest.mark.parametrize("revisions", [True, False])
def test_ten_thousand_operations_are_decided_in_seconds(unknown: float, revisions: bool) -> None:
    history = simulate(random.Random(7), 10_000, processes=10, keys=20, unknown=unknown, revisions=revisions)
    assert assert_linearizable(KV, history, time_limit=10).seconds < 10
    # A read in the last quarter that finds what was overwritten long before.
    reads = [op for op in history if op.input == Get("k3") and op.output is not None and op.returned is not None]
    reads = [op for op in reads if isinstance(op.output, Found) and op.output.value is not None]
    old, late = reads[len(reads) // 4], reads[3 * len(reads) // 4]
    history[history.index(late)] = replace(late, output=old.output)
    result = check(KV, history, time_limit=10)
    assert result.verdict is Verdict.VIOLATED
    assert result.violation is not None
    assert result.violation.key == "k3"


def _clock(*times: int) -> Callable[[], int]:
    return itertools.chain(times, itertools.repeat(times[-1])).__next__


def test_a_history_knows_what_was_never_done_and_what_may_have_been() -> None:
    history = History[KeyValueInput, KeyValueOutput](_clock(5, 5, 9))
    written, refused, lost = history.invoke(1, PUT_A), history.invoke(2, PUT_B), history.invoke("c", PUT_C)
    history.ok(written, DONE)
    history.fail(refused)
    history.unknown(lost)
    under_way = history.invoke("c", GET)
    assert history.operations() == [
        Operation(1, PUT_A, DONE, 5, 10),
        Operation("c", PUT_C, None, 9, None),
        Operation("c", GET, None, 13, None),
    ]
    with pytest.raises(ValueError, match=r"process 'c' calls .* while its call 3 runs"):
        history.invoke("c", GET)
    history.ok(under_way, A)
    with pytest.raises(ValueError, match="already ended: ok"):
        history.unknown(under_way)


def test_files_of_several_recorders_are_one_history(tmp_path: Path) -> None:
    saved, streamed = tmp_path / "saved", tmp_path / "streamed"
    first = History[KeyValueInput, KeyValueOutput](_clock(1))
    first.ok(first.invoke(1, PUT_A), Written(2))
    first.fail(first.invoke(1, CasRevision("x", 9, "b")))
    first.unknown(first.invoke(1, Delete("x")))
    first.save(saved)
    sink = io.StringIO()
    second = History[KeyValueInput, KeyValueOutput](_clock(2), sink)
    second.ok(second.invoke("reader", GET), Found("a", 2))
    second.invoke("reader", Cas("x", None, "c"))
    streamed.write_text(sink.getvalue() + '{"event":"ok","tok')  # its writer was killed in the middle of a line
    loaded = History.load(KV, [saved, streamed])
    assert loaded.operations() == first.operations() + second.operations()
    assert_linearizable(KV, loaded)
    again = tmp_path / "again"
    loaded.save(again)
    assert sorted(map(repr, History.load(KV, [again]).operations())) == sorted(map(repr, loaded.operations()))


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        '{"event":"ok","token":7,"time":1,"value":{"type":"Written"}}',
        '{"event":"invoke","token":0,"time":1,"process":1,"value":{"type":"Jump","key":"x"}}',
    ],
)
def test_a_file_that_is_no_history_says_where(tmp_path: Path, line: str) -> None:
    path = tmp_path / "history"
    path.write_text(line + "\n")
    with pytest.raises(ValueError, match=r"history:1: not an event of this history"):
        History.load(KV, [path])


def test_an_operation_cannot_return_before_its_call() -> None:
    with pytest.raises(ValueError, match="returned before it was called"):
        span(5, 4, GET, A)
