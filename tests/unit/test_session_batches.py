"""A client's session with a leader that understands batches: what is proposed together is sent together."""

import pytest

from tests.unit.test_session import LEADER, Leader
from trioraft.errors import ProposalError, RefusedError, SessionEndedError
from trioraft.messages import (
    BATCH_BYTES_MAX,
    COMMANDS_MAX,
    Batch,
    ClientRequest,
    ClientResponse,
    PartOutcome,
    Propose,
    ProposeBatch,
    Refusal,
    Refused,
    decode_batch_untrusted,
    encode_outcomes,
)
from trioraft.versions import BATCHES_FROM


class BatchLeader(Leader):
    """Understands batches, and answers them when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.version = BATCHES_FROM
        self.batches: list[tuple[ClientRequest, Batch]] = []

    def highest_version(self, node: int) -> int:
        return self.version

    def send_request(self, node: int, request: ClientRequest) -> bool:
        if isinstance(request.command, ProposeBatch):
            batch = decode_batch_untrusted(request.command.data)
            assert batch is not None
            self.batches.append((request, batch))
            return True
        return super().send_request(node, request)

    def answer_batch(self, *outcomes: PartOutcome) -> None:
        request, _ = self.batches.pop(0)
        self.answer_request(request, data=encode_outcomes(outcomes, 10**6))

    def refuse_batch(self, code: Refusal) -> None:
        request, _ = self.batches.pop(0)
        self.answer_request(request, code=code)

    def answer_request(self, request: ClientRequest, *, code: str = "", data: bytes = b"") -> None:
        response = ClientResponse(request.request, done=not code, code=code, data=data, term=1, leader=LEADER)
        self.calls.receive(LEADER, response)


def numbered(*numbers: int) -> BatchLeader:
    """Make a leader that was asked for some commands in one pass."""
    leader = BatchLeader()
    for number in numbers:
        leader.propose(number)
    leader.turn()
    return leader


def test_commands_of_one_pass_go_in_one_batch_with_numbers_in_a_row() -> None:
    leader = numbered(1, 2, 3)
    ((request, batch),) = leader.batches
    assert batch == Batch(1, 1, 1, (b"1", b"2", b"3"))
    assert not leader.proposed
    leader.answer_batch(b"a", b"b", b"c")
    assert leader.outcomes == {1: b"a", 2: b"b", 3: b"c"}
    leader.propose(4)
    leader.turn()
    assert leader.proposed == [Propose(1, 4, 4, b"4")], "a lone command is sent alone"
    assert request.request


def test_a_batch_has_no_more_commands_and_bytes_than_are_applied_at_once() -> None:
    leader = BatchLeader()
    for number in range(COMMANDS_MAX + 1):
        leader.propose(number)
    half, large = BATCH_BYTES_MAX // 2, 2 * BATCH_BYTES_MAX
    for size in (half, half, 1, large, 1):
        leader.session.propose(b"7".ljust(size), lambda _: None)
    leader.turn()
    assert [len(batch.commands) for _, batch in leader.batches] == [COMMANDS_MAX, 2, 2]
    assert [len(asked.data) for asked in leader.proposed] == [large, 1]


def test_a_command_that_was_given_up_before_anybody_took_it_is_taken_out_of_its_batch() -> None:
    leader = BatchLeader()
    known = [leader.session.propose(b"%d" % number, lambda _: None) for number in range(3)]
    leader.opens = False
    leader.turn()
    assert leader.session.give_up(known[1]).startswith("not proposed: ")
    leader = BatchLeader()
    known = [leader.session.propose(b"%d" % number, lambda _: None) for number in range(3)]
    leader.turn()
    leader.refuse_batch(Refusal.NO_LEADER)  # it did not take it
    assert leader.session.give_up(known[1]).startswith("not proposed: ")
    leader.now += 10
    leader.turn()
    assert leader.batches[-1][1] == Batch(1, 1, 1, (b"0", None, b"2"))


def test_a_command_that_may_be_carried_out_stays_in_its_batch_and_is_unknown() -> None:
    leader = BatchLeader()
    known = [leader.session.propose(b"%d" % number, lambda _: None) for number in range(2)]
    leader.turn()
    assert leader.session.give_up(known[0]).startswith("unknown: ")
    leader.now += 10
    leader.turn()
    assert leader.batches[-1][1].commands == (b"0", b"1")
    assert not leader.given_up, "the other command is still waited for"
    assert leader.session.give_up(known[1]).startswith("unknown: ")
    leader.turn()
    assert leader.given_up == {leader.batches[-1][0].request}


@pytest.mark.parametrize("code", [Refusal.REFUSED, Refusal.LIMIT])
def test_a_batch_that_is_refused_is_taken_apart(code: Refusal) -> None:
    leader = numbered(1, 2)
    leader.refuse_batch(code)
    leader.turn()
    assert leader.proposed == [Propose(1, 1, 1, b"1"), Propose(1, 2, 1, b"2")], "each keeps its number"
    leader.answer(1)
    leader.answer(2, Refusal.REFUSED, "no")
    assert leader.outcomes[1] == b""
    assert isinstance(leader.outcomes[2], RefusedError)


def test_what_a_batch_may_have_done_is_remembered_when_it_is_taken_apart() -> None:
    leader = BatchLeader()
    known = [leader.session.propose(b"%d" % number, lambda _: None) for number in range(2)]
    leader.turn()
    leader.version = BATCHES_FROM - 1  # another node leads, with older software, and the first one may have taken it
    leader.now += 10
    leader.turn()
    assert [asked.number for asked in leader.proposed] == [1, 2]
    leader.answer(0, Refusal.NO_LEADER)
    assert leader.session.give_up(known[0]).startswith("unknown: ")


def test_a_result_that_has_no_room_in_the_answer_is_asked_for_alone() -> None:
    leader = numbered(1, 2)
    leader.answer_batch(b"a", None)
    assert leader.outcomes == {1: b"a"}
    leader.turn()
    assert leader.proposed == [Propose(1, 2, 2, b"2")]
    leader.answer(2)
    assert leader.outcomes[2] == b""


def test_each_command_of_a_batch_has_an_outcome_of_its_own() -> None:
    leader = numbered(1, 2, 3)
    busy, no = Refused(Refusal.BUSY, "busy"), Refused(Refusal.REFUSED, "no")
    leader.answer_batch(busy, no, b"c")
    assert isinstance(leader.outcomes[2], RefusedError)
    assert leader.outcomes[3] == b"c"
    leader.turn()
    assert leader.proposed == [Propose(1, 1, 1, b"1")], "what was only busy is asked for again"


@pytest.mark.parametrize("whole", [True, False])
def test_when_the_session_ends_no_command_of_a_batch_is_sent_again(whole: bool) -> None:
    leader = numbered(1, 2)
    if whole:
        leader.refuse_batch(Refusal.SESSION_ENDED)
    else:
        leader.answer_batch(*[Refused(Refusal.SESSION_ENDED, "it has ended")] * 2)
    assert all(isinstance(leader.outcomes[number], SessionEndedError) for number in (1, 2))
    errors: set[ProposalError | bytes] = set(leader.outcomes.values())
    assert len(errors) == 2, "each may be raised"
    leader.propose(3)
    leader.turn()
    assert leader.proposed == [Propose(2, 1, 1, b"3")]


@pytest.mark.parametrize("data", [b"", b"\0\0\0\1\0\0\0\1", b"\0\0\0\1\0\0\0\0"])
def test_an_answer_that_is_no_outcomes_of_the_batch_is_asked_for_again(data: bytes) -> None:
    leader = numbered(1, 2)
    leader.answer_request(leader.batches.pop(0)[0], data=data)
    leader.turn()
    assert [asked.number for asked in leader.proposed] == [1, 2]
