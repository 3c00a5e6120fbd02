"""The settings of the client port let nobody in by mistake."""

from pathlib import Path
from typing import Any

import pytest

from trioraft.datagrams.keys import generate_key
from trioraft.settings.settings import NodeSettings, SettingsError

EVERYWHERE = "0.0.0.0"  # noqa: S104 - what is tested is when that is allowed
FILES = {"client_cert_file": "/c.crt", "client_key_file": "/c.key"}
ALL_FILES = {**FILES, "client_trusted_ca_file": "/ca.crt"}


def _settings(tmp_path: Path, **options: Any) -> NodeSettings:
    return NodeSettings.of(data_dir=tmp_path, client_bind_port=2379, **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"client_bind_host": "::1", "cluster_key": generate_key()},
        {"client_bind_host": EVERYWHERE, "client_insecure": "yes"},
        {"client_bind_host": EVERYWHERE, **ALL_FILES},
        {"client_bind_host": EVERYWHERE, "cluster_key": generate_key(), **ALL_FILES},
        {"client_bind_host": EVERYWHERE, "cluster_key": generate_key(), "client_api": "off"},
        FILES,
        {"client_advertise_url": "https://[::1]:2379/"},
    ],
)
def test_what_lets_in_whom_it_should_is_taken(tmp_path: Path, options: dict[str, Any]) -> None:
    assert _settings(tmp_path, **options).client_bind_port == 2379


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"client_bind_host": EVERYWHERE}, "CLIENT_INSECURE=yes to have it so"),
        ({"client_bind_host": EVERYWHERE, **FILES}, "without client certificates"),
        ({"client_bind_host": EVERYWHERE, **ALL_FILES, "client_cert_auth": False}, "without client certificates"),
        (
            {"client_bind_host": EVERYWHERE, "client_insecure": "yes", "cluster_key": generate_key()},
            "whatever key seals the datagrams",
        ),
        ({"client_cert_file": "/c.crt"}, "set CLIENT_KEY_FILE too"),
        ({"client_trusted_ca_file": "/ca.crt"}, "with TLS only"),
        ({**FILES, "client_cert_auth": True}, "set CLIENT_TRUSTED_CA_FILE"),
        ({"client_advertise_url": "10.0.0.1:2379"}, "http:// or https://"),
        ({"client_advertise_url": "http://10.0.0.1"}, "has no port"),
        ({"client_cors": "good.example"}, "is no origin"),
    ],
)
def test_what_would_let_in_others_is_an_error_that_says_what_to_do(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError) as raised:
        _settings(tmp_path, **options)
    assert words in str(raised.value)
    assert str(raised.value).startswith("CLIENT_")
    assert "\n" not in str(raised.value)


def test_without_a_port_nothing_of_it_is_checked(tmp_path: Path) -> None:
    assert NodeSettings.of(data_dir=tmp_path, client_bind_host=EVERYWHERE).client_bind_port is None
