"""The file system of a node."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.core.errors import (
    Aborted,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from cluster.storage.storage import MAX_READ_BYTES, StoredFile, Tree, WritableStorage, fingerprint_of
from cluster.storage.version_manifest import is_claim

_PIECE_BYTES = 1 << 20


class LocalStorage(WritableStorage):
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
            (entry.name, entry.target, *(() if entry.directory else (entry.size_bytes, entry.modified_ns)))
            for entry in entries
            if not is_claim(entry.name)
        )
        # A copy may carry its times of modification over, never those of change.
        newest_ns = max(max(entry.modified_ns, entry.changed_ns) for entry in entries)
        return Tree(
            fingerprint=fingerprint_of(facts),
            size_bytes=sum(entry.size_bytes for entry in entries if not entry.directory),
            entries=len(entries),
            age_s=(time.time_ns() - newest_ns) / 1e9,
            files=tuple(
                sorted(
                    (entry.stored_file() for entry in entries if not entry.directory),
                    key=lambda file: file.name,
                )
            ),
        )

    def read(self, path: str) -> bytes:
        with _os_errors(path), open(_local(path), "rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_READ_BYTES:
                raise ResourceExhausted(f"{path} is larger than {MAX_READ_BYTES} bytes")
            return file.read()

    def read_range(self, path: str, file: StoredFile, start: int, end: int) -> Iterator[bytes]:
        whole = os.path.join(_local(path), file.name) if file.name else _local(path)
        with _os_errors(whole), open(whole, "rb") as opened:
            if _tag(os.fstat(opened.fileno())) != file.tag:
                raise Aborted(f"{whole} has changed since it was listed")
            opened.seek(start)
            while start < end:
                piece = opened.read(min(_PIECE_BYTES, end - start))
                if not piece:
                    raise Unavailable(f"{whole} ends at {start} bytes")
                start += len(piece)
                yield piece

    def write(self, path: str, content: bytes) -> None:
        with _os_errors(path), _replacing(path) as temporary:
            temporary.write_bytes(content)

    def upload(self, local: Path, path: str, sent: Callable[[int], None]) -> None:
        with _os_errors(path), _replacing(path) as temporary:
            shutil.copyfile(local, temporary)
            sent(temporary.stat().st_size)

    def delete(self, path: str, names: Iterable[str]) -> None:
        root = Path(_local(path))
        with _os_errors(path):
            emptied: set[Path] = set()
            for name in names:
                (root / name).unlink(missing_ok=True)
                emptied.update(parent for parent in (root / name).parents if parent.is_relative_to(root))
            for directory in sorted(emptied, key=lambda directory: -len(directory.parts)):
                with contextlib.suppress(FileNotFoundError):
                    if not any(directory.iterdir()):
                        directory.rmdir()

    def join(self, base_path: str, child: str) -> str:
        return os.path.join(_local(base_path), child)

    def local_path(self, path: str) -> str | None:
        return _local(path)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One file or directory; `target` is where a symbolic link points."""

    name: str
    target: str
    directory: bool
    size_bytes: int
    modified_ns: int
    changed_ns: int

    def stored_file(self) -> StoredFile:
        return StoredFile(self.name, self.size_bytes, str(self.modified_ns))


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


def _tag(found: os.stat_result) -> str:
    return str(found.st_mtime_ns)


@contextlib.contextmanager
def _replacing(path: str) -> Iterator[Path]:
    """A file to be written, which takes the place of `path` when that has gone well. Directories are made on the way."""
    whole = Path(_local(path))
    whole.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".aspired-", dir=whole.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        temporary.chmod(0o644)
        yield temporary
        temporary.replace(whole)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
