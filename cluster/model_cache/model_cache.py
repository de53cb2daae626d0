"""A node's cache of versions, shared by all processes that were given the same directory."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

from cluster.core.errors import Aborted, FailedPrecondition
from cluster.core.fetch_progress import ProgressMeter
from cluster.model_cache.cache_entry import CacheEntry
from cluster.model_cache.disk_error import disk_error
from cluster.model_cache.evictor import Evictor
from cluster.model_cache.fetch import TELL_INTERVAL_S, Fetch, FetchOptions, Tell
from cluster.model_cache.file_lock import FileLock
from cluster.storage.storage import Storage

_LOOK_INTERVAL_S = 0.1
_CACHE_LOCK = "cache.lock"

logger = logging.getLogger(__name__)


def default_directory() -> Path:
    """Where this user's caches are, on this node."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "aspired" / "models"


class CachedVersion:
    """A version's files on this node. They stay until `release`, or until this process ends.

    `fetched_bytes` came over the wire for it and `evicted_bytes` had to go; both are 0 when it was there.
    """

    def __init__(self, files: Path, lock: FileLock, fetched_bytes: int, evicted_bytes: int) -> None:
        self.files = files
        self.fetched_bytes = fetched_bytes
        self.evicted_bytes = evicted_bytes
        self._lock = lock

    def release(self) -> None:
        self._lock.release()


class ModelCache:
    """Versions by path and fingerprint, under `directory`; thread-safe, and safe across processes that may die at any time.

    `max_bytes` 0: as much as the disk has room for. What is fetched takes the room of what has been unused for longest; what a
    process uses stays. Nothing is fetched twice at a time: who comes second waits, and goes on where one that died has stopped.
    """

    def __init__(self, directory: Path, storage: Storage, max_bytes: int = 0, options: FetchOptions | None = None) -> None:
        self._directory = directory
        self._storage = storage
        self._evictor = Evictor(directory, max_bytes)
        self._options = options or FetchOptions()

    def acquire(self, path: str, fingerprint: str, tell: Tell) -> CachedVersion:
        """The version at `path` with this fingerprint; blocks while it is fetched, here or by another process.

        `tell` hears how that goes about once a second, from this thread. Without a fetch the storage is not asked. Raises
        Aborted when the version is another by now, ResourceExhausted when there is no room for it, DataLoss when its files are
        not what its manifest says, FailedPrecondition for a directory that others could write to; else what the storage raises.
        """
        self._check_directory()
        entry = CacheEntry(self._directory, path, fingerprint)
        waiting = _Waiting(entry, tell)
        fetched_bytes = evicted_bytes = 0
        try:
            while (using := _use(entry)) is None:
                alone = FileLock.try_exclusive(entry.lock_path)
                if alone is None:
                    waiting.look_later()
                    continue
                with alone:
                    if not entry.complete:
                        fetch = Fetch(self._storage, path, fingerprint, entry, self._options)
                        evicted_bytes += self._carry_out(fetch, entry, path, tell)
                        fetched_bytes += fetch.fetched_bytes
        except OSError as error:
            raise disk_error(error, self._directory, path, 0) from error
        if not entry.synced:
            threading.Thread(target=_sync, args=(entry,), name="model cache sync", daemon=True).start()
        return CachedVersion(entry.files, using, fetched_bytes, evicted_bytes)

    def _carry_out(self, fetch: Fetch, entry: CacheEntry, path: str, tell: Tell) -> int:
        """How many bytes were evicted for it."""
        try:
            size_bytes = fetch.look(tell)
            with FileLock.wait_exclusive(self._directory / _CACHE_LOCK):
                evicted_bytes = self._evictor.make_room(entry, path, size_bytes)
                fetch.reserve()
            fetch.run(tell)
        except Aborted:
            entry.remove()  # this fingerprint will not come again
            raise
        return evicted_bytes

    def _check_directory(self) -> None:
        flag = f"--model_cache_dir={self._directory}"
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            found = self._directory.stat()
        except OSError as error:
            raise FailedPrecondition(f"{flag} cannot be made: {error.strerror}: name another directory") from error
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise FailedPrecondition(
                f"{flag}: others than the server's user may write there: make it that user's alone (chown, chmod 700), or name "
                "another directory"
            )


class _Waiting:
    """For a version that another process fetches or removes."""

    def __init__(self, entry: CacheEntry, tell: Tell) -> None:
        self._entry = entry
        self._tell = tell
        self._told_at = time.monotonic()
        self._meter = ProgressMeter(self._told_at)

    def look_later(self) -> None:
        now = time.monotonic()
        if now - self._told_at >= TELL_INTERVAL_S:
            self._told_at = now
            self._tell(self._meter.read(*self._entry.fetched(), now))
        time.sleep(_LOOK_INTERVAL_S)


def _use(entry: CacheEntry) -> FileLock | None:
    """A lock that keeps the entry as it is, if it is whole."""
    if not entry.complete:
        return None
    lock = FileLock.try_shared(entry.lock_path)
    if lock is not None:
        if entry.complete:
            entry.touch()
            return lock
        lock.release()
    return None


def _sync(entry: CacheEntry) -> None:
    try:
        entry.sync()
    except OSError as error:
        logger.warning("model cache: %s has not been written to disk: %s", entry.directory, error)
