"""The trace of a node: one line of JSON for each transition, to see or to check why the node did what it did.

The specifications in tests/specification name the same actions; ``python -m tests.specification traces`` records runs
of the simulator in this form and lets a model checker decide whether they are behaviours of the specifications.

Every line has the time in seconds on the node's clock, the node, the action, its cause: the message (``from``,
``message``), or the state that is on disk now (``on_disk``), and the state after it:

``term``, ``voted_for``, ``role``, ``leader``      as in the paper; ids are 16 hexadecimal digits, or null for none
``asks``, ``granted``, ``chosen``                  whether it asks for (pre-)votes, who has granted, and whether the
                                                   leader gave its leadership to it
``refuses_for``, ``promise``                       for how many seconds it refuses votes; its longest promise, on disk
``lease_for``                                      of a leader: for how many seconds it has its lease
``handover``                                       of a leader: none, begun, or offered to another node
``work``, ``work_for``, ``work_claim``,            its leader work: none, running or ending; for how many seconds
``work_term``                                      leader work of that term or before may run, as far as it knows; the
                                                   claim that it keeps on disk
``log_term``, ``log_index``, ``commit_index``      how far its log goes
``cluster``, ``formed``                            its cluster; and before it is on disk that it is a member of it
``promised``, ``members``, ``never``               the formation that it promised, with whom, and those it refused for
                                                   ever
``sent``                                           the messages it wants to send; some may wait for the disk
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from trioraft.consensus import Core, HardState, Role
from trioraft.consensus.leader_work import work_left
from trioraft.consensus.lease import lease_end
from trioraft.consensus.ledger import Outgoing, Write
from trioraft.consensus.state import State
from trioraft.consensus.view import View
from trioraft.messages import Instant, NodeId, OptionalNodeId, format_id
from trioraft.storage.errors import StorageError
from trioraft.storage.private import make_file

# Values that change as time passes: no line is written for these alone.
_PASSING: Final = frozenset({"refuses_for", "lease_for", "work_for"})
_ALWAYS: Final = frozenset({"start", "receive", "persisted"})
_IDS: Final = frozenset({"formation", "members", "sees"})
_ACTIONS: Final = {
    "start": "Restart",
    "persisted": "Written",
    "check_quorum": "StepDown",
    "work_ended": "WorkEnds",
    "scripts_ended": "ScriptsEnd",
    "transfer": "BeginTransfer",
    "work_failed": "BeginTransfer",
    "step_down": "BeginTransfer",
    "abandon_formation": "Abandon",
    "hear_of_cluster": "HearOfCluster",
    "start_read": "StartRead",
}

Line = dict[str, Any]


class Recorder:
    """Writes the transitions of cores.

    Parameters
    ----------
    write : callable
        Takes each line, without its end.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._encode = msgspec.json.Encoder().encode
        self._last: dict[NodeId, Line] = {}
        self._writes: dict[NodeId, dict[int, HardState]] = {}

    def note(
        self,
        core: View,
        step: str,
        now: Instant,
        sender: OptionalNodeId,
        subject: object,
        sent: Sequence[Outgoing],
    ) -> None:
        """Write a step of a core, unless it changed nothing; see :class:`~trioraft.consensus.observer.Observer`."""
        if isinstance(subject, Write):
            self._writes.setdefault(core.id, {})[subject.number] = subject.hard
            return
        if step == "start":
            self._last.pop(core.id, None)
            self._writes[core.id] = {}
        before, after = self._last.get(core.id), view(core, now)
        if step not in _ALWAYS and before is not None and not sent and _differ_by_time_only(before, after):
            return
        self._last[core.id] = after
        line: Line = {
            "time": round(now, 6),
            "node": format_id(core.id),
            "action": _action(step, subject, before, after),
        }
        if step == "receive":
            line |= {"from": format_id(sender), "message": describe(subject)}
        elif step == "start":
            line |= {"on_disk": on_disk(core.hard), "timing": msgspec.to_builtins(core.timing)}
        elif step == "persisted":
            line["on_disk"] = self._on_disk_now(core, subject)
        line |= after
        if sent:
            line["sent"] = [{"to": format_id(to), **describe(message)} for to, message in sent]
        self._write(self._encode(line))

    def _on_disk_now(self, core: View, number: object) -> Line:
        writes = self._writes[core.id]
        hard = writes[number] if isinstance(number, int) and number in writes else core.hard
        self._writes[core.id] = {later: written for later, written in writes.items() if later > number}  # type: ignore[operator]
        return on_disk(hard)


