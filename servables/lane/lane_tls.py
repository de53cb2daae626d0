"""Encryption of lanes between nodes: with the certificates that Ray itself uses, where Ray uses some."""

from __future__ import annotations

import os
import ssl


def server_tls() -> ssl.SSLContext | None:
    """For a replica; None where Ray's own connections are not encrypted."""
    return _context(ssl.Purpose.CLIENT_AUTH)


def client_tls() -> ssl.SSLContext | None:
    """For a frontend."""
    return _context(ssl.Purpose.SERVER_AUTH)


def _context(purpose: ssl.Purpose) -> ssl.SSLContext | None:
    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
        return None
    authority = os.environ.get("RAY_TLS_CA_CERT")
    context = ssl.create_default_context(purpose, cafile=authority)
    context.check_hostname = False  # nodes go by addresses, which Ray's certificates need not name
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(os.environ["RAY_TLS_SERVER_CERT"], os.environ["RAY_TLS_SERVER_KEY"])
    return context
