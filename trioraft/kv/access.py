"""How commands and questions of a client reach the key-value store, and its answers come back."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from trioraft.arguments import check_is
from trioraft.errors import ProposalError
from trioraft.kv.codec import decode_result, encode_command, pack_checked, unpack
from trioraft.kv.commands import STATE_KIND, Command, Range
from trioraft.kv.questions import Answer, AnyAnswer, Question
from trioraft.kv.results import Result

_NO_STORE: Final = (
    "what answers is no key-value store: the state of this cluster is of another kind; ask another cluster, by its"
    " PEERS or APP_NAME"
)


class StoreAccess(ABC):
    """A client that can reach the store of a cluster."""

    @abstractmethod
    async def propose(self, data: bytes, *, state_kind: str = "") -> bytes:
        """Have a command applied once."""

    @abstractmethod
    async def propose_many(self, commands: Iterable[bytes], *, state_kind: str = "") -> list[bytes]:
        """Have commands applied, each once."""

    @abstractmethod
    async def query(self, data: bytes, *, stale: bool = False, state_kind: str = "") -> bytes:
        """Ask the state machine."""

    @abstractmethod
    async def ask(self, data: bytes, *, leader: bool = False, patience: float = 1.0, state_kind: str = "") -> bytes:
        """Ask the program around the state machine."""

    @property
    @abstractmethod
    def restores(self) -> int:
        """The number of times that the cluster's data was restored from a backup."""

    async def ask_store(self, question: Question, *, leader: bool = False, patience: float = 1.0) -> Answer:
        """Ask the program around the store; see :meth:`ask`."""
        encoded = pack_checked(check_is("question", question, Struct))
        answer = await self.ask(encoded, leader=leader, patience=patience, state_kind=STATE_KIND)
        try:
            return unpack(answer, AnyAnswer)
        except ValueError:
            raise ProposalError(_NO_STORE) from None

    async def _execute(self, command: Command) -> Result:
        """Have the store carry out a command."""
        return _result_in(await self.propose(encode_command(command), state_kind=STATE_KIND))

    async def _execute_all(self, commands: Iterable[Command]) -> list[Result]:
        """Have the store carry out commands, which share what that costs."""
        answers = await self.propose_many(map(encode_command, commands), state_kind=STATE_KIND)
        return [_result_in(answer) for answer in answers]

    async def _look_up(self, request: Range, *, stale: bool) -> Result:
        """Have the store read keys, without the log."""
        return _result_in(await self.query(encode_command(request), stale=stale, state_kind=STATE_KIND))


def _result_in(answer: bytes) -> Result:
    try:
        return decode_result(answer)
    except ValueError:  # from a release that does not check the kind of state that a command is for
        raise ProposalError(_NO_STORE) from None
