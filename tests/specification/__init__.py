"""What this software adds to Raft, as a specification in TLA+ that a model checker goes through.

``Formation.tla``   nodes without a cluster form one, and only one
``LeaderWork.tla``  promises, leases, exclusive leader work, transfer

Each says at its beginning what it leaves out. ``python -m tests.specification`` lets TLC look at every state within
the bounds of ``<module>.<bounds>.cfg``, then takes rules out of the specification, one at a time, and expects TLC
to notice (`mutations`).
"""
