"""A directory that looks like an object store: its files must be fetched, and fetching can be made to fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from cluster.storage.local_storage import LocalStorage
from cluster.storage.storage import Storage, StoredFile, Tree, tree_of


class RemoteStorage(LocalStorage):
    """`read_bytes` counts what has been read of each file, `listings` the looks at trees.

    `before_piece` is called with the file's name and the position before each piece of `piece_bytes`; it may block, or raise
    what the store is to say. `change_piece` may give other bytes than there are.
    """

    def __init__(self, piece_bytes: int = 1000) -> None:
        self.piece_bytes = piece_bytes
        self.read_bytes: dict[str, int] = {}
        self.listings = 0
        self.before_piece: Callable[[str, int], None] = lambda name, position: None
        self.change_piece: Callable[[str, bytes], bytes] = lambda name, piece: piece
        self._lock = threading.Lock()

    @property
    def all_read_bytes(self) -> int:
        return sum(self.read_bytes.values())

    def tree(self, path: str) -> Tree:
        self.listings += 1
        return tree_of(super().tree(path).files, 3600.0)

    def read_range(self, path: str, file: StoredFile, start: int, end: int) -> Iterator[bytes]:
        for position in range(start, end, self.piece_bytes):
            self.before_piece(file.name, position)
            for piece in super().read_range(path, file, position, min(position + self.piece_bytes, end)):
                with self._lock:
                    self.read_bytes[file.name] = self.read_bytes.get(file.name, 0) + len(piece)
                yield self.change_piece(file.name, piece)

    def local_path(self, path: str) -> str | None:
        return None


def fingerprint_in(storage: Storage, path: str | Path) -> str:
    """What a source would say of the version."""
    return storage.tree(str(path)).fingerprint
