"""A whole member, without I/O: consensus, and what becomes of committed entries. It waits for no clock.

The loop of a node, the process of the simulator and every story drive a member, and nothing else takes turns of a
core. So the code that is proved is the code that ships. The driver of a member

* feeds it: :meth:`Member.take` (messages of members), :meth:`Requests.add` (those of clients),
  :meth:`Member.persisted` and :meth:`Member.handle_timer`;
* then takes a :meth:`Member.turn`, does its duties in order, and ends it with :meth:`Member.apply`;
* and takes another one for as long as the member :attr:`wants <Member.wants_turn>` one.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from trioraft.consensus import Core, Role, Turn
from trioraft.consensus.events import ConfigurationChanged, ReadFailed, ReadReady
from trioraft.consensus.log import IndexedEntry
from trioraft.messages import (
    ConsensusMessage,
    Instant,
    NodeId,
    OptionalId,
    OptionalNodeId,
    ReadIndexRequest,
    ReadIndexResponse,
    Term,
)
from trioraft.node.own_commands import OwnCommands
from trioraft.node.replicated import Replicated
from trioraft.node.requests import Requests

# The messages that are not for the core. A tuple that is made once: this is asked for each message.
ABOUT_READS: Final = (ReadIndexRequest, ReadIndexResponse)


class _Standing(NamedTuple):
    """The facts on which requests and reads under way depend: when one changes, some of them are answered."""

    term: Term
    role: Role
    leader: OptionalNodeId


class Member:
    """One member.

    Parameters
    ----------
    parts : Replicated
        Its core, its replica, and what is between them.
    requests : Requests, optional
        The requests of its clients; none by default.
    own_commands : OwnCommands, optional
        The commands of its own program; none by default.
    """

    def __init__(
        self, parts: Replicated, requests: Requests | None = None, own_commands: OwnCommands | None = None
    ) -> None:
        self.core: Core = parts.core
        self.replica = parts.replica
        self.proposals = parts.proposals
        self.applying = parts.applying
        self.reads = parts.reads
        self.requests = requests
        self.own_commands = own_commands
        self._standing = _Standing(0, Role.FORMING, 0)

    def take(
        self,
        sender: NodeId,
        cluster: OptionalId,
        message: ConsensusMessage | ReadIndexRequest | ReadIndexResponse,
        now: Instant,
    ) -> None:
        """Take in a message of another node.

        Parameters
        ----------
        sender : int
            The node that sent it.
        cluster : int
            The cluster that it is a member of; 0 for none.
        message : message
            The message.
        now : float
            The time in seconds.
        """
        if isinstance(message, ABOUT_READS):
            if cluster == self.core.cluster:
                self.reads.receive(sender, message)
        else:
            self.core.receive(sender, cluster, message, now)

    def persisted(self, number: int, now: Instant) -> None:
        """Take note that a write is on disk.

        Parameters
        ----------
        number : int
            The number of the write.
        now : float
            The time in seconds.
        """
        self.core.persisted(number, now)

    def handle_timer(self, now: Instant) -> None:
        """Act on the deadlines that have passed.

        Parameters
        ----------
        now : float
            The time in seconds.
        """
        self.core.handle_timer(now)
        self.reads.look(now)
        if self.requests is not None:
            self.requests.handle_timer(now)

    def turn(self, now: Instant) -> Turn:
        """Apply the rules that follow from all input, and hand out what must be done.

        Parameters
        ----------
        now : float
            The time in seconds.

        Returns
        -------
        Turn
            The duties of the caller, in order; :meth:`apply` applies the entries.
        """
        if self.requests is not None:
            self.requests.carry_out_some()
        if self.own_commands is not None:
            self.own_commands.put_in_log()
        turn = self.core.turn(now, apply_max=self.applying.room)
        for event in turn.events:
            if isinstance(event, ReadReady):
                self.reads.confirmed(event.read, event.index)
            elif isinstance(event, ReadFailed):
                self.reads.confirmed(event.read, None)
            elif isinstance(event, ConfigurationChanged) and event.committed and self.requests is not None:
                self.requests.members_changed(event.configuration)
        turn.send += self.reads.to_send()
        turn.wake_at = min(turn.wake_at, self.reads.next_deadline())
        if self.requests is not None:
            turn.wake_at = min(turn.wake_at, self.requests.next_deadline())
        return turn

    def apply(self, entries: Sequence[IndexedEntry]) -> None:
        """End a turn: apply its entries, and answer the requests that wait for them, or for another leader.

        Parameters
        ----------
        entries : sequence of tuple of int and Entry
            The entries, each after its index.
        """
        self.applying.apply(entries)
        standing = _Standing(self.core.term, self.core.role, self.core.leader)
        if standing != self._standing:
            self._standing = standing
            self.reads.leader_changed()
            if self.requests is not None:
                self.requests.conclude()

    @property
    def wants_turn(self) -> bool:
        """Whether another turn has something to do now: input to take in, messages to send, or entries to apply."""
        return (
            self.core.has_input
            or self.reads.has_outgoing
            or (self.core.has_committed and self.applying.room > 0)
            or (self.requests is not None and self.requests.wait)
            or (self.own_commands is not None and self.own_commands.wait)
        )
