#!/bin/sh
# Say that this node leads, and again when it no longer does.
#
#   SCRIPT_LEADER_PATH=/hooks/announce-leader.sh
#
# This is the simplest form of a job that runs exactly as long as its node leads: replace the loop by your
# program. The node's log has what a script prints. At the end of leadership the script and everything that it has
# started get SIGTERM, and SIGKILL after HOOK_STOP_GRACE_MILLIS; no other node starts its leader script before all of
# that has ended.

set -eu

farewell() {
    echo "$TRIORAFT_NODE_NAME no longer leads"
    exit 0
}
trap farewell TERM

echo "$TRIORAFT_NODE_NAME ($TRIORAFT_NODE_ID) leads in term $TRIORAFT_TERM with fencing token $TRIORAFT_FENCING_TOKEN"

# A shell sees a signal only between two commands, or while it waits, so the sleep is in the background.
while :; do
    sleep 3600 &
    wait $! || :
done
