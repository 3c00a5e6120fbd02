"""An observer of a core: called after each step, so that transitions can be recorded and checked."""

from collections.abc import Sequence
from typing import Protocol

from trioraft.consensus.ledger import Outgoing
from trioraft.consensus.view import View
from trioraft.messages import Instant, OptionalNodeId


class Observer(Protocol):
    """Who is told of every step."""

    def note(
        self,
        core: View,
        step: str,
        now: Instant,
        sender: OptionalNodeId,
        subject: object,
        sent: Sequence[Outgoing],
    ) -> None:
        """Look at the core after a step.

        Parameters
        ----------
        core : View
            The core; to be looked at only.
        step : str
            What it did: the name of its method, or ``start``, ``check_quorum`` or ``settle``.
        now : float
            The time in seconds, on the node's clock.
        sender : int
            Whose message it took; 0 when it took none.
        subject : object
            The message; the write that is handed out (``to_persist``), or the number of the one that is on disk.
        sent : sequence of Outgoing
            What it wants to send, in order; some of it may wait for the disk.
        """
