#!/bin/sh
# Hold a virtual IPv4 address for as long as this node leads.
#
#   SCRIPT_LEADER_PATH=/hooks/virtual-ip-leader.sh
#   SCRIPT_FOLLOWER_PATH=/hooks/virtual-ip-follower.sh
#   VIRTUAL_IP=192.0.2.10/24 VIRTUAL_IP_DEVICE=eth0
#
# The script needs `ip` (iproute2), and `arping` (iputils) to tell the neighbours; the image has neither. It needs the
# capability NET_ADMIN, for arping also NET_RAW. A plain host has both for root.
#
# The script stays, rather than assign the address and exit, so that the address is taken away as part of the work
# that has ended before another node starts its own. Should the script be killed before it could clean up, the follower
# script does that; on a machine that lost its power there is nothing to clean up.

set -eu

: "${VIRTUAL_IP:?set it to the address with its prefix length, as in 192.0.2.10/24}"
: "${VIRTUAL_IP_DEVICE:?set it to the network device that shall hold the address, as in eth0}"

release() {
    ip address del "$VIRTUAL_IP" dev "$VIRTUAL_IP_DEVICE"
    echo "released $VIRTUAL_IP on $VIRTUAL_IP_DEVICE"
    exit 0
}
trap release TERM

# `replace` also succeeds when an earlier run left the address there.
ip address replace "$VIRTUAL_IP" dev "$VIRTUAL_IP_DEVICE"
echo "holding $VIRTUAL_IP on $VIRTUAL_IP_DEVICE"

# The neighbours still have the former leader's hardware address in their tables, so tell them the new one by gratuitous
# ARP. It is repeated now and then, because nothing confirms it.
while :; do
    if command -v arping >/dev/null; then
        arping -q -U -c 3 -I "$VIRTUAL_IP_DEVICE" "${VIRTUAL_IP%/*}" || echo "arping failed; neighbours may be slow"
    fi
    sleep 30 &
    wait $! || :
done
