"""TF Serving's SSL config file: a text-format SSLConfig, whose keys and certificates are PEM texts, not names of files.

Nothing of it may be told in an error or a log, since a mistake can be anywhere in it, and a key too.
"""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass, field

from google.protobuf import text_format

from cluster import protos
from cluster.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class SSLConfig:
    """What the gRPC port proves itself with. `client_verify`: clients must have a certificate that `custom_ca` has signed."""

    server_key: str = field(repr=False)
    server_cert: str = field(repr=False)
    custom_ca: str = field(default="", repr=False)
    client_verify: bool = False


def parse_ssl_config(text: str, path: str) -> SSLConfig:
    """What a file's text holds; `path` is named in errors. Raises ConfigError for keys and certificates that cannot be used."""
    try:
        message = text_format.Parse(text, protos.SSLConfig())
    except text_format.ParseError as error:
        # Its text quotes what it could not read, and so does the chain of exceptions.
        raise ConfigError(
            f"Error parsing text-format tensorflow.serving.SSLConfig: line {error.GetLine()}, column {error.GetColumn()} "
            f"(in {path}). Its fields are server_key, server_cert, custom_ca and client_verify; "
            r'a PEM text is written "-----BEGIN ...-----\n...\n"'
        ) from None
    for name in ("server_key", "server_cert", "custom_ca"):
        _check_pem(name, getattr(message, name), path, needed=name != "custom_ca")
    if message.client_verify and not message.custom_ca:
        raise ConfigError(f"client_verify needs custom_ca: the PEM text of the CA of the clients' certificates{_in(path)}")
    _check_certificates("server_cert", message.server_cert, path)
    if message.custom_ca:
        _check_certificates("custom_ca", message.custom_ca, path)
    _check_key(message.server_key, message.server_cert, path)
    return SSLConfig(
        server_key=message.server_key,
        server_cert=message.server_cert,
        custom_ca=message.custom_ca,
        client_verify=message.client_verify,
    )


def _check_pem(name: str, text: str, path: str, *, needed: bool) -> None:
    if not text:
        if needed:
            raise ConfigError(f"{name} is missing: give its PEM text{_in(path)}")
    elif not re.search("^-----BEGIN [A-Z0-9 ]+-----$", text, re.MULTILINE):
        raise ConfigError(f"{name} is not PEM text: give the file's content, not its name{_in(path)}")
    elif not text.isascii():
        raise ConfigError(f"{name} has characters beyond ASCII: leave out what stands outside of BEGIN and END{_in(path)}")


def _check_certificates(name: str, text: str, path: str) -> None:
    try:
        ssl.create_default_context(cadata=text)
    except ssl.SSLError as error:
        raise ConfigError(f"{name} is not a certificate: {_reason(error)}{_in(path)}") from None


def _check_key(key: str, cert: str, path: str) -> None:
    """Whether the key can be read and is that of the certificate."""

    def no_password() -> str:
        raise ConfigError(f"server_key has a password: take it off, as with `openssl pkey -in KEY -out PLAIN_KEY`{_in(path)}")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # how strong a key must be is not the question here
    # OpenSSL reads only files, and a key is written to no disk.
    with os.fdopen(os.memfd_create("server_cert"), "w+") as certs, os.fdopen(os.memfd_create("server_key"), "w+") as keys:
        for file, text in ((certs, cert), (keys, key)):
            file.write(text)
            file.flush()
        try:
            context.load_cert_chain(f"/proc/self/fd/{certs.fileno()}", f"/proc/self/fd/{keys.fileno()}", no_password)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise ConfigError(f"server_key is not the key of server_cert{_in(path)}") from None
            raise ConfigError(f"server_key is not a private key: {_reason(error)}{_in(path)}") from None


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "it cannot be read").replace("_", " ").lower()


def _in(path: str) -> str:
    return f" (in {path})"
