"""What stands in a datagram before its envelope: parsing it from anybody's bytes, and making it.

:mod:`trioraft.datagrams.wire` specifies the format, under *Datagram*. Nothing that is parsed here is authenticated
yet: the key that a header names has to open what follows the header.
"""

import struct
from typing import Final, NamedTuple, TypeAlias

from trioraft.address import Address
from trioraft.datagrams.sealing import Domain

VERSION: Final = 1

# The bytes of a datagram, and the address that it comes from or goes to. A plain tuple, because one is made for each.
Datagram: TypeAlias = tuple[bytes, Address]


class MalformedError(ValueError):
    """A datagram, or the message in it, is not what :mod:`trioraft.datagrams.wire` specifies."""


class UnknownVersionError(MalformedError):
    """A datagram has another version of the format."""


class Plain(NamedTuple):
    """The parts of an unsealed datagram.

    Attributes
    ----------
    domain : Domain
        The session's domain.
    process : bytes
        The sender's process id.
    token : bytes or None
        The token; None in a ``Hello``.
    envelope : bytes
        The envelope, which is not decoded yet.
    """

    domain: Domain
    process: bytes
    token: bytes | None
    envelope: bytes


class Sealed(NamedTuple):
    """The parts of a sealed datagram.

    Attributes
    ----------
    is_hello : bool
        Whether it is sealed under the sender's hello key.
    fingerprint : bytes
        The name of the domain key.
    process : bytes
        The sender's process id.
    counter : int
        The number of the datagram, as the sender counts.
    channel : bytes
        Fingerprint, process and name of the key, as the bytes that stand in the datagram.
    nonce : bytes
        The nonce.
    header : bytes
        The associated data.
    ciphertext : bytes
        What the key has to open.
    is_named : bool
        Whether the channel contains the name of a key that both sides have agreed upon.
    is_salted : bool
        Whether the nonce has random bytes, which the protocol has since version 4.
    """

    is_hello: bool
    fingerprint: bytes
    process: bytes
    counter: int
    channel: bytes
    nonce: bytes
    header: bytes
    ciphertext: bytes
    is_named: bool = False
    is_salted: bool = False


# What stands before the envelope. A single B is the first byte of the CBOR item that follows it.
_SEALED: Final = struct.Struct(">3s B4s B16s BQ BH")
_NAMED: Final = struct.Struct(">3s B4s B16s B4s B12s BH")
_SALTED_HELLO: Final = struct.Struct(">3s B4s B16s B12s BH")
_PLAIN_HELLO: Final = struct.Struct(">3s B B16s")
_PLAIN_MESSAGE: Final = struct.Struct(">3s B B16s B8s")
_KINDS: Final = {
    b"\x85\x01\x00": 0,
    b"\x86\x01\x01": 1,
    b"\x86\x01\x02": 2,
    b"\x86\x01\x03": 3,
    b"\x87\x01\x04": 4,
    b"\x86\x01\x05": 5,
}
_HELLOS: Final = frozenset({0, 2, 5})
_START: Final = {kind: start for start, kind in _KINDS.items()}
# Those first bytes: byte strings of 4, 8, 12 and 16 bytes, a number of 8 bytes, a byte string with 2 bytes of length.
_BYTES_4, _BYTES_8, _BYTES_12, _BYTES_16, _UINT_64, _BYTES_LONG = 0x44, 0x48, 0x4C, 0x50, 0x1B, 0x59
# The domains of unsealed datagrams, by their value there.
PLAIN_DOMAINS: Final = (Domain.CONSENSUS, Domain.FIRST_CLIENT, Domain.FIRST_STATUS)

TAG_BYTES: Final = 16
NONCE_START: Final = bytes(4)
SALT_BYTES: Final = 4
PLAIN_HELLO_OVERHEAD: Final = _PLAIN_HELLO.size
SEALED_OVERHEAD: Final = _NAMED.size + TAG_BYTES
# UDP over IPv4 carries 65,507 bytes.
ENVELOPE_MAX: Final = 65507 - SEALED_OVERHEAD

# The largest Hello, and the largest message of a monitor: a sender that may say nothing larger cannot make a node
# read it either.
SMALL_MAX: Final = 2048

