from __future__ import annotations

import pickle

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cluster.config.ssl_config import SSLConfig, parse_ssl_config
from cluster.core.errors import ConfigError
from tests.fakes.certificates import CertificateAuthority, key_pem, ssl_config_text

AUTHORITY = CertificateAuthority()
SERVER = AUTHORITY.issue("server")
LOCKED_KEY = key_pem(ec.generate_private_key(ec.SECP256R1()), b"secret")
# What a base64 line and the end of a key look like in no other text.
SECRET = SERVER.key.splitlines()[1]


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as raised:
        parse_ssl_config(text, "/ssl.txt")
    assert raised.value.__suppress_context__ or raised.value.__context__ is None, "a traceback would tell the file's text"
    assert SECRET not in raised.value.message
    return raised.value.message


def test_reads_what_mutual_tls_needs() -> None:
    text = ssl_config_text(server_key=SERVER.key, server_cert=SERVER.cert, custom_ca=AUTHORITY.cert, client_verify=True)
    assert parse_ssl_config(text, "/ssl.txt") == SSLConfig(
        server_key=SERVER.key, server_cert=SERVER.cert, custom_ca=AUTHORITY.cert, client_verify=True
    )


def test_clients_need_no_certificate_unless_told() -> None:
    config = parse_ssl_config(ssl_config_text(server_key=SERVER.key, server_cert=SERVER.cert), "/ssl.txt")
    assert (config.custom_ca, config.client_verify) == ("", False)


def test_a_chain_of_certificates_is_taken() -> None:
    chain = SERVER.cert + AUTHORITY.cert
    assert parse_ssl_config(ssl_config_text(server_key=SERVER.key, server_cert=chain), "/ssl.txt").server_cert == chain


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"server_cert": SERVER.cert}, "server_key is missing: give its PEM text (in /ssl.txt)"),
        ({"server_key": SERVER.key}, "server_cert is missing: give its PEM text (in /ssl.txt)"),
        (
            {"server_key": "/etc/tls/key.pem", "server_cert": SERVER.cert},
            "server_key is not PEM text: give the file's content, not its name (in /ssl.txt)",
        ),
        (
            {"server_key": SERVER.key, "server_cert": "/etc/tls/cert.pem"},
            "server_cert is not PEM text: give the file's content, not its name (in /ssl.txt)",
        ),
        (
            {"server_key": SERVER.key, "server_cert": SERVER.cert, "custom_ca": "ca.pem"},
            "custom_ca is not PEM text: give the file's content, not its name (in /ssl.txt)",
        ),
        (
            {"server_key": SERVER.key, "server_cert": SERVER.cert, "client_verify": True},
            "client_verify needs custom_ca: the PEM text of the CA of the clients' certificates (in /ssl.txt)",
        ),
        (
            {"server_key": AUTHORITY.issue("other").key, "server_cert": SERVER.cert},
            "server_key is not the key of server_cert (in /ssl.txt)",
        ),
        (
            {"server_key": SERVER.key, "server_cert": "subject=ä\n" + SERVER.cert},
            "server_cert has characters beyond ASCII: leave out what stands outside of BEGIN and END (in /ssl.txt)",
        ),
        (
            {"server_key": LOCKED_KEY, "server_cert": SERVER.cert},
            "server_key has a password: take it off, as with `openssl pkey -in KEY -out PLAIN_KEY` (in /ssl.txt)",
        ),
    ],
)
def test_refuses(fields: dict[str, str | bool], message: str) -> None:
    assert refused(ssl_config_text(**fields)) == message


def test_names_the_field_whose_text_is_something_else() -> None:
    swapped = ssl_config_text(server_key=SERVER.cert, server_cert=SERVER.key)
    assert refused(swapped).startswith("server_cert is not a certificate: ")
    no_key = ssl_config_text(server_key=SERVER.cert, server_cert=SERVER.cert)
    assert refused(no_key).startswith("server_key is not a private key: ")
    damaged = ssl_config_text(server_key=SERVER.key, server_cert=SERVER.cert.replace("M", "N"))
    assert refused(damaged).startswith("server_cert is not a certificate: ")
    damaged_ca = ssl_config_text(server_key=SERVER.key, server_cert=SERVER.cert, custom_ca=SERVER.key)
    assert refused(damaged_ca).startswith("custom_ca is not a certificate: ")


@pytest.mark.parametrize("text", [SERVER.key, f"server_key: {SERVER.key}", f'server_key: "{SERVER.key}"', "serverkey: 'a'"])
def test_a_text_that_does_not_parse_is_named_by_its_place_alone(text: str) -> None:
    message = refused(text)
    assert message.startswith("Error parsing text-format tensorflow.serving.SSLConfig: line ")
    assert not any(line in message for line in SERVER.key.splitlines()[1:-1])


def test_is_never_shown() -> None:
    config = SSLConfig(server_key=SERVER.key, server_cert=SERVER.cert, custom_ca=AUTHORITY.cert, client_verify=True)
    assert repr(config) == "SSLConfig(client_verify=True)"


def test_travels_to_the_frontends() -> None:
    config = SSLConfig(server_key=SERVER.key, server_cert=SERVER.cert)
    assert pickle.loads(pickle.dumps(config)) == config
