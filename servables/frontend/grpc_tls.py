"""The gRPC port's TLS, from its config."""

from __future__ import annotations

import os
import ssl

from cluster.config.ssl_config import SSLConfig

ALPN = "h2"


def server_tls(config: SSLConfig) -> ssl.SSLContext:
    """TLS 1.2 or newer, with HTTP/2 agreed on in the handshake. The config has been checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols([ALPN])
    # OpenSSL reads only files, and a key is written to no disk.
    with os.fdopen(os.memfd_create("server_cert"), "w+") as cert, os.fdopen(os.memfd_create("server_key"), "w+") as key:
        for file, text in ((cert, config.server_cert), (key, config.server_key)):
            file.write(text)
            file.flush()
        context.load_cert_chain(f"/proc/self/fd/{cert.fileno()}", f"/proc/self/fd/{key.fileno()}")
    if config.client_verify:
        context.load_verify_locations(cadata=config.custom_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
