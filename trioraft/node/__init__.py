"""A node: the nursery that ties consensus to a socket, a disk, DNS, scripts and a state machine."""
