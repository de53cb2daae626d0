"""What has to leave the cache so that another version fits."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

SPARED_FRACTION = 0.05
"""What a cache without a limit of its own leaves free of its disk, as far as evicting can."""


class HeldVersion(NamedTuple):
    """A version in the cache, whole or in part. `last_used` is when a process last began to use it, by any clock."""

    key: str
    size_bytes: int
    last_used: float


class Room(NamedTuple):
    """What there is: the limit of the cache (`max_bytes`, 0 for none), what it holds, and its disk."""

    max_bytes: int
    used_bytes: int
    free_bytes: int
    disk_bytes: int


class Shortage(NamedTuple):
    """Bytes to evict: those without which the version does not fit, and those that should go if they can."""

    needed: int
    wanted: int


def shortage(size_bytes: int, room: Room) -> Shortage:
    """What a version of `size_bytes` that is not held yet lacks. Nothing is evicted before room is short."""
    disk = max(0, size_bytes - room.free_bytes)
    if room.max_bytes:
        needed = max(disk, room.used_bytes + size_bytes - room.max_bytes)
        return Shortage(needed, needed)
    return Shortage(disk, max(0, size_bytes + round(room.disk_bytes * SPARED_FRACTION) - room.free_bytes))


def evictions(idle: Collection[HeldVersion], bytes_to_evict: int) -> list[HeldVersion]:
    """Those to evict, the longest unused first, until so many bytes are free, or all have gone.

    `idle` leaves out what a process uses or fetches: that is never evicted.
    """
    chosen: list[HeldVersion] = []
    for version in sorted(idle, key=lambda version: (version.last_used, version.key)):
        if bytes_to_evict <= 0:
            break
        chosen.append(version)
        bytes_to_evict -= version.size_bytes
    return chosen
