"""What a transport needs to know beside the address."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from cluster.core.errors import InvalidArgument

FilePath: TypeAlias = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSConfig:
    """PEM files for https and grpcs targets.

    `ca_file` replaces the usual roots; `cert_file` and `key_file` are the client's own.
    """

    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise InvalidArgument("cert_file and key_file must be given together")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """`headers` go with every request, as HTTP headers or gRPC metadata; they may hold tokens, so they are never shown."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls: TLSConfig = TLSConfig()
    connect_timeout_s: float = 5.0
