"""Recorded traces as the module TraceLeaderWork wants them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.specification.traces import NONE, Line, Records, Verdict, check_trace, node_name, nothing_to_check
from trioraft.consensus.timing import CLOCK_DRIFT, WORK_MARGIN

_UNIT: Final = 1_000_000  # microseconds
# Adding up rounds.
_SLACK: Final = 5

_ACTIONS: Final = frozenset({"StartWork", "WorkEnds", "Written", "Restart"})
_CHECKED: Final = frozenset({"VoteResponse", "AppendEntriesRequest", "AppendEntriesResponse", "TimeoutNow"})


def check_leader_work(recorded: Sequence[Line], timeout: float | None = None) -> Verdict:
    """Let TLC decide whether what a cluster did is a behaviour of LeaderWork, whose nodes each have their own clock.

    Parameters
    ----------
    recorded : sequence of dict
        The lines of all nodes, in the order in which it happened, with what all clocks showed; without that it was
        one machine that has one clock.
    timeout : float, optional
        Seconds after which to give up.

    Returns
    -------
    Verdict
        What TLC says.
    """
    of_members = [line for line in recorded if line["cluster"] is not None]
    if not of_members:
        return nothing_to_check()
    timing = next(line["timing"] for line in recorded if line["action"] == "Restart")
    nodes = of_members[0]["members"]
    constants: dict[str, object] = {
        "None": NONE,
        "Node": {node_name(node) for node in nodes},
        "MaxTerm": max(line["term"] for line in of_members) + 1,
        "Lower": _ticks(timing["lower"]),
        "Grace": _ticks(timing["stop_grace"] + WORK_MARGIN),
        "DriftPart": round(1 / CLOCK_DRIFT),
        "Slack": _SLACK,
    }
    return check_trace("TraceLeaderWork", constants, {}, _Trace(of_members, nodes).lines, of_members, timeout)


class _Trace:
    """The lines, one after the other."""

    def __init__(self, recorded: Sequence[Line], nodes: Sequence[str]) -> None:
        self._nodes = nodes
        self._clocks: dict[str, int] = {}
        self._sent: dict[tuple[object, ...], int] = {}  # what was sent, and in which line
        self.lines = [self._line(number, line) for number, line in enumerate(recorded, 1)]

    def _line(self, number: int, line: Line) -> Line:
        node = node_name(line["node"])
        sent = [self._message(node, one["to"], one) for one in line.get("sent", []) if one["type"] in _CHECKED]
        made = {
            "node": node,
            "passed": {node_name(one): self._passed(one, line) for one in self._nodes},
            "action": line["action"] if line["action"] in _ACTIONS else "Other",
            "term": line["term"],
            "role": line["role"] if line["role"] in {"leader", "candidate"} else "follower",
            "handover": line["handover"],
            "lease": _ticks(line["lease_for"]),
            "own": line["work"],
            "work": _ticks(line["work_for"]),
            "claimed": _claim(line),
            "sent": Records(sent),
        }
        if line.get("message", {}).get("type") in _CHECKED:
            message = self._message(node_name(line["from"]), line["node"], line["message"])
            made |= {"action": "Handle", "message": message, "origin": self._sent.get(tuple(message.items()), 0)}
        if "on_disk" in line:
            made["on_disk"] = _claim(line["on_disk"])
        for message in sent:
            self._sent.setdefault(tuple(message.items()), number)
        return made

    def _passed(self, node: str, line: Line) -> int:
        """Tell how much time has passed on a node's clock since the last line."""
        now = _ticks(line["time"] if node == line["node"] else line.get("clocks", {}).get(node, line["time"]))
        before = self._clocks.get(node, now)
        self._clocks[node] = max(before, now)
        return self._clocks[node] - before

    def _message(self, sender: str, to: str, message: Mapping[str, Any]) -> Line:
        """Write a message as the specification has it."""
        made: Line = {"kind": message["type"], "from": sender, "to": node_name(to), "term": message["term"]}
        for name, field in (("number", "sequence"), ("granted", "granted"), ("about", "work_term")):
            if field in message:
                made[name] = message[field]
        if "work" in message:
            made["work"] = _ticks(message["work"])
        return made


def _claim(line: Mapping[str, Any]) -> Line:
    return {"left": _ticks(line["work_claim"]), "term": line["work_term"]}


def _ticks(seconds: float) -> int:
    return round(seconds * _UNIT)
