#!/bin/sh
# Make sure that this node does not hold the virtual address: the other half of virtual-ip-leader.sh.
#
# Usually there is nothing to do, because the leader script has released the address. It could not do so when it was
# killed, after HOOK_STOP_GRACE_MILLIS or by the kernel.

set -eu

: "${VIRTUAL_IP:?set it to the address with its prefix length, as in 192.0.2.10/24}"
: "${VIRTUAL_IP_DEVICE:?set it to the network device that shall hold the address, as in eth0}"

if [ -n "$(ip -oneline address show dev "$VIRTUAL_IP_DEVICE" to "${VIRTUAL_IP%/*}")" ]; then
    ip address del "$VIRTUAL_IP" dev "$VIRTUAL_IP_DEVICE"
    echo "removed $VIRTUAL_IP, which was left on $VIRTUAL_IP_DEVICE"
fi
