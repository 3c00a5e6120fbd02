#!/usr/bin/env python3
"""Tell a web service about every change of leadership, as a JSON object in a POST request.

    SCRIPT_LEADER_PATH=/hooks/webhook.py
    SCRIPT_FOLLOWER_PATH=/hooks/webhook.py
    WEBHOOK_URL=https://example.org/leadership

The script ends when the message was delivered, and the node goes on leading. It tries again for as long as the role
of its node lasts, because it is ended with that role. Messages of different nodes may arrive in any order; their
fencing token tells which is newer, for it only grows (a follower has none, and sends 0).
"""
# ruff: noqa: S310, T201 (the scheme is checked below; what is printed is logged by the node)

import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

FIELDS = ("ROLE", "NODE_ID", "NODE_NAME", "CLUSTER_ID", "TERM", "LEADER_ID", "FENCING_TOKEN")
TIMEOUT = 5.0  # seconds for one attempt
LONGEST_PAUSE = 30.0  # seconds between two attempts


def main() -> int:
    """Deliver one message, however long that takes."""
    url = os.environ.get("WEBHOOK_URL", "")
    if not url.startswith(("http://", "https://")):
        print(f"WEBHOOK_URL={url}: set it to the http:// or https:// address to post to")
        return 2
    host = urllib.parse.urlsplit(url).hostname  # the rest may be a secret, and this goes to the log
    message = {field.lower(): os.environ[f"TRIORAFT_{field}"] for field in FIELDS}
    request = urllib.request.Request(
        url, data=json.dumps(message).encode(), headers={"Content-Type": "application/json"}, method="POST"
    )
    pause = 1.0
    while True:
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                print(f"told {host}: {response.status}")
                return 0
        except (urllib.error.URLError, OSError) as error:
            print(f"could not tell {host}: {error}; again in {pause:.0f} s", flush=True)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


if __name__ == "__main__":
    sys.exit(main())
