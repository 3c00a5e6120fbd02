"""Keys, what is derived from them, and the replay window."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioraft.datagrams.sealing import Domain, KeyRing, ReplayWindow, derive_key, generate_key

KEY = "4b" * 32
OTHER = "5c" * 32


def hkdf(secret: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256 and no salt, one block, written down independently."""
    return hmac.digest(hmac.digest(bytes(32), secret, hashlib.sha256), info + b"\x01", hashlib.sha256)


def test_a_generated_key_is_a_key_and_never_the_same() -> None:
    first, second = generate_key(), generate_key()
    assert first != second
    assert all(KeyRing.parse(first).can(domain) for domain in Domain)


def test_keys_are_derived_as_documented() -> None:
    secret = bytes.fromhex(KEY)
    client = hkdf(secret, b"trioraft 1 client")
    status = hkdf(client, b"trioraft 1 status")
    assert derive_key(KEY, "client") == f"client:{client.hex()}"
    assert derive_key(KEY, "status") == f"status:{status.hex()}"
    ring = KeyRing.parse(KEY)
    consensus = hkdf(secret, b"trioraft 1 consensus")
    for domain, domain_secret in zip(Domain, (consensus, client, status), strict=True):
        assert ring.first(domain).fingerprint == hkdf(domain_secret, b"trioraft 1 fingerprint")[:4]


@pytest.mark.parametrize(("label", "domains"), [("client", {1, 2}), ("status", {2})])
def test_a_derived_key_is_good_for_its_domain_and_those_below(label: str, domains: set[int]) -> None:
    whole = KeyRing.parse(KEY)
    derived = KeyRing.parse(derive_key(KEY, label))  # type: ignore[arg-type]
    assert {int(domain) for domain in Domain if derived.can(domain)} == domains
    for domain in domains:
        assert derived.first(Domain(domain)).fingerprint == whole.first(Domain(domain)).fingerprint
    with pytest.raises(ValueError, match="no key for consensus traffic"):
        derived.first(Domain.CONSENSUS)


def test_a_status_key_can_be_derived_from_a_client_key_but_not_the_other_way() -> None:
    assert derive_key(derive_key(KEY, "client"), "status") == derive_key(KEY, "status")
    with pytest.raises(ValueError, match="key 1 is a status key; no client key can be derived from it"):
        derive_key(derive_key(KEY, "status"), "client")


def test_several_keys_derive_to_several() -> None:
    derived = derive_key(f"{KEY}\n{OTHER}", "status")
    assert derived == f"{derive_key(KEY, 'status')}\n{derive_key(OTHER, 'status')}"


@pytest.mark.parametrize("text", [f"{KEY},{OTHER}", f"{KEY}\n{OTHER}\n", f" {KEY} , {OTHER}\r\n"])
def test_the_first_key_seals_and_all_are_found(text: str) -> None:
    ring, first, second = KeyRing.parse(text), KeyRing.parse(KEY), KeyRing.parse(OTHER)
    for domain in Domain:
        assert ring.first(domain).fingerprint == first.first(domain).fingerprint
        for alone in (first, second):
            found = ring.find(alone.first(domain).fingerprint)
            assert found is not None
            assert found.domain is domain
    assert ring.find(b"none") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no key"),
        (" \n,", "there is no key"),
        (KEY[:-1], "key 1 is not 64 hexadecimal digits"),
        (KEY + "00", "key 1 is not 64 hexadecimal digits"),
        (f"{KEY}\n{'zz' * 32}", "key 2 is not 64 hexadecimal digits"),
        (f"voter:{KEY}", "key 1 starts with something else than client: or status:"),
        (f"{KEY},{KEY}", "a key is given twice"),
    ],
)
def test_a_wrong_key_is_refused_in_one_line_that_does_not_show_it(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        KeyRing.parse(text)
    message = str(caught.value)
    assert "\n" not in message
    assert KEY[:16] not in message
    assert "zzzz" not in message


def test_no_text_form_shows_a_key() -> None:
    ring = KeyRing.parse(f"{KEY} {derive_key(OTHER, 'client')}")
    secrets = [KEY, derive_key(KEY, "client")[7:], derive_key(KEY, "status")[7:], derive_key(OTHER, "client")[7:]]
    shown = f"{ring} {ring!r} {ring.first(Domain.CONSENSUS)!r} {ring.first(Domain.CLIENT)}"
    assert not any(secret in shown for secret in secrets)


def test_a_session_key_is_for_one_direction_between_two_processes_in_one_domain() -> None:
    ring = KeyRing.parse(KEY)
    a, b, c = b"a" * 16, b"b" * 16, b"c" * 16
    nonce = bytes(12)
    consensus, client = ring.first(Domain.CONSENSUS), ring.first(Domain.CLIENT)
    ciphers = [
        consensus.session_cipher(a, b),
        consensus.session_cipher(b, a),
        consensus.session_cipher(a, c),
        client.session_cipher(a, b),
        consensus.hello_cipher(a),
        client.hello_cipher(a),
        KeyRing.parse(OTHER).first(Domain.CONSENSUS).session_cipher(a, b),
    ]
    assert len({cipher.encrypt(nonce, b"text", None) for cipher in ciphers}) == len(ciphers)
    assert consensus.session_cipher(a, b).decrypt(nonce, ciphers[0].encrypt(nonce, b"text", None), None) == b"text"


class WindowModel:
    """What the window must do, with all counters remembered."""

    def __init__(self, floor: int) -> None:
        self.floor, self.highest, self.seen = floor, floor, set[int]()

    def accept(self, counter: int) -> bool:
        if counter <= self.floor or counter in self.seen or counter <= self.highest - ReplayWindow.WIDTH:
            return False
        self.seen.add(counter)
        self.highest = max(self.highest, counter)
        return True


@given(
    st.integers(0, 2**64 - 1),
    st.lists(
        st.one_of(
            st.integers(-20, 20),
            st.integers(-2 * ReplayWindow.WIDTH, 2 * ReplayWindow.WIDTH),
            st.sampled_from([ReplayWindow.WIDTH + d for d in (-1, 0, 1)]),
            st.sampled_from([-ReplayWindow.WIDTH + d for d in (-1, 0, 1)]),
        ),
        max_size=60,
    ),
)
def test_the_window_takes_every_counter_once(floor: int, steps: list[int]) -> None:
    window, model = ReplayWindow(floor), WindowModel(floor)
    for step in steps:
        counter = min(max(model.highest + step, 0), 2**64 - 1)
        assert window.accept(counter) == model.accept(counter)


def test_a_jump_of_the_counter_costs_no_memory() -> None:
    window = ReplayWindow()
    assert window.accept(2**64 - 1)
    assert not window.accept(1)
    assert not window.accept(2**64 - 1)
    assert window.accept(2**64 - 2)
