"""A process that asks a cache for one version, as a replica does: DIRECTORY PATH FINGERPRINT; prints the bytes it fetched."""

from __future__ import annotations

import sys
from pathlib import Path

from cluster.model_cache.fetch import FetchOptions
from cluster.model_cache.model_cache import ModelCache
from cluster.storage.storages import Storages


def main() -> None:
    directory, path, fingerprint = sys.argv[1:]
    cache = ModelCache(Path(directory), Storages(), options=FetchOptions(part_bytes=1 << 18))
    cached = cache.acquire(path, fingerprint, lambda progress: None)
    print(cached.fetched_bytes)


if __name__ == "__main__":
    main()
