"""A leader script that records that it runs: itself, a child, and a child in a session of its own.

Each process appends the machine's clock (CLOCK_BOOTTIME) to a file of its own, again and again, so that the last
line is when it ended, however it ended. The child in a session of its own ignores SIGTERM.
"""

import os
import signal
import sys
import time


def record(kind: str) -> None:
    token, node = os.environ["TRIORAFT_FENCING_TOKEN"], os.environ["TRIORAFT_NODE_NAME"]
    path = os.path.join(os.environ["RECORD_DIR"], f"{int(token):06d}.{node}.{kind}.{os.getpid()}")
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        os.write(file, b"%.6f\n" % time.clock_gettime(time.CLOCK_BOOTTIME))
        time.sleep(0.01)


if os.fork() == 0:
    record("child")
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        record("session")
    sys.exit(0)
record("script")
