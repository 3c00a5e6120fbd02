"""Tells whether a recorded history of concurrent clients is linearizable.

A `History` records who called what when and what came back; `check` searches an order of the operations
that one after another would explain every answer and keeps the order of operations that did not overlap
(Herlihy and Wing, "Linearizability", 1990). The search is Wing and Gong's with Lowe's memory of states seen.
"""

from tests.linearizability.checker import assert_linearizable, check
from tests.linearizability.history import History, Operation
from tests.linearizability.model import Model
from tests.linearizability.models import (
    Add,
    Cas,
    CasRevision,
    CounterModel,
    Delete,
    Deleted,
    Found,
    Get,
    KeyValueModel,
    Put,
    Read,
    Swapped,
    Total,
    Written,
)
from tests.linearizability.report import Result, Verdict, Violation

__all__ = [
    "Add",
    "Cas",
    "CasRevision",
    "CounterModel",
    "Delete",
    "Deleted",
    "Found",
    "Get",
    "History",
    "KeyValueModel",
    "Model",
    "Operation",
    "Put",
    "Read",
    "Result",
    "Swapped",
    "Total",
    "Verdict",
    "Violation",
    "Written",
    "assert_linearizable",
    "check",
]
