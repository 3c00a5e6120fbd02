"""Do the job of one replica, in this image on exactly one of them at a time."""

import os
import time

token = os.environ["TRIORAFT_FENCING_TOKEN"]
while True:
    # Whatever this writes to should refuse a token smaller than one that it has seen.
    print(f"{os.environ['TRIORAFT_NODE_NAME']} works with fencing token {token}", flush=True)
    time.sleep(1)
