"""Entries of any kind, put into the log of a leader."""

import trio

from trioraft.messages import EntryKind
from trioraft.node.node import Node
from trioraft.node.proposals import Outcome
from trioraft.replica.sessions import Result


async def put_in_log(node: Node, kind: EntryKind, data: bytes) -> Result:
    """Propose an entry on the node that leads, and return what comes of it."""
    ended = trio.Event()
    outcomes: list[Outcome] = []

    def done(outcome: Outcome) -> None:
        outcomes.append(outcome)
        ended.set()

    node._member.proposals.submit(kind, data, done)
    node.soon()
    await ended.wait()
    (outcome,) = outcomes
    if not isinstance(outcome, Result):
        raise outcome
    return outcome
