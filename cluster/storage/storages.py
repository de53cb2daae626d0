"""The storage for each path, by its scheme."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from cluster.core.errors import Unimplemented
from cluster.core.s3_uri import S3_SCHEME
from cluster.storage.local_storage import LocalStorage
from cluster.storage.storage import Storage, StoredFile, Tree, WritableStorage

FILE_SCHEME = "file"


def _local_storage() -> Storage:
    return LocalStorage()


def _s3_storage() -> Storage:
    from cluster.storage.s3_storage import S3Storage

    return S3Storage()


SCHEMES: Mapping[str, Callable[[], Storage]] = {FILE_SCHEME: _local_storage, S3_SCHEME: _s3_storage}
"""What makes the storage of each scheme. Called when a path needs it, so that a server without a bucket imports no SDK."""


class Storages(Storage):
    """Every storage there is, as one: passes each call to the storage of the path's scheme, made when it is first needed."""

    def __init__(self, schemes: Mapping[str, Callable[[], Storage]] = SCHEMES) -> None:
        self._schemes = schemes
        self._made: dict[str, Storage] = {}
        self._making = threading.Lock()

    def children(self, path: str) -> Sequence[str]:
        return self._of(path).children(path)

    def tree(self, path: str) -> Tree:
        return self._of(path).tree(path)

    def read(self, path: str) -> bytes:
        return self._of(path).read(path)

    def read_range(self, path: str, file: StoredFile, start: int, end: int) -> Iterator[bytes]:
        return self._of(path).read_range(path, file, start, end)

    def join(self, base_path: str, child: str) -> str:
        return self._of(base_path).join(base_path, child)

    def local_path(self, path: str) -> str | None:
        return self._of(path).local_path(path)

    def writable(self, path: str) -> WritableStorage:
        """The storage of `path`, to write to. Raises Unimplemented when it can only be read."""
        storage = self._of(path)
        if not isinstance(storage, WritableStorage):
            raise Unimplemented(f"{path}: versions cannot be published to {scheme_of(path)}:// paths, only read from there")
        return storage

    def __reduce__(self) -> tuple[type[Storages], tuple[Mapping[str, Callable[[], Storage]]]]:
        # Travels to the processes that read with it, which make their own clients.
        return Storages, (self._schemes,)

    def _of(self, path: str) -> Storage:
        scheme = scheme_of(path)
        with self._making:
            storage = self._made.get(scheme)
            if storage is None:
                storage = self._made[scheme] = self._make(scheme, path)
            return storage

    def _make(self, scheme: str, path: str) -> Storage:
        make = self._schemes.get(scheme)
        if make is None:
            known = ", ".join(f"{name}://" for name in sorted(self._schemes))
            raise Unimplemented(f"{path}: no storage can read {scheme}:// paths; there are {known}")
        return make()


def scheme_of(path: str) -> str:
    """`s3` of `s3://bucket/prefix`; `file` for a path without a scheme."""
    scheme, separator, _ = path.partition("://")
    return scheme.lower() if separator else FILE_SCHEME
