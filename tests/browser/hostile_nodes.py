"""Runs nodes that tell nonsense about themselves, until it is ended; prints their addresses first."""

import trio

from tests.unit.node_double import make_status, open_doubles
from trioraft.messages import AutopilotNote, Election, FormingStatus, HookStatus, MemberStatus, format_id

MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>"

STATUSES = (
    make_status(
        1,
        name=MARKUP,
        role=MARKUP,
        leader=MARKUP,
        version=MARKUP,
        hook=HookStatus("failed", MARKUP, MARKUP, None, -9, 1e8),
        alerts=(MARKUP, "x" * 500),
        peers=(MARKUP,),
        elections=(Election(7, MARKUP, 1.0),),
        counters={f"dropped_{MARKUP}": 1},
    ),
    make_status(
        2,
        name="a-name-without-end-" * 12,
        role="leader",
        term=2**62,
        uptime_seconds=1e8,
        last_index=2**62,
        members=(MemberStatus(MARKUP, MARKUP, MARKUP), MemberStatus(format_id(2), "x" * 500, "learner")),
        autopilot=(AutopilotNote("changed", MARKUP, 1.0), AutopilotNote(MARKUP, "x" * 500, 1e8)),
    ),
    make_status(
        3, name="", role="forming", cluster_id=None, forming=FormingStatus(MARKUP, MARKUP, (MARKUP,), (MARKUP,))
    ),
    make_status(4, name="__proto__", role="constructor", hook=HookStatus("__proto__", "leader")),
)


async def main() -> None:
    """Run the nodes."""
    async with open_doubles(*STATUSES) as doubles:
        print(",".join(str(double.address) for double in doubles), flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main)
