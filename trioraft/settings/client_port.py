"""Whether the settings of the client port fit each other, and let nobody in by mistake."""

from collections.abc import Mapping
from typing import Any

from trioraft.address import is_loopback
from trioraft.settings.variables import SettingsError


def check_client_port(values: Mapping[str, Any]) -> None:
    """Check the settings of the client port.

    Parameters
    ----------
    values : mapping
        The values of all variables of a node, by the names of their fields.

    Raises
    ------
    SettingsError
        If they do not fit, or others could use the API who should not; one line.
    """
    if values["client_bind_port"] is None:
        return
    certificate, key = values["client_cert_file"], values["client_key_file"]
    authorities, wanted = values["client_trusted_ca_file"], values["client_cert_auth"]
    if (certificate is None) != (key is None):
        given, missing = ("CERT", "KEY") if key is None else ("KEY", "CERT")
        shown = certificate or key
        raise SettingsError(f"CLIENT_{given}_FILE={str(shown)!r}: is of no use alone; set CLIENT_{missing}_FILE too")
    if authorities is not None and certificate is None:
        raise SettingsError(
            f"CLIENT_TRUSTED_CA_FILE={str(authorities)!r}: clients show certificates with TLS only;"
            " set CLIENT_CERT_FILE and CLIENT_KEY_FILE"
        )
    if wanted and authorities is None:
        raise SettingsError("CLIENT_CERT_AUTH='true': whose certificates? set CLIENT_TRUSTED_CA_FILE")
    _check_exposure(values, clients_show_who_they_are=needs_certificates(authorities, wanted=wanted))


def needs_certificates(authorities: object, *, wanted: bool | None) -> bool:
    """Check whether clients need certificates: where that is wanted, or nothing is said and there are authorities."""
    return authorities is not None if wanted is None else wanted


def _check_exposure(values: Mapping[str, Any], *, clients_show_who_they_are: bool) -> None:
    """Refuse an API that others can use without a certificate, unless that is wanted and undoes no key."""
    if clients_show_who_they_are or is_loopback(values["client_bind_host"]) or values["client_api"] == "off":
        return
    where = f"CLIENT_BIND_HOST={values['client_bind_host']}"
    ways = "set CLIENT_CERT_FILE, CLIENT_KEY_FILE and CLIENT_TRUSTED_CA_FILE, or CLIENT_API=off for health alone"
    if values["keys"] is not None:
        raise SettingsError(
            f"{where}: whoever can reach the port would read and change everything, whatever key seals the"
            f" datagrams; {ways}"
        )
    if values["client_insecure"] != "yes":
        raise SettingsError(
            f"{where}: without client certificates, whoever can reach the port reads and changes everything;"
            f" {ways}, or CLIENT_INSECURE=yes to have it so"
        )
