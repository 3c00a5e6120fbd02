#!/bin/sh
# Run a command again and again, on exactly one node of the cluster: cron for a replicated service.
#
#   SCRIPT_LEADER_PATH=/hooks/cron-singleton.sh
#   CRON_COMMAND='/usr/local/bin/send-reports --all' CRON_INTERVAL_SECONDS=60
#
# The rounds are at multiples of the interval since 1970 (at full minutes for 60), so that they stay where they are when
# leadership changes. At most one round is lost then, and a round in progress is ended with its node's leadership.
#
# A round may be done twice when its node was frozen as a whole (a paused virtual machine). To prevent that, let the
# command pass $TRIORAFT_FENCING_TOKEN to the service that it writes to, and let the service refuse a token that is
# smaller than the largest one it has seen.

set -eu

: "${CRON_COMMAND:?set it to the command to run}"
interval=${CRON_INTERVAL_SECONDS:-60}

while :; do
    sleep $((interval - $(date +%s) % interval))
    # A round that fails is no reason to stop, nor to hand over the leadership.
    sh -c "$CRON_COMMAND" || echo "the command ended with status $?"
done
