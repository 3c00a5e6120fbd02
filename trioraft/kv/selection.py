"""Which of the keys that were found a range request shows, and in which order."""

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import structs

from trioraft.kv.commands import KeyValue
from trioraft.kv.requests import RangeRequest, SortOrder, SortTarget
from trioraft.kv.results import RangeResult

_TARGETS: Final[dict[SortTarget, Callable[[KeyValue], int | bytes]]] = {
    SortTarget.KEY: lambda item: item.key,
    SortTarget.VERSION: lambda item: item.version,
    SortTarget.CREATE: lambda item: item.create_revision,
    SortTarget.MOD: lambda item: item.mod_revision,
    SortTarget.VALUE: lambda item: item.value,
}


def to_find(request: RangeRequest) -> int:
    """Compute how many keys, the first of their range, have to be found for a request; 0 for all of them."""
    bounds = (
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    )
    if request.sort_order is not SortOrder.NONE or any(bounds) or request.limit <= 0:
        return 0
    return request.limit + 1  # etcd finds out so whether there are more, and sorts that one too


def select(request: RangeRequest, found: Iterable[KeyValue], count: int, revision: int) -> RangeResult:
    """Make the answer to a request of the keys that were found for it.

    Parameters
    ----------
    request : RangeRequest
        The request.
    found : iterable of KeyValue
        As many keys of its range as :func:`to_find` says, in ascending order.
    count : int
        The number of keys in the range.
    revision : int
        The store's revision.

    Returns
    -------
    RangeResult
        The answer.
    """
    shown = [item for item in found if _is_within(request, item)]
    order = request.sort_order
    if request.sort_target is not SortTarget.KEY and order is SortOrder.NONE:
        order = SortOrder.ASCEND
    if order is not SortOrder.NONE:
        shown.sort(key=_TARGETS[request.sort_target], reverse=order is SortOrder.DESCEND)
    more = 0 < request.limit < len(shown)
    if more:
        del shown[request.limit :]
    if request.keys_only:
        shown = [structs.replace(item, value=b"") for item in shown]
    return RangeResult(revision, tuple(shown), count, more=more)


def _is_within(request: RangeRequest, item: KeyValue) -> bool:
    """Check whether the revisions of a key are within the bounds of a request; 0 stands for no bound."""
    return (
        (not request.max_mod_revision or item.mod_revision <= request.max_mod_revision)
        and (not request.min_mod_revision or item.mod_revision >= request.min_mod_revision)
        and (not request.max_create_revision or item.create_revision <= request.max_create_revision)
        and (not request.min_create_revision or item.create_revision >= request.min_create_revision)
    )
