"""No web page can use the port, whatever name it has given to its address."""

import pytest

from trioraft.etcd.guard import Guard, host_name

GUARD = Guard(("https://good.example",), ("*.good.example", "alias"), ["pg1"])


@pytest.mark.parametrize(
    "host", ["127.0.0.1:2379", "[::1]:2379", "localhost:2379", "PG1:2379", "a.good.example", "alias", "10.0.0.1", ""]
)
def test_addresses_and_known_names_are_taken(host: str) -> None:
    assert not GUARD.why_not({"host": host})


@pytest.mark.parametrize(
    "host", ["evil.example:2379", "good.example.evil.example", "pg1.evil.example", "127.0.0.1.evil"]
)
def test_a_name_that_is_not_known_is_refused(host: str) -> None:
    assert "CLIENT_HOSTS" in GUARD.why_not({"host": host})


def test_an_origin_is_refused_unless_it_is_named() -> None:
    assert "CLIENT_CORS" in GUARD.why_not({"host": "127.0.0.1", "origin": "https://evil.example"})
    assert "CLIENT_CORS" in GUARD.why_not({"host": "127.0.0.1", "origin": "null"})
    assert not GUARD.why_not({"host": "127.0.0.1", "origin": "https://good.example"})
    assert not Guard(("*",), ()).why_not({"host": "127.0.0.1", "origin": "https://any.example"})


def test_the_name_in_a_host_is_without_port_and_brackets() -> None:
    assert [host_name(one) for one in ("A.b:1", "[::1]:2", "[fe80::1%eth0]", "c.")] == ["a.b", "::1", "fe80::1", "c"]
