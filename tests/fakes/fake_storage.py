"""A storage in memory, with failures and slow paths to order."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence

from cluster.core.errors import AspiredError, NotFound
from cluster.storage.storage import Storage, StoredFile, Tree


class FakeStorage(Storage):
    """Holds versions as trees: `put` writes one, `remove` deletes one, `fail` makes a path raise, `block` makes it hang.

    `walks` counts the looks at each tree, `listings` those at each base path, `reads` those at each file. Paths with a scheme
    are not local.
    """

    def __init__(self) -> None:
        self._trees: dict[str, dict[str, Tree]] = {}
        self._errors: dict[str, AspiredError] = {}
        self._gates: dict[str, threading.Event] = {}
        self._vanishing: set[str] = set()
        self._contents: dict[str, bytes] = {}
        self.walks: dict[str, int] = {}
        self.listings: dict[str, int] = {}
        self.reads: dict[str, int] = {}

    def add_base_path(self, base_path: str) -> None:
        self._trees.setdefault(base_path, {})

    def put(
        self,
        base_path: str,
        child: str,
        fingerprint: str = "whole",
        *,
        age_s: float | None = 3600.0,
        size_bytes: int = 100,
        entries: int = 4,
        files: Mapping[str, int] | None = None,
    ) -> None:
        """Writes a version's files; `age_s` is how old they look, whatever the time. `files` are names with their sizes."""
        stored = tuple(StoredFile(name, size, fingerprint) for name, size in sorted((files or {}).items()))
        self.put_tree(base_path, child, Tree(fingerprint, size_bytes, entries, age_s, stored))

    def put_tree(self, base_path: str, child: str, tree: Tree) -> None:
        self._trees.setdefault(base_path, {})[child] = tree

    def remove(self, base_path: str, child: str | None = None) -> None:
        """Deletes a version, or the base path with all of them."""
        if child is None:
            del self._trees[base_path]
        else:
            del self._trees[base_path][child]

    def vanish_when_walked(self, base_path: str, child: str) -> None:
        """The version is listed once more, and is gone when its tree is looked at."""
        self._vanishing.add(self.join(base_path, child))

    def fail(self, path: str, error: AspiredError) -> None:
        self._errors[path] = error

    def heal(self, path: str) -> None:
        del self._errors[path]

    def block(self, path: str) -> threading.Event:
        """Looks at `path` hang until the event that is returned is set."""
        return self._gates.setdefault(path, threading.Event())

    def children(self, path: str) -> Sequence[str]:
        self._pass(path)
        self.listings[path] = self.listings.get(path, 0) + 1
        if path not in self._trees:
            raise NotFound(f"{path}: No such file or directory")
        return list(self._trees[path])

    def tree(self, path: str) -> Tree:
        self._pass(path)
        self.walks[path] = self.walks.get(path, 0) + 1
        base_path, _, child = path.rpartition("/")
        if path in self._vanishing:
            self._vanishing.remove(path)
            self.remove(base_path, child)
        try:
            return self._trees[base_path][child]
        except KeyError:
            raise NotFound(f"{path}: No such file or directory") from None

    def read(self, path: str) -> bytes:
        self._pass(path)
        self.reads[path] = self.reads.get(path, 0) + 1
        try:
            return self._contents[path]
        except KeyError:
            raise NotFound(f"{path}: No such file or directory") from None

    def read_range(self, path: str, file: StoredFile, start: int, end: int) -> Iterator[bytes]:
        yield self.read(self.join(path, file.name))[start:end]

    def local_path(self, path: str) -> str | None:
        return None if "://" in path else path

    def put_file(self, path: str, content: bytes) -> None:
        """What `read` gives for a path; trees do not list it by themselves."""
        self._contents[path] = content

    def _pass(self, path: str) -> None:
        gate = self._gates.get(path)
        if gate is not None:
            gate.wait()
        if path in self._errors:
            raise self._errors[path]
