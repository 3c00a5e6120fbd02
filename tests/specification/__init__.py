"""What this software adds to Raft, as a specification in TLA+ that a model checker goes through.

``Formation.tla``   nodes without a cluster form one, and only one
``LeaderWork.tla``  promises, leases, exclusive leader work, transfer

Each says at its beginning what it leaves out. ``python -m tests.specification`` lets TLC look at every state within
the bounds of ``<module>.<bounds>.cfg``, then takes rules out of the specification, one at a time, and expects TLC
to notice (`mutations`). With ``--full`` it goes on to the larger bounds. All have three nodes:

==========  ========  ===========================================================  =======================
module      bounds    what they are                                                distinct states
==========  ========  ===========================================================  =======================
Formation   bounded   two formations                                               8,081 of 68,168
Formation   refusals  three formations, one refusal kept by each node              107,677 of 951,880
LeaderWork  bounded   one election after the first; promise and grace of one tick  222,778 of 1,774,496
LeaderWork  ticks     the same with a promise of two ticks                         many times that
LeaderWork  terms     two elections after the first                                many times that
==========  ========  ===========================================================  =======================

States that differ only in the names of nodes or formations count once.
"""
