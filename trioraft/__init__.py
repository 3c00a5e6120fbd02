"""Raft over UDP on trio: election, leases, exclusive leader work, hooks."""

__version__ = "0.1.0"
