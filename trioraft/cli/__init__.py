"""The ``trioraft`` command."""
