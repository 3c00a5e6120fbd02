"""A put by itself, which the store carries out without what several operations need, against a transaction of it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from trioraft.kv import (
    Change,
    Command,
    DeleteRange,
    Error,
    HistoryLimits,
    KeyValueStore,
    LeaseGrant,
    LeaseRevoke,
    Put,
    Txn,
    TxnResult,
)
from trioraft.kv.results import Result

LIMITS = HistoryLimits(events=6, bytes=2000)
LOCKS = b"trioraft/locks/"

keys = st.sampled_from(
    [b"a", b"b", b"c", b"d", b"e", *(LOCKS + b"job/%016x" % lease for lease in (1, 2)), LOCKS + b"job"]
)
values = st.sampled_from([b"", b"v", bytes(100), bytes(1500)])
leases = st.sampled_from([0, 0, 0, 1, 2])
puts = st.builds(Put, keys, values, leases, st.booleans())
others = (
    st.builds(LeaseGrant, st.just(5), st.integers(1, 2))
    | st.builds(LeaseRevoke, st.integers(1, 2))
    | st.builds(DeleteRange, keys)
)


class Replica:
    """A store, and what it tells."""

    def __init__(self, version: int, quota: int) -> None:
        self.told: list[Change] = []
        self.store = KeyValueStore(LIMITS, on_change=self.told.append)
        self.store.follow_version(version)
        self.store.follow_quota(quota)

    def do(self, command: Command) -> Result:
        return self.store.execute(command)

    def do_in_transaction(self, put: Put) -> Result:
        result = self.do(Txn(success=(put,)))
        if isinstance(result, Error):
            return result
        assert isinstance(result, TxnResult)
        assert result.succeeded
        return result.responses[0]


@settings(max_examples=300)
@given(
    st.lists(puts | puts | others, min_size=3, max_size=20),
    st.sampled_from([1, 3, 5, 5, 5]),
    st.sampled_from([2000, 2000, 100_000]),
)
def test_a_put_alone_does_what_a_transaction_of_it_does(commands: list[Command], version: int, quota: int) -> None:
    alone, transacting = Replica(version, quota), Replica(version, quota)
    for command in commands:
        if isinstance(command, Put):
            assert alone.do(command) == transacting.do_in_transaction(command)
        else:
            assert alone.do(command) == transacting.do(command)
        assert alone.store.size == transacting.store.size
    assert alone.told == transacting.told
    assert alone.store.digest() == transacting.store.digest()
