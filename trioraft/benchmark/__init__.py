"""``trioraft bench``: commits per second and latencies of a cluster, compared with the machine.

A cluster cannot answer faster than a datagram goes there and back, nor sync faster than its disk. With a cluster of
its own the command therefore measures these two as well, on the same machine and in the same run, and prints
latencies as multiples of them. Only such figures of two machines can be compared.
"""
