"""What a node reads for those that it serves itself: in parts, at one revision, whatever happens between them."""

from unittest import mock

import pytest
import trio

from tests.unit.test_kv_paging import Node
from trioraft.kv import Compact, Error, ErrorCode, HistoryLimits, LeaseGrant, Put, RangeResult
from trioraft.kv.codec import pack, unpack
from trioraft.kv.commands import LARGEST, RESULT_MAX
from trioraft.kv.local import HashKV
from trioraft.kv.questions import AnyAnswer, LeaseList, LeaseListAnswer
from trioraft.kv.requests import RangeRequest, SortOrder, SortTarget, TxnRequest
from trioraft.versions import SPOKEN

KEYS = 40
LARGE = bytes(RESULT_MAX // 10)


def filled(keys: int = KEYS, value: bytes = LARGE) -> Node:
    node = Node(HistoryLimits(10, 2**30))
    node.service.store.follow_version(SPOKEN.highest)
    for number in range(keys):
        node.service.store.execute(Put(b"%02d" % number, value))
    return node


async def test_a_range_of_any_size_is_read_at_one_revision_while_others_change_it() -> None:
    node = filled()
    store = node.service.store
    expected = store.evaluate(RangeRequest(b"0", b"\0"))
    found: list[RangeResult | Error] = []

    async def read() -> None:
        found.append(await node.service.range(RangeRequest(b"0", b"\0")))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for _ in range(2):  # within the first pass this task may come before the one that reads
            await trio.lowlevel.checkpoint()
        for number in range(KEYS):  # far more than the history keeps
            store.execute(Put(b"%02d" % number, b"new"))
    assert found == [expected]
    assert isinstance(expected, RangeResult)
    assert (expected.count, expected.more) == (KEYS, False)


@pytest.mark.parametrize("sorted_here", [0, KEYS])
async def test_a_range_in_parts_is_what_a_range_at_once_would_be(sorted_here: int) -> None:
    node = filled()
    with mock.patch("trioraft.kv.local._SORTED_HERE", sorted_here):
        for request in (
            RangeRequest(b"05"),
            RangeRequest(b""),
            RangeRequest(b"05", b"\0", 20),
            RangeRequest(b"05", b"\0", 20, KEYS, SortOrder.DESCEND, SortTarget.MOD),
            RangeRequest(b"05", b"\0", count_only=True),
            RangeRequest(b"05", b"\0", revision=LARGEST),
            RangeRequest(b"05", b"\0", revision=-1, keys_only=True, min_mod_revision=20),
        ):
            assert await node.service.range(request) == node.service.store.evaluate(request), request


async def test_a_transaction_that_only_reads_needs_no_log() -> None:
    node = filled(3)
    txn = TxnRequest((), (RangeRequest(b"00"),))
    assert node.service.txn(txn) == node.service.store.execute(txn)


async def test_the_hash_of_all_keys_is_equal_on_all_nodes_at_one_revision() -> None:
    one, other = filled(), filled()
    at_first = await one.service.hash_kv()
    other.service.store.execute(Put(b"x", b""))
    other.service.store.execute(Compact(KEYS))
    assert isinstance(at_first, HashKV)
    now = await other.service.hash_kv()
    assert isinstance(now, HashKV)
    before = await other.service.hash_kv(KEYS + 1)
    assert before == HashKV(KEYS + 2, at_first.hash, KEYS)
    assert now.hash != at_first.hash
    refused = await other.service.hash_kv(1)
    assert isinstance(refused, Error)
    assert refused.code == ErrorCode.COMPACTED


async def test_leases_are_listed_by_what_is_left_of_them_where_the_node_leads() -> None:
    node = filled(0)
    for lease, ttl in ((1, 30), (-2, 10), (3, 20)):
        node.service.store.execute(LeaseGrant(ttl, lease))
    assert [lease.id for lease in node.service.leases_by_expiry()] == [-2, 3, 1]
    node.leads_in = 0
    assert [lease.id for lease in node.service.leases_by_expiry()] == [-2, 1, 3]


def test_leases_with_negative_ids_are_in_every_page_of_the_list() -> None:
    node = filled(0)
    for lease in (-3, -2, -1, 1, 2):
        node.service.store.execute(LeaseGrant(30, lease))
    found: list[int] = []
    with mock.patch("trioraft.kv.service.LEASES_PAGE", 3):
        after, more = -LARGEST - 1, True
        while more:
            answer = unpack(node.ask(pack(LeaseList(after))), AnyAnswer)
            assert isinstance(answer, LeaseListAnswer)
            found += answer.ids
            after, more = answer.ids[-1], answer.more
    assert found == [-3, -2, -1, 1, 2]