@contextlib.contextmanager
def recording(core: Core, path: Path | None) -> Iterator[None]:
    """Append the transitions of a core to a file for a while.

    Parameters
    ----------
    core : Core
        The core.
    path : Path or None
        The file; None when nothing is to be recorded.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    if path is None:
        yield
        return
    try:
        make_file(path)
        file = path.open("ab", buffering=0)
    except OSError as problem:
        reason = f"cannot be written: {problem.strerror}"
        raise StorageError(f"TRACE_FILE={str(path)!r} {reason}; give the path of a file that can be") from problem
    with file:
        core.observe(Recorder(lambda line: file.write(line + b"\n")))
        yield


def _differ_by_time_only(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return all(before[name] == value for name, value in after.items() if name not in _PASSING)


def _action(step: str, subject: object, before: Line | None, after: Line) -> str:
    """Return the name of an action, as in the specifications."""
    if step == "receive":
        return f"Handle{type(subject).__name__}"
    if step in _ACTIONS or before is None:
        return _ACTIONS.get(step, "Timer")
    if step == "handle_timer":
        return _action_of_timer(before, after)
    if before["work"] != after["work"]:
        return "StartWork"
    return "Offer" if after["handover"] == "offered" != before["handover"] else "Settle"


def _action_of_timer(before: Line, after: Line) -> str:
    if before["role"] == "leader":
        return "Timer" if after["role"] == "leader" else "StepDown"
    if before["asks"]:
        return "Timer" if after["asks"] else "GiveUp"
    if after["asks"] or after["role"] == "leader":
        return "StartPreVote"
    return "Promise" if before["promised"] != after["promised"] else "Timer"


# --- the state in a line ------------------------------------------------------------------------------------


def view(core: View, now: Instant) -> Line:
    """Describe the state of a core.

    Parameters
    ----------
    core : Core
        The core.
    now : float
        The time in seconds.

    Returns
    -------
    dict
        The fields that each line has.
    """
    formation = core.hard.formation
    line: Line = {
        "term": core.hard.term,
        "voted_for": _id(core.hard.voted_for),
        "role": str(core.role),
        "leader": _id(core.leader),
        "promise": round(core.hard.promise, 6),
        "work_claim": round(core.hard.work, 6),
        "work_term": core.hard.work_term,
        "cluster": _id(core.cluster),
        "formed": _id(formation.cluster),
        "promised": _id(formation.promised),
        "members": [format_id(member) for member in formation.members],
        "never": [format_id(one) for one in formation.never],
    }
    return line | (_NO_MEMBER if core.state is None else _view_of_member(core.state, now))


_NO_MEMBER: Final[Line] = {
    "asks": False,
    "granted": [],
    "chosen": False,
    "refuses_for": 0.0,
    "lease_for": 0.0,
    "handover": "none",
    "work": "none",
    "work_for": 0.0,
    "log_term": 0,
    "log_index": 0,
    "commit_index": 0,
}


def _view_of_member(s: State, now: Instant) -> Line:
    handover = "none" if s.handover is None else "offered" if s.handover.offered else "begun"
    return {
        "asks": s.round is not None,
        "granted": sorted(map(format_id, s.round.granted)) if s.round is not None else [],
        "chosen": s.transferred is not None,
        "refuses_for": _left(s.refuse_until, now),
        "lease_for": _left(lease_end(s), now) if s.role is Role.LEADER else 0.0,
        "handover": handover,
        "work": s.own_work.name.lower(),
        "work_for": round(work_left(s, now), 6),
        "log_term": s.log.last_term,
        "log_index": s.log.last_index,
        "commit_index": s.commit_index,
    }


def on_disk(hard: HardState) -> Line:
    """Describe the hard state on disk."""
    formation = hard.formation
    return {
        "term": hard.term,
        "voted_for": _id(hard.voted_for),
        "promise": round(hard.promise, 6),
        "work_claim": round(hard.work, 6),
        "work_term": hard.work_term,
        "cluster": _id(formation.cluster),
        "promised": _id(formation.promised),
        "never": [format_id(one) for one in formation.never],
    }


def describe(message: object) -> Line:
    """Describe a message, without the bytes that it carries."""
    line: Line = {"type": type(message).__name__}
    for field in getattr(message, "__struct_fields__", ()):
        value = getattr(message, field)
        if isinstance(value, tuple):
            line[field] = [format_id(one) for one in value] if field in _IDS else len(value)
        elif not isinstance(value, bytes):
            line[field] = format_id(value) if field in _IDS else value
    return line


def _left(until: Instant, now: Instant) -> float:
    return round(max(0.0, until - now), 6)


def _id(identifier: int) -> str | None:
    return format_id(identifier) if identifier else None