# The most that a datagram has beside its message: the header, the tag, and the start of the envelope with three ids.
MESSAGE_OVERHEAD: Final = SEALED_OVERHEAD + 1 + 3 * 9


def parse_datagram_untrusted(data: bytes) -> Plain | Sealed:
    """Parse what stands before the envelope.

    Parameters
    ----------
    data : bytes
        A datagram from anybody.

    Returns
    -------
    Plain or Sealed
        Its parts, none of which is authenticated.

    Raises
    ------
    UnknownVersionError
        If it is a datagram of another version.
    MalformedError
        If it is no datagram of this format at all.
    """
    kind = _KINDS.get(data[:3])
    if kind is None:
        if len(data) >= 3 and data[0] >> 5 == 4 and data[1] <= 0x18 and data[1] != VERSION:
            raise UnknownVersionError("a datagram of another version")
        raise MalformedError("the datagram is none of ours")
    if kind in _HELLOS and len(data) > SMALL_MAX:
        raise MalformedError("a Hello is larger than any that says what one has to say")
    if kind >= 4:
        return _parse_salted_untrusted(data, is_hello=kind == 5)
    if kind >= 2:
        return _parse_sealed_untrusted(data, is_hello=kind == 2)
    return _parse_plain_untrusted(data, is_hello=kind == 0)


def _parse_sealed_untrusted(data: bytes, *, is_hello: bool) -> Sealed:
    if len(data) < _SEALED.size + TAG_BYTES:
        raise MalformedError("a sealed datagram is cut short")
    _, four, fingerprint, sixteen, process, uint, counter, long, length = _SEALED.unpack_from(data)
    if (
        four != _BYTES_4
        or sixteen != _BYTES_16
        or uint != _UINT_64
        or long != _BYTES_LONG
        or length != len(data) - 37
    ):
        raise MalformedError("a sealed datagram has another header")
    return Sealed(
        is_hello,
        fingerprint,
        process,
        counter,
        data[4:25],
        NONCE_START + data[26:34],
        data[:37],
        data[37:],
    )


def _parse_salted_untrusted(data: bytes, *, is_hello: bool) -> Sealed:
    layout = _SALTED_HELLO if is_hello else _NAMED
    size = layout.size
    if len(data) < size + TAG_BYTES:
        raise MalformedError("a sealed datagram is cut short")
    _, four, fingerprint, sixteen, process, *named, twelve, nonce, long, length = layout.unpack_from(data)
    if (
        four != _BYTES_4
        or sixteen != _BYTES_16
        or (named and named[0] != _BYTES_4)
        or twelve != _BYTES_12
        or long != _BYTES_LONG
        or length != len(data) - size
    ):
        raise MalformedError("a sealed datagram has another header")
    return Sealed(
        is_hello,
        fingerprint,
        process,
        int.from_bytes(nonce[SALT_BYTES:]),
        data[4 : size - 16],
        nonce,
        data[:size],
        data[size:],
        is_named=not is_hello,
        is_salted=True,
    )


def _parse_plain_untrusted(data: bytes, *, is_hello: bool) -> Plain:
    if is_hello:
        if len(data) <= _PLAIN_HELLO.size:
            raise MalformedError("an unsealed Hello is cut short")
        _, domain, sixteen, process = _PLAIN_HELLO.unpack_from(data)
        token, envelope = None, data[_PLAIN_HELLO.size :]
    else:
        if len(data) <= _PLAIN_MESSAGE.size:
            raise MalformedError("an unsealed datagram is cut short")
        _, domain, sixteen, process, eight, token = _PLAIN_MESSAGE.unpack_from(data)
        envelope = data[_PLAIN_MESSAGE.size :]
        if eight != _BYTES_8:
            raise MalformedError("an unsealed datagram has another header")
    if sixteen != _BYTES_16 or domain >= len(PLAIN_DOMAINS):
        raise MalformedError("an unsealed datagram has another header")
    return Plain(PLAIN_DOMAINS[domain], process, token, envelope)


