"""Checks of what a program gives to a client: ids of nodes, kinds of states, and commands."""

import msgspec

from trioraft.arguments import check_is, check_name
from trioraft.messages import LARGEST_ID, Command, NodeId
from trioraft.replica.machine import KIND_MAX


def number_of(node_id: str) -> NodeId:
    """Return the number of a node from its id in hexadecimal digits."""
    try:
        number = int(check_is("node_id", node_id, str), 16)
    except ValueError:
        number = 0
    if not 0 < number <= LARGEST_ID:
        raise ValueError(f"node_id must be 16 hexadecimal digits, not {node_id!r}")
    return number


def check_kind(state_kind: str) -> str:
    """Return a kind of state, empty for any."""
    return check_name("state_kind", state_kind, KIND_MAX) if state_kind != "" else ""


def check_command(command: Command) -> None:
    """Refuse a command that no node could decode."""
    if not isinstance(command, Command):
        raise TypeError(f"command must be a command of trioraft.messages, not {type(command).__name__}")
    try:
        msgspec.convert(msgspec.to_builtins(command, builtin_types=(bytes,)), type(command), builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise ValueError(f"{type(command).__name__} has a wrong field: {error}") from None
