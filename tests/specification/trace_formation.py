"""Recorded traces as the module TraceFormation wants them."""

from collections.abc import Iterator, Sequence
from typing import Final

from tests.specification.traces import NONE, Line, Records, Verdict, check_trace

_REFUSALS_MAX: Final = 1000  # the program's


def check_formations(recorded: Sequence[Line], timeout: float | None = None) -> Verdict:
    """Let TLC decide whether what nodes did until all are members of a cluster is a behaviour of Formation.

    Parameters
    ----------
    recorded : sequence of dict
        The lines of all nodes, in the order in which it happened.
    timeout : float, optional
        Seconds after which to give up.

    Returns
    -------
    Verdict
        What TLC says.
    """
    lines: list[Line] = []
    origins: list[Line] = []
    last: dict[str, Line] = {}
    for line in _of_interest(recorded):
        for made in _steps(last.get(line["node"], _UNFORMED), line):
            lines.append(made)
            origins.append(line)
        last[line["node"]] = line
    members = _members(recorded)
    constants: dict[str, object] = {
        "None": NONE,
        "Node": {_node(line["node"]) for line in recorded} | {one for group in members.values() for one in group},
        "Formation": set(members),
        "NeverMax": _REFUSALS_MAX,
    }
    return check_trace("TraceFormation", constants, {"Members": members}, lines, origins, timeout)


_UNFORMED: Final[Line] = {"formed": None, "promised": None, "never": []}


def _of_interest(recorded: Sequence[Line]) -> Iterator[Line]:
    """Leave out what members do among themselves once all of them are members."""
    last = max((number for number, line in enumerate(recorded) if _is_of_formation(line)), default=0)
    for line in recorded[: last + 1]:
        if line["action"] in {"Restart", "Written"} or _is_of_formation(line) or line["formed"] is None:
            yield line


def _is_of_formation(line: Line) -> bool:
    messages = [*line.get("sent", []), line.get("message", {})]
    return line["cluster"] is None or any("formation" in message for message in messages)


def _members(recorded: Sequence[Line]) -> dict[str, set[str]]:
    """Find the members of every formation that is spoken of; nobody is one of those that nobody promised."""
    members: dict[str, set[str]] = {}
    for line in recorded:
        for message in (line, line.get("message", {}), *line.get("sent", [])):
            formation = message.get("formation") or message.get("promised") or message.get("formed")
            if isinstance(formation, str) and isinstance(message.get("members", []), list):
                members.setdefault(_formation(formation), set()).update(map(_node, message.get("members", [])))
    return members


def _steps(before: Line, line: Line) -> Iterator[Line]:
    """Write what a node did as the steps that it is made of."""
    state = before
    actions = [(line["action"], None)] if line["action"] in {"Written", "Restart"} else [*_actions(before, line)]
    for place, (action, formation) in enumerate(actions or [("None", None)]):
        is_last = place == len(actions) - 1 or not actions
        state = line if is_last else {**before, "promised": formation}
        message = line.get("message", {})
        made: Line = {
            "node": _node(line["node"]),
            "action": action,
            "formation": _formation(formation) if formation else NONE,
            "state": _state(state),
            "heard": Records(_said(line.get("from", ""), message)) if place == 0 else Records([]),
            "said": Records(
                [one for sent in line.get("sent", []) for one in _said(line["node"], sent)] if is_last else []
            ),
        }
        if "on_disk" in line:
            disk = line["on_disk"]
            made["on_disk"] = _state({**disk, "formed": disk["cluster"]})
        yield made


def _actions(before: Line, after: Line) -> Iterator[tuple[str, str | None]]:
    was, formed = before["promised"], after["formed"]
    if before["formed"] is None and formed is not None:
        if was is None and after["members"]:
            yield "Promise", formed
        yield ("Stand" if after["members"] else "Join"), formed
    elif was != after["promised"]:
        yield ("Drop", was) if was is not None else ("Promise", after["promised"])
    elif after["never"] != before["never"]:
        yield "Refuse", after["never"][-1]
    elif formed is not None and "Handle" in after["action"]:
        for sent in after.get("sent", []):
            if sent["type"] == "FormationResponse" and not sent["promised"]:
                yield "Refuse", sent["formation"]


def _said(node: str, message: Line) -> list[Line]:
    """Tell what a message says of a formation."""
    if message.get("type") == "FormationRequest":
        says = {"promised"}
    elif message.get("type") == "FormationResponse":
        says = {"promised", "member"} if message["promised"] else {"never"}
    else:
        return []
    return [{"from": _node(node), "formation": _formation(message["formation"]), "says": says}]


def _state(line: Line) -> Line:
    return {
        "cluster": _formation(line["formed"]) if line["formed"] else NONE,
        "promised": _formation(line["promised"]) if line["promised"] else NONE,
        "never": set() if line["formed"] else {_formation(one) for one in line["never"]},
    }


def _formation(formation: str) -> str:
    return f"f{formation}"


def _node(node: str) -> str:
    return f"n{int(node, 16)}"
