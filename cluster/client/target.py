"""Where a server listens, as the user writes it."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from cluster.core.errors import InvalidArgument


class Protocol(enum.Enum):
    GRPC = "gRPC"
    REST = "REST"


DEFAULT_PORTS = {Protocol.GRPC: 8500, Protocol.REST: 8501}
"""TF Serving's ports; https and grpcs have no other default, since it is the same server."""

_SCHEMES = {
    "http": (Protocol.REST, False),
    "https": (Protocol.REST, True),
    "grpc": (Protocol.GRPC, False),
    "grpcs": (Protocol.GRPC, True),
}


@dataclass(frozen=True, slots=True)
class Target:
    """One server's address. `path` is the prefix that a REST server sits behind, without a trailing slash.

    A UNIX socket (gRPC only) has its path in `host` and no port.
    """

    protocol: Protocol
    tls: bool
    host: str
    port: int | None
    path: str = ""

    @property
    def authority(self) -> str:
        """`host:port` as both protocols write it, an IPv6 address in brackets; `unix:path` for a socket."""
        if self.port is None:
            return f"unix:{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        if self.protocol is Protocol.REST:
            return f"{'https' if self.tls else 'http'}://{self.authority}{self.path}"
        return f"{'grpcs' if self.tls else 'grpc'}://{self.authority}"


def parse_target(text: str) -> Target:
    """Reads `http[s]://host[:port][/prefix]`, `grpc[s]://host[:port]`, `unix:/path` or a bare `host:port`, which is gRPC.

    A missing port is TF Serving's: 8500 for gRPC, 8501 for REST. Raises InvalidArgument for anything else.
    """
    if text.startswith("unix:"):
        return Target(Protocol.GRPC, tls=False, host=text.removeprefix("unix:"), port=None)
    bare = "://" not in text
    try:
        url = urlsplit(f"grpc://{text}" if bare else text)
        port = url.port
    except ValueError as error:
        raise InvalidArgument(f"Target {text!r} is not an address: {error}") from error
    if url.scheme not in _SCHEMES:
        raise InvalidArgument(f"Target {text!r} has an unknown scheme; expected one of {', '.join(_SCHEMES)}")
    protocol, tls = _SCHEMES[url.scheme]
    if not url.hostname or (bare and port is None):
        raise InvalidArgument(f"Target {text!r} is not an address; expected host:port or a URL")
    if url.query or url.fragment or url.username or (url.path.rstrip("/") and protocol is Protocol.GRPC):
        raise InvalidArgument(f"Target {text!r} has more than a scheme, a host and a port")
    return Target(protocol, tls, url.hostname, DEFAULT_PORTS[protocol] if port is None else port, url.path.rstrip("/"))


def parse_targets(texts: str | Sequence[str]) -> tuple[Target, ...]:
    """Reads one target or several of the same protocol, in the order in which they are to be tried."""
    targets = tuple(parse_target(text) for text in ([texts] if isinstance(texts, str) else texts))
    if not targets:
        raise InvalidArgument("No target given")
    if len({target.protocol for target in targets}) > 1:
        raise InvalidArgument(f"Targets must be all REST or all gRPC: {', '.join(map(str, targets))}")
    return targets
