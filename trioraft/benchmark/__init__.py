"""``trioraft bench``: how many commands a cluster commits, how long each takes, and what that is beside the machine.

A cluster cannot answer faster than a datagram goes there and back, nor sync faster than its disk, so with a cluster
of its own the command measures these two as well, on the same machine and in the same run, and gives latencies as
multiples of them: figures of two machines can be compared only so.
"""
