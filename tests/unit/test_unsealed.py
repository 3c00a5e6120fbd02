"""Who is told that a node has no key, and may be reached by others."""

import pytest

from tests.unit.node_double import make_status
from trioraft.address import Address, is_loopback
from trioraft.client.status import ObservedNode


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),  # noqa: S104 - nothing is bound
        ("::", False),
        ("10.0.0.1", False),
        ("fe80::1%1", False),
    ],
)
def test_only_addresses_that_no_other_machine_reaches_are_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) == expected


@pytest.mark.parametrize(
    ("host", "sealed", "says", "expected"),
    [
        ("127.0.0.1", False, False, False),
        ("127.0.0.1", False, True, True),
        ("10.0.0.1", False, False, True),  # as nodes of the release before, which do not say it
        ("10.0.0.1", True, False, False),
    ],
)
def test_a_node_is_exposed_by_what_it_says_or_by_where_it_answers(
    host: str, sealed: bool, says: bool, expected: bool
) -> None:
    node = ObservedNode(make_status(1, sealed=sealed, exposed=says), Address(host, 7300), 0.0)
    assert node.exposed == node.to_json()["exposed"] == expected
