"""Recorded traces, checked against the specifications: TLC decides whether they are behaviours of them.

The lines are written as a TLA+ module, ``TraceData``, that the module ``Trace…`` beside a specification reads; the
Json module of the TLA+ community is not in the jar that PyPI has.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.specification.tlc import FOLDER, Checked, check_configuration

Line = dict[str, Any]

_ACCEPTED: Final = "NotAccepted"
_AT: Final = re.compile(r'<<"line", (\d+)>>')


@dataclass(frozen=True)
class Verdict:
    """What TLC says of a trace.

    Attributes
    ----------
    accepted : bool
        Whether it is a behaviour of the specification.
    lines : int
        How many lines were checked.
    refused : dict
        The first line that no step of the specification can be, when there is one, as it was recorded.
    violated : str
        The invariant that does not hold in it, when there is one.
    checked : Checked
        What TLC found.
    """

    accepted: bool
    lines: int
    refused: Line
    violated: str
    checked: Checked

    def __str__(self) -> str:
        """Tell it in one line."""
        if self.accepted:
            return f"{self.lines:,} lines are a behaviour"
        if self.violated:
            return f"{self.violated} does not hold at {_told(self.refused)}"
        return f"refused at {_told(self.refused)}"


def _told(line: Line) -> str:
    message = line.get("message", {}).get("type", "")
    sent = ", ".join(sorted({one["type"] for one in line.get("sent", [])}))
    return (
        f"{line['time']:.6f} on node {int(line['node'], 16)}, a {line['role']} of term {line['term']}: "
        f"{line['action']}{f' with {sent}' if sent else ''}{'' if message in line['action'] else f' of {message}'}"
    )


def nothing_to_check() -> Verdict:
    """Accept a trace without lines, as of a life in which no cluster was formed."""
    return Verdict(True, 0, {}, "", Checked("", 0, 0, 0, ""))


def node_name(node: str) -> str:
    """Name a node as the traces of members do.

    Parameters
    ----------
    node : str
        Its id as it was recorded.

    Returns
    -------
    str
        The name.
    """
    return f"n{int(node, 16)}"


# --- TLA+ ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Name:
    """A name of the specification, such as None."""

    name: str


NONE: Final = Name("None")


def tla(value: object) -> str:
    """Write a value as TLA+ has it.

    Parameters
    ----------
    value : object
        Truth, number, text, name, list (a sequence), set or mapping (a record).

    Returns
    -------
    str
        The expression.
    """
    match value:
        case bool():
            return "TRUE" if value else "FALSE"
        case int():
            return str(value)
        case str():
            return f'"{value}"'
        case Name():
            return value.name
        case set() | frozenset():
            return "{" + ", ".join(sorted(map(tla, value))) + "}"
        case Records():
            return "{" + ", ".join(sorted({tla(one) for one in value.records})) + "}"
        case list() | tuple():
            return "<<" + ", ".join(map(tla, value)) + ">>"
        case Mapping():
            return "[" + ", ".join(f"{name} |-> {tla(one)}" for name, one in value.items()) + "]"
    raise TypeError(f"{value!r} is nothing that TLA+ has")


@dataclass(frozen=True)
class Records:
    """A set of records."""

    records: Sequence[Mapping[str, object]]


def check_trace(
    module: str,
    constants: Mapping[str, object],
    definitions: Mapping[str, object],
    lines: Sequence[Line],
    recorded: Sequence[Line],
    timeout: float | None = None,
) -> Verdict:
    """Let TLC decide whether a trace is a behaviour.

    Parameters
    ----------
    module : str
        The module that reads the trace.
    constants : mapping
        The specification's constants; a `Name` is a definition of its own modules.
    definitions : mapping
        What else the module ``TraceData`` defines.
    lines : sequence of dict
        The trace.
    recorded : sequence of dict
        For each line what it was made from.
    timeout : float, optional
        Seconds after which to give up.

    Returns
    -------
    Verdict
        What TLC says.
    """
    data = ["---- MODULE TraceData ----", f"EXTENDS {module.removeprefix('Trace')}"]
    data += [f"{name} == {tla(value)}" for name, value in definitions.items()]
    data += ["TraceLines == <<", ",\n".join(map(tla, lines)), ">>", "===="]
    bindings = [
        f"  {name} {'<-' if isinstance(value, Name) and value is not NONE else '='} {tla(value)}"
        for name, value in constants.items()
    ]
    configuration = (FOLDER / f"{module}.cfg").read_text() + "\n".join(["CONSTANTS", *bindings]) + "\n"
    found = check_configuration(
        module, configuration, modules={"TraceData": "\n".join(data)}, timeout=timeout, is_short=True
    )
    reached = max((int(number) for number in _AT.findall(found.output)), default=1)
    accepted = found.violated == _ACCEPTED
    return Verdict(
        accepted,
        len(lines),
        {} if accepted else recorded[reached - 1],
        "" if accepted else found.violated,
        found,
    )
