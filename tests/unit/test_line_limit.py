"""Strangers fill no log: so many lines a second, and how many more there were."""

import structlog
from structlog.testing import capture_logs

from trioraft.node.line_limit import LineLimit


def test_so_many_lines_a_second_are_written_and_the_others_counted() -> None:
    limit, log = LineLimit("peers"), structlog.get_logger()
    with capture_logs() as lines:
        for number in range(5000):
            now = number / 1000
            if limit.admits(log, now):
                log.info("peer")
        limit.tell(log, 4.5)
        limit.tell(log, 6.0)
        limit.tell(log, 7.0)
    written = sum(line["event"] == "peer" for line in lines)
    assert written == 50
    assert sum(line.get("lines", 0) for line in lines) == 5000 - written
    assert len(lines) == 50 + 5
