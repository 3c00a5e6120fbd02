"""The TLS of the client port: files that are read again when they change.

A new connection has what is in the files by then. Where they cannot be used the earlier ones stay in use, and the log
says so once.
"""

import os
import ssl
from pathlib import Path
from typing import Final, TypeAlias

from msgspec import Struct

from trioraft.errors import NodeError
from trioraft.logger import Logger
from trioraft.messages import Instant

_log: Final = Logger("trioraft.etcd")

# The files are looked at when a connection comes, but no more often than this, in seconds.
_LOOK_AGAIN: Final = 1.0

_Stamp: TypeAlias = tuple[tuple[int, int, int], ...]


class TlsFiles(Struct, frozen=True):
    """The files, and whether clients need certificates.

    Attributes
    ----------
    certificate, key : Path
        The node's certificate, with those between it and its authority, and its key.
    authorities : Path or None
        The authorities of the certificates of clients.
    clients_need_one : bool
        Whether a client without a certificate is refused.
    """

    certificate: Path
    key: Path
    authorities: Path | None
    clients_need_one: bool


class Certificates:
    """What TLS needs, as it is in the files now.

    Parameters
    ----------
    files : TlsFiles
        The files.

    Raises
    ------
    NodeError
        If they cannot be used.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._looked_at = 0.0
        try:
            self._stamp = self._read_stamp()
            self._context = _load(files)
        except (OSError, ValueError) as error:
            raise NodeError(f"{self._names()}: {_why(error)}; give readable PEM files that fit each other") from error

    def _names(self) -> str:
        return f"CLIENT_CERT_FILE={self._files.certificate} CLIENT_KEY_FILE={self._files.key}" + (
            f" CLIENT_TRUSTED_CA_FILE={self._files.authorities}" if self._files.authorities else ""
        )

    def _read_stamp(self) -> _Stamp:
        paths = filter(None, (self._files.certificate, self._files.key, self._files.authorities))
        found = [os.stat(path) for path in paths]
        return tuple((one.st_mtime_ns, one.st_size, one.st_ino) for one in found)

    def context(self, now: Instant) -> ssl.SSLContext:
        """Return the context for a new connection.

        Parameters
        ----------
        now : float
            The time in seconds.

        Returns
        -------
        ssl.SSLContext
            The context of the newest files that can be used.
        """
        if now - self._looked_at >= _LOOK_AGAIN:
            self._looked_at = now
            self._look()
        return self._context

    def _look(self) -> None:
        try:
            stamp = self._read_stamp()
        except OSError as error:
            stamp, problem = (), _why(error)
        else:
            problem = ""
        if stamp == self._stamp:
            return
        self._stamp = stamp
        if not problem:
            try:
                self._context = _load(self._files)
            except (OSError, ValueError) as error:
                problem = _why(error)
        if problem:
            _log.error("the new TLS files are of no use; the earlier ones stay", files=self._names(), why=problem)
        else:
            _log.info("the TLS files were read again", files=self._names())


def _load(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(files.certificate, files.key, password=_no_password)
    if files.authorities is not None:
        context.load_verify_locations(files.authorities)
    if files.clients_need_one:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
