"""Where a replica finds the files of its version."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cluster.config.model_cache_options import ModelCacheOptions
from cluster.core import metric_catalog as catalog
from cluster.core.aspired_version import AspiredVersion
from cluster.core.errors import AspiredError, Status
from cluster.core.fetch_progress import FetchProgress
from cluster.core.metrics import MetricCells
from cluster.model_cache.model_cache import CachedVersion, ModelCache, default_directory
from cluster.storage.storage import Storage

logger = logging.getLogger(__name__)


class VersionFiles:
    """The files of one version, in place where this node can open them, else in the node's cache.

    Once found, they stay for the life of this process.
    """

    def __init__(self, version: AspiredVersion, storage: Storage, options: ModelCacheOptions, cells: MetricCells) -> None:
        directory = Path(options.directory) if options.directory else default_directory()
        self._version = version
        self._storage = storage
        self._cache = ModelCache(directory, storage, options.max_bytes)
        self._cells = cells
        self._cached: CachedVersion | None = None

    async def find(self, tell: Callable[[FetchProgress], None]) -> str:
        """The directory with the files. `tell` hears on the event loop how fetching goes. Raises as `ModelCache.acquire`."""
        path = self._version.path
        local = self._storage.local_path(path)
        if local is not None:
            return local
        loop = asyncio.get_running_loop()

        def tell_loop(progress: FetchProgress) -> None:
            loop.call_soon_threadsafe(tell, progress)

        name = self._version.id.name
        began = time.perf_counter()
        try:
            cached = await asyncio.to_thread(self._cache.acquire, path, self._version.fingerprint, tell_loop)
        except AspiredError:
            self._cells.counter(catalog.MODEL_CACHE_LOOKUPS, name, "error").add()
            raise
        if self._cached is not None:
            self._cached.release()
        self._cached = cached
        self._cells.counter(catalog.MODEL_CACHE_LOOKUPS, name, "fetch" if cached.fetched_bytes else "hit").add()
        if cached.fetched_bytes:
            elapsed_s = time.perf_counter() - began
            logger.info("%s: %d bytes fetched in %.1f s", path, cached.fetched_bytes, elapsed_s)
            self._cells.counter(catalog.FETCHED_BYTES, name).add(cached.fetched_bytes)
            self._cells.histogram(catalog.FETCH_SECONDS, name).observe(elapsed_s)
            self._cells.counter(catalog.MODEL_CACHE_EVICTED_BYTES).add(cached.evicted_bytes)
        return str(cached.files)

    def named(self, status: Status) -> Status:
        """An error of the version with its own path in place of the cache's, which says nothing to anybody."""
        if self._cached is None:
            return status
        return replace(status, message=status.message.replace(str(self._cached.files), self._version.path))
