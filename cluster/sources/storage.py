"""What a source needs of the place where models lie."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cluster.core.errors import FailedPrecondition, NotFound, PermissionDenied, Unavailable, Unimplemented


@dataclass(frozen=True, slots=True)
class Tree:
    """All files of one version at one moment.

    `fingerprint` is equal for two looks exactly when the names, sizes and times of modification of all files are. `entries`
    counts files and directories. `age_s` is the time since the newest change; None where no time is known.
    """

    fingerprint: str
    size_bytes: int
    entries: int
    age_s: float | None


class Storage(ABC):
    """A file system or an object store, read only. Used by `FileSystemStoragePathSource`, from several threads at once.

    Paths are base paths as the model config has them, and what `join` makes of them. Every method may block, and raises
    AspiredError: NotFound for a path that is not there, another code for one that cannot be read just now.
    """

    @abstractmethod
    def children(self, path: str) -> Sequence[str]:
        """The names of what lies directly under `path`, in any order."""

    @abstractmethod
    def tree(self, path: str) -> Tree:
        """One look at everything under `path`. What vanishes during the look is left out."""

    def join(self, base_path: str, child: str) -> str:
        """The path of a child; what a loader gets."""
        return f"{base_path.rstrip('/')}/{child}"


class LocalStorage(Storage):
    """The file system of this node, and what is mounted on it. Paths are absolute, or `file://` URIs.

    Symbolic links are followed, as TensorFlow will follow them.
    """

    def children(self, path: str) -> Sequence[str]:
        with _os_errors(path):
            return os.listdir(_local(path))

    def tree(self, path: str) -> Tree:
        with _os_errors(path):
            entries = _walk(_local(path))
        # The times of directories tell nothing that the names in them do not, so they count for the age alone.
        facts = sorted(
            (entry.name, entry.target, *(() if entry.directory else (entry.size_bytes, entry.modified_ns))) for entry in entries
        )
        # A copy may carry its times of modification over, never those of change.
        newest_ns = max(max(entry.modified_ns, entry.changed_ns) for entry in entries)
        return Tree(
            fingerprint=hashlib.blake2b(repr(facts).encode(), digest_size=16).hexdigest(),
            size_bytes=sum(entry.size_bytes for entry in entries if not entry.directory),
            entries=len(entries),
            age_s=(time.time_ns() - newest_ns) / 1e9,
        )

    def join(self, base_path: str, child: str) -> str:
        return os.path.join(_local(base_path), child)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One file or directory; `target` is where a symbolic link points."""

    name: str
    target: str
    directory: bool
    size_bytes: int
    modified_ns: int
    changed_ns: int


def _local(path: str) -> str:
    scheme, separator, rest = path.partition("://")
    if not separator:
        return path
    if scheme == "file":
        return rest
    raise Unimplemented(f"{path}: no storage can read {scheme}:// paths; copy the model to a local or mounted path")


def _walk(root: str) -> list[_Entry]:
    """Everything that `root` is and holds. What is gone when its turn comes, and links that lead nowhere, are left out."""
    found = os.stat(root)
    entries = [_entry("", os.readlink(root) if os.path.islink(root) else "", found)]
    if not entries[0].directory:
        return entries
    # Links may lead back to where they lie: a directory is walked once.
    seen = {(found.st_dev, found.st_ino)}
    pending = [("", root)]
    while pending:
        prefix, directory = pending.pop()
        try:
            children = list(os.scandir(directory))
        except (FileNotFoundError, NotADirectoryError):
            if directory == root:
                raise
            continue
        for child in children:
            try:
                target = os.readlink(child.path) if child.is_symlink() else ""
                found = child.stat()
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ELOOP, errno.EINVAL):  # EINVAL: a link no more
                    continue
                raise
            entry = _entry(prefix + child.name, target, found)
            entries.append(entry)
            identity = (found.st_dev, found.st_ino)
            if entry.directory and identity not in seen:
                seen.add(identity)
                pending.append((f"{entry.name}/", child.path))
    return entries


def _entry(name: str, target: str, found: os.stat_result) -> _Entry:
    return _Entry(name, target, stat.S_ISDIR(found.st_mode), found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@contextlib.contextmanager
def _os_errors(path: str) -> Iterator[None]:
    """Turns what the operating system says of `path` into an AspiredError."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"{path}: {error.strerror}") from error
    except PermissionError as error:
        raise PermissionDenied(f"{path}: {error.strerror}") from error
    except NotADirectoryError as error:
        raise FailedPrecondition(f"{path}: {error.strerror}") from error
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror or error}") from error
