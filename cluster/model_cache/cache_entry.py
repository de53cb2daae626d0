"""One version in the cache: a directory, and a lock beside it."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.model_cache.eviction import HeldVersion
from cluster.storage.storage import StoredFile

_LOCK_SUFFIX = ".lock"
_NOTES = ("complete", "journal")
_KEY = re.compile(r"[0-9a-f]{32}")
_READ_ONLY = 0o444
_BLOCK_BYTES = 512  # of st_blocks, on every file system


@dataclass(frozen=True, slots=True)
class _Note:
    """What an entry says of itself. `boot` is the boot of the machine within which it is to be believed; empty: any."""

    path: str
    fingerprint: str
    size_bytes: int
    part_bytes: int
    boot: str


class CacheEntry:
    """The directory of one version with one fingerprint, in the cache at `cache`. Whoever changes it holds `lock_path` alone.

    `files/` has the version's files. `journal` is there while it is fetched: a line that describes the fetch, then the number
    and the bytes of each part that has been written. `complete` is there once all are. Both are good across a crash of any
    process. That the files have reached the disk is known after `sync` only: until then `complete` counts for as long as the
    machine stays up, as the journal does always.
    """

    def __init__(self, cache: Path, path: str, fingerprint: str) -> None:
        self._path = path
        self._fingerprint = fingerprint
        self.key = hashlib.blake2b(f"{path}\0{fingerprint}".encode(), digest_size=16).hexdigest()
        self.directory = cache / self.key
        self.files = self.directory / "files"
        self.lock_path = lock_path(cache, self.key)
        self._complete, self._journal = (self.directory / name for name in _NOTES)

    @property
    def complete(self) -> bool:
        note = _note(self._complete)
        return note is not None and note.boot in ("", _boot())

    @property
    def synced(self) -> bool:
        note = _note(self._complete)
        return note is not None and not note.boot

    def touch(self) -> None:
        """It is being used now."""
        os.utime(self._complete)

    # -- while it is fetched

    def begin(self, size_bytes: int, part_bytes: int) -> frozenset[int]:
        """The numbers of the parts that are there from a fetch like this one that was cut off; what else is there goes."""
        note = _Note(self._path, self._fingerprint, size_bytes, part_bytes, _boot())
        if _note(self._journal) == note:
            return frozenset(self._parts())
        self.remove()
        self.directory.mkdir(mode=0o700)
        self._rewrite(note, {})
        return frozenset()

    def allocate(self, files: Iterable[StoredFile]) -> None:
        """Makes the files in their full sizes. Raises OSError, of ENOSPC or EDQUOT, when there is no room for them."""
        self.files.mkdir(exist_ok=True)
        for file in files:
            path = self.files / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.fstat(descriptor).st_size != file.size_bytes:
                    _reserve(descriptor, file.size_bytes)
            finally:
                os.close(descriptor)

    def open_journal(self) -> int:
        """A descriptor to `note_part` with."""
        return os.open(self._journal, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    @staticmethod
    def note_part(journal: int, number: int, size_bytes: int) -> None:
        os.write(journal, b"%d %d\n" % (number, size_bytes))

    def forget_parts(self, numbers: Collection[int]) -> None:
        """These are to be fetched again."""
        note = _note(self._journal)
        if note is not None:
            self._rewrite(note, {number: size for number, size in self._parts().items() if number not in numbers})

    def fetched(self) -> tuple[int, int]:
        """How many bytes are there, whoever fetches them, and of how many; 0 and 0 while that is not known."""
        note = _note(self._journal)
        return (sum(self._parts().values()), note.size_bytes) if note is not None else (0, 0)

    def allocated_bytes(self) -> int:
        """What it takes on the disk already."""
        return sum(path.stat().st_blocks for path in self.files.rglob("*")) * _BLOCK_BYTES

    def finish(self, names: Iterable[str]) -> None:
        """All of it is there."""
        for name in names:
            (self.files / name).chmod(_READ_ONLY)
        note = _note(self._journal)
        assert note is not None
        _write(self._complete, note)
        self._journal.unlink()

    def sync(self) -> None:
        """Has everything reach the disk; then the entry outlives a crash of the machine too."""
        for path in (*self.files.rglob("*"), self.files, self.directory):
            _fsync(path)
        note = _note(self._complete)
        if note is not None and note.boot:
            _write(self._complete, _Note(note.path, note.fingerprint, note.size_bytes, note.part_bytes, ""))
            _fsync(self.directory)

    def remove(self) -> None:
        remove_entry(self.directory)

    def _parts(self) -> dict[int, int]:
        try:
            lines = self._journal.read_bytes().split(b"\n")[1:]
        except FileNotFoundError:
            return {}
        # What follows the end of the last line is half a line.
        return {int(number): int(size) for number, size in (line.split() for line in lines[:-1])}

    def _rewrite(self, note: _Note, parts: Mapping[int, int]) -> None:
        _write(self._journal, note, "".join(f"{number} {size}\n" for number, size in parts.items()))


def lock_path(cache: Path, key: str) -> Path:
    return cache / (key + _LOCK_SUFFIX)


def entry_directories(cache: Path) -> list[Path]:
    """The directories of all entries; what else lies in the cache is none of ours."""
    return [path for path in cache.iterdir() if _KEY.fullmatch(path.name) and path.is_dir()]


def remove_entry(directory: Path) -> None:
    """Removes an entry, whosever it is, for who holds its lock alone."""
    # First what says that it is whole: the rest may take a while.
    for name in _NOTES:
        (directory / name).unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)


def held_version(directory: Path) -> HeldVersion | None:
    """An entry by its directory, whosever it is; None for what is left of one."""
    for name in _NOTES:
        note = _note(directory / name)
        if note is not None:
            with contextlib.suppress(FileNotFoundError):
                return HeldVersion(directory.name, note.size_bytes, (directory / name).stat().st_mtime)
    return None


@functools.cache
def _boot() -> str:
    """This boot of this machine; where that cannot be told, this process."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return uuid.uuid4().hex


def _note(path: Path) -> _Note | None:
    try:
        with open(path, encoding="utf-8") as file:
            return _Note(**json.loads(file.readline()))
    except (OSError, ValueError, TypeError):  # not there, or cut off when the machine went down
        return None


def _write(path: Path, note: _Note, more: str = "") -> None:
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(json.dumps(asdict(note)) + "\n" + more)
        if not note.boot:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)


def _reserve(descriptor: int, size_bytes: int) -> None:
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        os.ftruncate(descriptor, size_bytes)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
