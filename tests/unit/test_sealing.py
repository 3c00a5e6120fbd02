"""Keys, what is derived from them, and the replay window."""

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from trioraft.datagrams.keys import DERIVED, KeyRing, derive_key, generate_key
from trioraft.datagrams.replay import ReplayWindow
from trioraft.datagrams.sealing import Domain, NodeIdentity

KEY = "4b" * 32
OTHER = "5c" * 32
# As the release before printed them for the first of these.
FIRST_CLIENT = "client:3343e0002d237b41a618bf7444f4f1894cea00918d20fb7f479d02bb55ec5443"
FIRST_STATUS = "status:8ad14d8fa09ddbc87cfd2dcc5ed31aac30b2c8e75136b5e2b42e3c678ec11a9b"


def hkdf(secret: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256 and no salt, one block, written down independently."""
    return hmac.digest(hmac.digest(bytes(32), secret, hashlib.sha256), info + b"\x01", hashlib.sha256)


def test_a_generated_key_is_a_key_and_never_the_same() -> None:
    first, second = generate_key(), generate_key()
    assert first != second
    assert all(KeyRing.parse(first).can(domain) for domain in Domain)


def test_keys_are_derived_as_documented() -> None:
    secret = bytes.fromhex(KEY)
    admin = hkdf(secret, b"trioraft 2 admin")
    client = hkdf(admin, b"trioraft 2 client")
    reader = hkdf(client, b"trioraft 2 reader")
    status = hkdf(reader, b"trioraft 2 status")
    seed = hkdf(secret, b"trioraft 2 node identity")
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    for label, derived in zip(DERIVED, (admin, client, reader, status), strict=True):
        assert derive_key(KEY, label) == f"{label}:{derived.hex()}:{public.hex()}"
    ring = KeyRing.parse(KEY)
    consensus = hkdf(secret, b"trioraft 1 consensus")
    first_client = bytes.fromhex(FIRST_CLIENT.removeprefix("client:"))
    first_status = bytes.fromhex(FIRST_STATUS.removeprefix("status:"))
    secrets = consensus, first_client, first_status, admin, client, reader, status
    for domain, domain_secret in zip(Domain, secrets, strict=True):
        assert ring.first(domain).fingerprint == hkdf(domain_secret, b"trioraft 1 fingerprint")[:4]


def test_keys_that_the_release_before_derived_are_accepted_and_recognized() -> None:
    whole = KeyRing.parse(KEY)
    for text, domains in ((FIRST_CLIENT, (1, 2)), (FIRST_STATUS, (2,))):
        ring = KeyRing.parse(text)
        assert [int(domain) for domain in Domain if ring.has(domain)] == list(domains)
        assert all(ring.first(Domain(d)).fingerprint == whole.first(Domain(d)).fingerprint for d in domains)
        assert ring.former == (text.split(":")[0],)
        assert all(key is not None and key.identity is None for key in map(ring.first, map(Domain, domains)))
    assert whole.former == KeyRing.parse(derive_key(KEY, "client")).former == ()
    assert KeyRing.parse(FIRST_CLIENT).best is Domain.ADMIN  # as before
    assert KeyRing.parse(FIRST_STATUS).best is Domain.STATUS
    assert derive_key(FIRST_CLIENT, "status") == FIRST_STATUS
    for text, label in ((FIRST_CLIENT, "admin"), (FIRST_CLIENT, "reader"), (FIRST_STATUS, "client")):
        said = f"as the release before derived it; no {label} key"
        with pytest.raises(ValueError, match=said):
            derive_key(text, label)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", range(len(DERIVED)))
def test_a_derived_key_is_good_for_its_domain_and_those_below(number: int) -> None:
    whole, derived = KeyRing.parse(KEY), KeyRing.parse(derive_key(KEY, DERIVED[number]))
    domains = [Domain[label.upper()] for label in DERIVED[number:]]
    assert [domain for domain in Domain if derived.can(domain)] == domains
    assert derived.best is domains[0]
    for domain in domains:
        assert derived.first(domain).fingerprint == whole.first(domain).fingerprint
    with pytest.raises(ValueError, match="no key for consensus traffic"):
        derived.first(Domain.CONSENSUS)


def test_each_key_can_be_derived_from_those_above_it_and_from_none_below() -> None:
    for number, label in enumerate(DERIVED):
        for above in DERIVED[: number + 1]:
            assert derive_key(derive_key(KEY, above), label) == derive_key(KEY, label)
        for below in DERIVED[number + 1 :]:
            with pytest.raises(ValueError, match=f"key 1 is a {below} key; no {label} key can be derived from it"):
                derive_key(derive_key(KEY, below), label)


def test_only_the_cluster_key_signs_for_nodes_and_derived_keys_verify_it() -> None:
    signature = NodeIdentity.of_cluster(bytes.fromhex(KEY)).sign(b"text")
    other = NodeIdentity.of_cluster(bytes.fromhex(OTHER)).sign(b"text")
    for label in DERIVED:
        identity = KeyRing.parse(derive_key(KEY, label)).first(Domain.STATUS).identity
        assert identity is not None
        assert identity.sign(b"text") == b""
        assert identity.has_signed(signature, b"text")
        assert not any((identity.has_signed(other, b"text"), identity.has_signed(signature, b"more")))
        assert not identity.has_signed(b"", b"text")


def test_each_of_several_keys_is_derived() -> None:
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
        (f"voter:{KEY}", "key 1 starts with something else than admin:, client:, reader: or status:"),
        (f":{KEY}", "key 1 starts with something else than admin:"),
        (f"reader:{KEY}", "key 1 lacks its second half; copy the whole line"),
        (f"reader:{KEY}:{KEY[:-1]}", "key 1 is not 64 hexadecimal digits"),
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
    secrets = [derive_key(key, label).split(":")[1] for key in (KEY, OTHER) for label in DERIVED]
    secrets += [KEY, FIRST_CLIENT[7:], FIRST_STATUS[7:]]
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
