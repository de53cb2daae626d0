"""Makes room in the cache."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from cluster.core.errors import ResourceExhausted
from cluster.model_cache.cache_entry import CacheEntry, entry_directories, held_version, lock_path, remove_entry
from cluster.model_cache.disk_error import disk_full
from cluster.model_cache.eviction import HeldVersion, Room, evictions, shortage
from cluster.model_cache.file_lock import FileLock

logger = logging.getLogger(__name__)


class Evictor:
    """Removes versions from the cache at `directory`, for who holds the lock of the whole cache. `max_bytes` 0: no limit."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self._directory = directory
        self._max_bytes = max_bytes

    def make_room(self, entry: CacheEntry, path: str, size_bytes: int) -> int:
        """Evicts what must go for an entry of so many bytes, the version at `path`; how many bytes that was.

        Raises ResourceExhausted when it does not fit without what is in use.
        """
        held = self._others(entry)
        evicted_bytes = 0
        wanted = shortage(size_bytes, self._room(entry, held)).wanted
        if wanted > 0:
            evicted_bytes = self._evict(held, wanted)
            held = self._others(entry)
        if shortage(size_bytes, self._room(entry, held)).needed > 0:
            raise self._refusal(path, size_bytes, held)
        return evicted_bytes

    def _others(self, entry: CacheEntry) -> list[HeldVersion]:
        """What the cache holds besides. What is left of entries whose removers have died goes."""
        held = []
        for directory in entry_directories(self._directory):
            if directory.name == entry.key:
                continue
            version = held_version(directory)
            if version is not None:
                held.append(version)
            elif (lock := FileLock.try_exclusive(lock_path(self._directory, directory.name))) is not None:
                self._remove(directory.name, lock)
        return held

    def _room(self, entry: CacheEntry, held: Iterable[HeldVersion]) -> Room:
        disk = shutil.disk_usage(self._directory)
        return Room(
            max_bytes=self._max_bytes,
            used_bytes=sum(version.size_bytes for version in held),
            free_bytes=disk.free + entry.allocated_bytes(),
            disk_bytes=disk.total,
        )

    def _evict(self, held: Iterable[HeldVersion], wanted: int) -> int:
        evicted_bytes = 0
        with contextlib.ExitStack() as stack:
            idle: dict[HeldVersion, FileLock] = {}
            for version in held:
                lock = FileLock.try_exclusive(lock_path(self._directory, version.key))
                if lock is not None:
                    idle[version] = stack.enter_context(lock)
            for version in evictions(idle, wanted):
                logger.info("model cache: evicting %s, %d bytes", version.key, version.size_bytes)
                self._remove(version.key, idle[version])
                evicted_bytes += version.size_bytes
        return evicted_bytes

    def _remove(self, key: str, lock: FileLock) -> None:
        remove_entry(self._directory / key)
        lock.delete(lock_path(self._directory, key))

    def _refusal(self, path: str, size_bytes: int, held: Iterable[HeldVersion]) -> ResourceExhausted:
        in_use = sum(version.size_bytes for version in held)
        if self._max_bytes and in_use + size_bytes > self._max_bytes:
            return ResourceExhausted(
                f"{path} needs {size_bytes} bytes in the model cache {self._directory}, which may hold {self._max_bytes} and "
                f"has {in_use} in use: raise --model_cache_bytes"
            )
        return disk_full(self._directory, path, size_bytes)
