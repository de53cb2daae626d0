"""What a source, a cache and a publisher need of the place where models lie."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.storage.version_manifest import is_claim

MAX_READ_BYTES = 16 << 20
"""The largest file that `Storage.read` gives whole: manifests and claims, never a model's data."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file under a path. `name` is relative to that path, with "/" between its parts.

    `tag` changes whenever the content does, as far as the storage can tell: an ETag, or the time of modification.
    """

    name: str
    size_bytes: int
    tag: str


@dataclass(frozen=True, slots=True)
class Tree:
    """All files of one version at one moment.

    `fingerprint` is equal for two looks exactly when the names, sizes and tags of all files are, claims of publishers left
    out. `entries` counts files and directories. `age_s` is the time since the newest change by the storage's own clock; None
    where no time is known. `files` are sorted by name.
    """

    fingerprint: str
    size_bytes: int
    entries: int
    age_s: float | None
    files: tuple[StoredFile, ...] = ()


class Storage(ABC):
    """A file system or an object store, read only. Used from several threads at once.

    Paths are base paths as the model config has them, and what `join` makes of them. Every method may block, and raises
    AspiredError: NotFound for a path that is not there, another code for one that cannot be read just now. Messages name the
    path and never hold credentials.
    """

    @abstractmethod
    def children(self, path: str) -> Sequence[str]:
        """The names of what lies directly under `path`, in any order; one request, or one for each thousand names."""

    @abstractmethod
    def tree(self, path: str) -> Tree:
        """One look at everything under `path`. What vanishes during the look is left out."""

    @abstractmethod
    def read(self, path: str) -> bytes:
        """A small file, whole. Raises ResourceExhausted when it is larger than MAX_READ_BYTES."""

    @abstractmethod
    def read_range(self, path: str, file: StoredFile, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` up to `end` of a file of the tree at `path`, in pieces of any size, exactly so many in all.

        Raises Aborted when the file is no longer the one that was listed (`file.tag`), Unavailable when the bytes end early.
        """

    def join(self, base_path: str, child: str) -> str:
        """The path of a child; what a loader gets."""
        return f"{base_path.rstrip('/')}/{child}"

    def local_path(self, path: str) -> str | None:
        """Where this node's processes can open `path` as it is; None when its files must be fetched first."""
        return None


class WritableStorage(Storage):
    """A storage that versions can be published to."""

    @abstractmethod
    def write(self, path: str, content: bytes) -> None:
        """Writes one small file, all or nothing, over what is there."""

    @abstractmethod
    def upload(self, local: Path, path: str, sent: Callable[[int], None]) -> None:
        """Writes one local file of any size to `path`, all or nothing.

        `sent` is told how many bytes more have gone, from any thread.
        """

    @abstractmethod
    def delete(self, path: str, names: Iterable[str]) -> None:
        """Deletes files under `path`, by their relative names, in this order; those that are gone are passed over."""


def tree_of(files: Iterable[StoredFile], age_s: float | None) -> Tree:
    """The tree of a storage that knows files alone, as object stores do."""
    ordered = tuple(sorted(files, key=lambda file: file.name))
    facts = [(file.name, file.size_bytes, file.tag) for file in ordered if not is_claim(file.name)]
    return Tree(
        fingerprint=fingerprint_of(facts),
        size_bytes=sum(file.size_bytes for file in ordered),
        entries=len(ordered),
        age_s=age_s,
        files=ordered,
    )


def fingerprint_of(facts: Sequence[object]) -> str:
    """A short name for facts whose `repr` tells them apart."""
    return hashlib.blake2b(repr(facts).encode(), digest_size=16).hexdigest()
