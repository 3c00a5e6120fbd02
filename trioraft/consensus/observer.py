"""An observer of a core: called after each step, so that transitions can be recorded and checked."""

from collections.abc import Sequence
from typing import Protocol

from trioraft.consensus.ledger import Outgoing
from trioraft.consensus.view import View
from trioraft.messages import Instant, OptionalNodeId


class Observer(Protocol):
    """An observer, which is called after every step."""

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
            The core, to be read only.
        step : str
            The step: the name of the core's method, or ``start``, ``check_quorum`` or ``settle``.
        now : float
            The time in seconds, on the node's clock.
        sender : int
            The sender of the message that it took in; 0 when it took none.
        subject : object
            The message; the write that is handed out (``to_persist``), or the number of the write that is on disk.
        sent : sequence of Outgoing
            The messages that it wants to send, in order; some may wait for the disk.
        """
