"""The primitives of the package ``cryptography``, each of which is loaded when it is used for the first time.

They take 7 MB and the fiftieth part of a second, and a process without a key uses none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cryptography.exceptions import InvalidSignature, InvalidTag
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

__all__ = [
    "HKDF",
    "SHA256",
    "ChaCha20Poly1305",
    "Ed25519PrivateKey",
    "Ed25519PublicKey",
    "InvalidSignature",
    "InvalidTag",
    "X25519PrivateKey",
    "X25519PublicKey",
]

_HOMES: Final = {
    "InvalidSignature": "exceptions",
    "InvalidTag": "exceptions",
    "Ed25519PrivateKey": "hazmat.primitives.asymmetric.ed25519",
    "Ed25519PublicKey": "hazmat.primitives.asymmetric.ed25519",
    "X25519PrivateKey": "hazmat.primitives.asymmetric.x25519",
    "X25519PublicKey": "hazmat.primitives.asymmetric.x25519",
    "ChaCha20Poly1305": "hazmat.primitives.ciphers.aead",
    "SHA256": "hazmat.primitives.hashes",
    "HKDF": "hazmat.primitives.kdf.hkdf",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"cryptography.{_HOMES[name]}"), name)
    return found
