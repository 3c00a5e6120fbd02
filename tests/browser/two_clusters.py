"""Runs the nodes of two clusters that answer to one name, until it is ended; prints their addresses first.

The smaller one has the higher term, and one of its voters is silent.
"""

import trio

from tests.unit.node_double import make_status, open_doubles
from trioraft.messages import Election, MemberStatus, NodeStatus, format_id

FIRST, SECOND = "00000000000000c1", "00000000000000c2"


def status_of(number: int, leader: int, term: int, cluster: str, numbers: range) -> NodeStatus:
    return make_status(
        number,
        role="leader" if number == leader else "follower",
        leader=format_id(leader),
        term=term,
        cluster_id=cluster,
        elections=(Election(term, format_id(leader), 60.0),),
        voter=True,
        last_index=1000 * term,
        members=tuple(MemberStatus(format_id(each), f"node-{each}", "voter") for each in numbers),
    )


async def main() -> None:
    """Run the nodes."""
    first = [status_of(number, 2, 2, FIRST, range(1, 4)) for number in (1, 2, 3)]
    second = [status_of(number, 8, 70, SECOND, range(7, 10)) for number in (8, 9)]
    async with open_doubles(*first, *second) as doubles:
        print(",".join(str(double.address) for double in doubles), flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main)
