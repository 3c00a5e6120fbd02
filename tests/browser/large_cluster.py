"""Runs nodes that tell of seven voters and two learners, until it is ended; prints their addresses first.

One voter is silent and about to be replaced, and a former one is still there.
"""

import trio
from msgspec.structs import replace

from tests.unit.node_double import make_status, open_doubles
from trioraft.messages import AutopilotNote, Election, HookStatus, MemberStatus, NodeStatus, format_id

LEADER = 3
VOTERS = range(1, 8)
LEARNERS = (8, 9)
REMOVED = 10
SILENT = 7  # a member at whose address nobody answers

MEMBERS = tuple(
    MemberStatus(format_id(number), f"node-{number}", "voter" if number in VOTERS else "learner")
    for number in (*VOTERS, *LEARNERS)
)
NOTES = (
    AutopilotNote("changed", f"node-9 ({format_id(9)}) joined the service", 42.0),
    AutopilotNote(
        "changed",
        f"node-10 ({format_id(REMOVED)}) is gone: node-7 ({format_id(7)}) takes its place",
        3 * 3600.0 + 61,
    ),
    AutopilotNote("declined", f"node-8 ({format_id(8)}) keeps up but stays a learner: MAX_VOTERS=7", 190.0),
    AutopilotNote(
        "declined",
        f"node-7 ({format_id(SILENT)}) is silent but stays a member: it was absent from good DNS answers"
        " for 12 of 60 s",
        12.0,
    ),
)


def status_of(number: int) -> NodeStatus:
    leads = number == LEADER
    role = "leader" if leads else "learner" if number in LEARNERS else "removed" if number == REMOVED else "follower"
    behind = {9: 912_345, REMOVED: 1_000}.get(number, 0)
    return make_status(
        number,
        role=role,
        leader=format_id(LEADER) if number != REMOVED else None,
        term=12,
        hook=HookStatus("running", "leader", "/hooks/announce-leader.sh", 17, None, 3661.0)
        if leads
        else HookStatus("exited", "follower", "/hooks/announce-follower.sh", None, 0, 90.0),
        elections=(Election(12, format_id(LEADER), 3661.0), Election(11, format_id(1), 90_000.0)),
        uptime_seconds=90_000.0,
        voter=number in VOTERS,
        commit_index=1_234_560 - behind,
        applied_index=1_234_558 - behind,
        last_index=1_234_567 - behind,
        members=MEMBERS,
    )


async def main() -> None:
    """Run the nodes; the leader's notes grow old."""
    began = trio.current_time()
    async with open_doubles(*(status_of(n) for n in (*VOTERS, *LEARNERS, REMOVED) if n != SILENT)) as doubles:
        print(",".join(str(double.address) for double in doubles), flush=True)
        (leader,) = (double for double in doubles if double.status.role == "leader")
        while True:
            passed = trio.current_time() - began
            leader.tell(autopilot=tuple(replace(note, seconds_ago=note.seconds_ago + passed) for note in NOTES))
            await trio.sleep(0.2)


if __name__ == "__main__":
    trio.run(main)