def plain_hello_start(domain: Domain, process: bytes) -> bytes:
    """Make the beginning of an unsealed ``Hello``, up to its envelope.

    Parameters
    ----------
    domain : Domain
        The domain.
    process : bytes
        The sender's process id.

    Returns
    -------
    bytes
        The beginning of the datagram.
    """
    return _PLAIN_HELLO.pack(_START[0], domain, _BYTES_16, process)


def plain_message_start(domain: Domain, process: bytes, token: bytes) -> bytes:
    """Make the beginning of any other unsealed datagram, up to its envelope.

    Parameters
    ----------
    domain : Domain
        The domain.
    process : bytes
        The sender's process id.
    token : bytes
        The receiver's token, 8 bytes.

    Returns
    -------
    bytes
        The beginning of the datagram.
    """
    return _PLAIN_MESSAGE.pack(_START[1], domain, _BYTES_16, process, _BYTES_8, token)


def sealed_start(fingerprint: bytes, process: bytes, *, is_hello: bool) -> bytes:
    """Make the beginning of a sealed datagram of kind 2 or 3, up to its counter.

    Parameters
    ----------
    fingerprint : bytes
        The name of the domain key.
    process : bytes
        The sender's process id.
    is_hello : bool
        Whether it is a ``Hello``.

    Returns
    -------
    bytes
        The beginning of the datagram.
    """
    return _SEALED.pack(
        _START[2 if is_hello else 3],
        _BYTES_4,
        fingerprint,
        _BYTES_16,
        process,
        _UINT_64,
        0,
        _BYTES_LONG,
        0,
    )[:26]


def hello_overhead(*, is_salted: bool) -> int:
    """Compute how many bytes a sealed ``Hello`` has beside its envelope.

    Parameters
    ----------
    is_salted : bool
        Whether its nonce has random bytes.

    Returns
    -------
    int
        The size of header and tag.
    """
    return (_SALTED_HELLO if is_salted else _SEALED).size + TAG_BYTES


def salted_hello_start(fingerprint: bytes, process: bytes) -> bytes:
    """Make the beginning of a sealed ``Hello`` of kind 5, up to its nonce.

    Parameters
    ----------
    fingerprint : bytes
        The name of the domain key.
    process : bytes
        The sender's process id.

    Returns
    -------
    bytes
        The beginning of the datagram.
    """
    return b"%b\x44%b\x50%b\x4c" % (_START[5], fingerprint, process)


def named_channel(fingerprint: bytes, process: bytes, name: bytes) -> bytes:
    """Make the channel of a datagram of kind 4: the bytes that name the agreed key it is sealed under.

    Parameters
    ----------
    fingerprint : bytes
        The name of the domain key.
    process : bytes
        The sender's process id.
    name : bytes
        The name of the key, 4 bytes.

    Returns
    -------
    bytes
        The bytes between kind and nonce.
    """
    return b"%b\x50%b\x44%b" % (fingerprint, process, name)


def named_start(fingerprint: bytes, process: bytes, name: bytes) -> bytes:
    """Make the beginning of a datagram of kind 4, up to its nonce.

    Parameters
    ----------
    fingerprint, process, name : bytes
        As for :func:`named_channel`.

    Returns
    -------
    bytes
        The beginning of the datagram.
    """
    return b"%b\x44%b\x4c" % (_START[4], named_channel(fingerprint, process, name))


def is_salted(start: bytes) -> bool:
    """Check whether the nonce of a datagram has random bytes.

    Parameters
    ----------
    start : bytes
        The beginning of the datagram.

    Returns
    -------
    bool
        True where the whole nonce stands in the datagram, False where only its counter does.
    """
    return start[2] >= 4


def sealed_header(start: bytes, count: bytes, envelope_length: int) -> bytes:
    """Complete the header, which is all that stands before the ciphertext.

    Parameters
    ----------
    start : bytes
        The result of :func:`sealed_start`, :func:`salted_hello_start` or :func:`named_start`.
    count : bytes
        The counter, 8 bytes, behind the first of these; the whole nonce, 12 bytes, behind the other two.
    envelope_length : int
        The length of the envelope, in bytes, at most :data:`ENVELOPE_MAX`.

    Returns
    -------
    bytes
        The header, which is also the associated data of the seal.
    """
    return start + count + b"\x59" + (envelope_length + TAG_BYTES).to_bytes(2)
