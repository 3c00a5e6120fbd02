"""Recorded traces as the module TraceElection wants them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.specification.traces import NONE, Line, Name, Records, Verdict, check_trace, node_name, nothing_to_check
from trioraft.consensus.timing import CLOCK_DRIFT

_UNIT: Final = 1_000_000  # microseconds
# Adding up rounds.
_SLACK: Final = 5

_ACTIONS: Final = frozenset({"StartPreVote", "GiveUp", "StepDown", "Written", "Restart"})
_HANDLED: Final = frozenset(
    {
        "PreVoteRequest",
        "PreVoteResponse",
        "VoteRequest",
        "VoteResponse",
        "AppendEntriesRequest",
        "AppendEntriesResponse",
        "InstallSnapshotRequest",
        "InstallSnapshotResponse",
        "TimeoutNow",
    }
)
_CHECKED: Final = frozenset({"PreVoteRequest", "PreVoteResponse", "VoteRequest", "VoteResponse"})


def check_elections(recorded: Sequence[Line], timeout: float | None = None) -> Verdict:
    """Let TLC decide whether what a cluster did is a behaviour of Election.

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
    of_members = [line for line in recorded if line["cluster"] is not None]
    if not of_members:
        return nothing_to_check()
    lower = next(round(line["timing"]["lower"] * _UNIT) for line in recorded if line["action"] == "Restart")
    trace = _Trace(of_members)
    constants: dict[str, object] = {
        "None": NONE,
        "Node": {node_name(node) for node in of_members[0]["members"]},
        "MaxTerm": max(line["term"] for line in of_members) + 1,
        "MaxLog": len(trace.ranks),
        "Lower": lower,
        "Counted": round(lower * (1 - CLOCK_DRIFT)) + _SLACK,
        "Slack": _SLACK,
        "Transfers": True,
        "Keeps": Name("All"),
    }
    return check_trace("TraceElection", constants, {}, trace.lines, of_members, timeout)


class _Trace:
    """The lines, one after the other."""

    def __init__(self, recorded: Sequence[Line]) -> None:
        logs = {(line["log_term"], line["log_index"]) for line in recorded}
        logs |= {_log(message) for line in recorded for message in _messages(line) if "last_log_index" in message}
        self.ranks = {log: rank for rank, log in enumerate(sorted(logs))}
        self._clocks: dict[str, int] = {}
        self.lines = [self._line(line) for line in recorded]

    def _line(self, line: Line) -> Line:
        node = node_name(line["node"])
        sent = line.get("sent", [])
        made = {
            "node": node,
            "passed": self._passed(node, line["time"]),
            "action": _action(line),
            "term": line["term"],
            "voted": _node(line["voted_for"]),
            "role": _role(line["role"]),
            "asks": line["asks"],
            "granted": {node_name(one) for one in line["granted"]},
            "chosen": line["chosen"],
            "refuse": round(line["refuses_for"] * _UNIT),
            "lease": round(line["lease_for"] * _UNIT),
            "log": self.ranks[line["log_term"], line["log_index"]],
            "sent": Records([self._message(node, one["to"], one) for one in sent if one["type"] in _CHECKED]),
            "answers": Records(
                [self._message(node, one["to"], one) for one in sent if one["type"] == "AppendEntriesResponse"]
            ),
            "beats": {one["sequence"] for one in sent if one["type"] == "AppendEntriesRequest"},
            "offers": {node_name(one["to"]) for one in sent if one["type"] == "TimeoutNow"},
        }
        if made["action"] == "Handle":
            made["message"] = self._message(node_name(line["from"]), line["node"], line["message"])
        if "on_disk" in line:
            disk = line["on_disk"]
            made["on_disk"] = {
                "term": disk["term"],
                "voted": _node(disk["voted_for"]),
                "promised": disk["promise"] > 0,
            }
        return made

    def _passed(self, node: str, time: float) -> int:
        now = round(time * _UNIT)
        before, self._clocks[node] = self._clocks.get(node, now), now
        return now - before

    def _message(self, sender: str, to: str, message: Mapping[str, Any]) -> Line:
        """Write a message as the specification has it."""
        kind, term = message["type"], message["term"]
        made: Line = {"kind": kind, "from": sender}
        if not kind.endswith("Request"):
            made["to"] = node_name(to)
        made["term"] = term
        if "last_log_index" in message:
            made["log"] = self.ranks[_log(message)]
        for name in ("transfer", "granted"):
            if name in message:
                made[name] = message[name]
        if kind.startswith("AppendEntries"):
            made |= {"number": message["sequence"] or NONE, "left": 0}
        return made


def _messages(line: Line) -> list[Line]:
    return [*line.get("sent", []), *([line["message"]] if "message" in line else [])]


def _log(message: Mapping[str, Any]) -> tuple[int, int]:
    return message["last_log_term"], message["last_log_index"]


def _action(line: Line) -> str:
    if line["action"] in _ACTIONS:
        return str(line["action"])
    if "message" in line:
        return "Handle" if line["message"]["type"] in _HANDLED else "Other"
    return "Other"


def _role(role: str) -> str:
    return role if role in {"leader", "candidate", "pre-candidate"} else "follower"


def _node(node: str | None) -> object:
    return NONE if node is None else node_name(node)
