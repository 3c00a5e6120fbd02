#!/bin/sh
# Say that this node follows.
#
#   SCRIPT_FOLLOWER_PATH=/hooks/announce-follower.sh
#
# The script runs once when the node becomes a member of its cluster, and once after each time that the node led. A
# follower script is for cleaning up and for telling somebody; it is ended when its node is about to lead.

set -eu

echo "$TRIORAFT_NODE_NAME ($TRIORAFT_NODE_ID) follows in term $TRIORAFT_TERM, leader: ${TRIORAFT_LEADER_ID:-not known yet}"
