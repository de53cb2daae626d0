"""Where nodes keep the files of versions that they have to fetch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelCacheOptions:
    """`directory` on each node; empty: the user's own cache there. `max_bytes` 0: as much as the disk has room for."""

    directory: str = ""
    max_bytes: int = 0
