"""Processes that a benchmark starts: nodes of trioraft and of its peers with load inside, and clients.

Each runs in the virtual environment of what it measures, perhaps that of another checkout, so it imports nothing of
this checkout but the modules beside it. The benchmark writes a JSON document to its standard input for each command,
and reads one from its standard output for each answer (:mod:`tests.benchmarks.workers.lines`).
"""
