"""Brings the files of one version from a storage into a cache entry."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TypeVar

from cluster.core.errors import (
    Aborted,
    AspiredError,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    ResourceExhausted,
    Unavailable,
)
from cluster.core.fetch_progress import FetchProgress, ProgressMeter
from cluster.model_cache.cache_entry import CacheEntry
from cluster.model_cache.disk_error import disk_error
from cluster.model_cache.part import Part, files_to_fetch, parts_of
from cluster.storage.storage import Storage, StoredFile, Tree
from cluster.storage.version_manifest import MANIFEST_NAME, VersionManifest, parse_manifest

TELL_INTERVAL_S = 1.0
_HASH_PIECE_BYTES = 1 << 22  # each is a wait for the interpreter, which the fetching threads share
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0
_PASSING = (Unavailable, DeadlineExceeded, ResourceExhausted)
"""What a storage may say and be right again a moment later; ResourceExhausted is its throttling."""

Tell = Callable[[FetchProgress], None]
_T = TypeVar("_T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """`threads` parts of `part_bytes` at most are under way at once. A fetch fails when no byte has come for `patience_s`.

    From a server beside it, 4 to 16 threads and parts of 8 to 32 MB fetch alike; from afar, more threads hide the way there.
    What is under way is lost when the process is killed.
    """

    part_bytes: int = 8 << 20
    threads: int = 16
    patience_s: float = 60.0


@dataclass(slots=True)
class Patience:
    """How long one may still try again, for all threads of a fetch: until nothing has come for `limit_s`."""

    limit_s: float
    stopped: threading.Event = field(default_factory=threading.Event)
    last: float = field(default_factory=time.monotonic)
    trouble: str = ""

    def came(self) -> None:
        self.last, self.trouble = time.monotonic(), ""

    def pause(self, attempt: int, error: AspiredError) -> None:
        """Waits before another try: longer each time, and not as long as other threads. Raises `error` when it is enough."""
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt) * random.uniform(0.5, 1.0)
        if time.monotonic() + pause_s - self.last > self.limit_s or self.stopped.is_set():
            raise error
        if not self.trouble:
            logger.warning("%s; trying again", error)
        self.trouble = str(error)
        self.stopped.wait(pause_s)


class Fetch:
    """One fetch of the version at `path` into an entry that this process holds alone.

    Call order: `look`, which says how large it is; `reserve`, once there is room for it; `run`.
    """

    def __init__(self, storage: Storage, path: str, fingerprint: str, entry: CacheEntry, options: FetchOptions) -> None:
        self._storage = storage
        self._path = path
        self._fingerprint = fingerprint
        self._entry = entry
        self._options = options
        self._patience = Patience(options.patience_s)
        self._files: tuple[StoredFile, ...] = ()
        self._manifest: VersionManifest | None = None
        self._lock = threading.Lock()
        self._waiting: deque[int] = deque()
        self._done: set[int] = set()
        self._done_bytes = 0
        self._digests: dict[str, _FileDigest] = {}
        self.size_bytes = 0
        self.fetched_bytes = 0
        """What has come over the wire, in this fetch."""

    def look(self, tell: Tell) -> int:
        """Lists the version; its size in bytes. Raises Aborted when it is another by now than the one with this fingerprint."""
        tree = self._again(lambda: self._storage.tree(self._path), tell)
        if tree.fingerprint != self._fingerprint:
            raise Aborted(f"{self._path} has changed since it was found")
        self._files = files_to_fetch(self._path, tree.files)
        self._manifest = self._read_manifest(tree, tell)
        self.size_bytes = sum(file.size_bytes for file in self._files)
        return self.size_bytes

    def reserve(self) -> None:
        """Takes the room on the disk. Raises ResourceExhausted when there is too little."""
        with self._disk_errors():
            self._done = set(self._entry.begin(self.size_bytes, self._options.part_bytes))
            self._entry.allocate(self._files)

    def run(self, tell: Tell) -> None:
        """Fetches what is not there yet, and completes the entry.

        Raises what the storage raises; ResourceExhausted when the disk is full; DataLoss for a file that is not as the
        version's manifest says. What has been fetched until then stays, for another fetch to go on from.
        """
        with self._disk_errors():
            self._fill(tell)
            self._check_digests()
            self._entry.finish(file.name for file in self._files)

    # -- looking

    def _again(self, ask: Callable[[], _T], tell: Tell) -> _T:
        attempt = 0
        while True:
            try:
                return ask()
            except _PASSING as error:
                self._patience.pause(attempt, error)
                tell(FetchProgress(0, 0, trouble=str(error)))
                attempt += 1

    def _read_manifest(self, tree: Tree, tell: Tell) -> VersionManifest | None:
        file = next((file for file in tree.files if file.name == MANIFEST_NAME), None)
        if file is None:
            return None
        content = self._again(
            lambda: b"".join(self._storage.read_range(self._path, file, 0, file.size_bytes)),
            tell,
        )
        manifest = parse_manifest(content, self._storage.join(self._path, MANIFEST_NAME))
        missing = manifest.missing_from({file.name: file.size_bytes for file in self._files})
        if missing:
            raise FailedPrecondition(f"{self._path}: {missing}: its manifest lists it so")
        return manifest

    # -- fetching

    def _fill(self, tell: Tell) -> None:
        parts = parts_of(self._files, self._options.part_bytes)
        self._done_bytes = sum(parts[number].size_bytes for number in self._done)
        self._waiting = deque(number for number in range(len(parts)) if number not in self._done)
        self._digests = self._digests_of(parts)
        journal = self._entry.open_journal()
        try:
            with ThreadPoolExecutor(self._options.threads, thread_name_prefix="fetch") as executor:
                workers = [executor.submit(self._work, parts, journal) for _ in range(self._options.threads)]
                try:
                    self._watch(workers, tell)
                finally:
                    self._patience.stopped.set()
        finally:
            os.close(journal)

    def _watch(self, workers: Sequence[Future[None]], tell: Tell) -> None:
        """Tells how it goes until all workers are done, or raises what one of them has raised."""
        meter = ProgressMeter(time.monotonic())
        pending: set[Future[None]] = set(workers)
        while pending:
            tell(meter.read(self._done_bytes, self.size_bytes, time.monotonic(), self._patience.trouble))
            ended, pending = wait(pending, TELL_INTERVAL_S)
            for worker in ended:
                worker.result()

    def _work(self, parts: Sequence[Part], journal: int) -> None:
        while not self._patience.stopped.is_set():
            with self._lock:
                if not self._waiting:
                    return
                number = self._waiting.popleft()
            part = parts[number]
            if not self._fetch_part(part):
                return
            self._entry.note_part(journal, number, part.size_bytes)
            with self._lock:
                self._done.add(number)
            digest = self._digests.get(part.file.name)
            if digest is not None:
                digest.advance(self._done)

    def _fetch_part(self, part: Part) -> bool:
        """False when the fetch was stopped meanwhile."""
        descriptor = os.open(self._entry.files / part.file.name, os.O_WRONLY | os.O_CLOEXEC)
        try:
            position, attempt = part.start, 0
            while position < part.end:
                before = position
                try:
                    for piece in self._storage.read_range(self._path, part.file, position, part.end):
                        position += self._write(descriptor, piece, position)
                        if self._patience.stopped.is_set():
                            return False
                except _PASSING as error:
                    attempt = attempt + 1 if position == before else 0
                    self._patience.pause(attempt, error)
            return True
        finally:
            os.close(descriptor)

    def _write(self, descriptor: int, piece: bytes, position: int) -> int:
        view = memoryview(piece)
        while view:
            written = os.pwrite(descriptor, view, position)
            view, position = view[written:], position + written
        with self._lock:
            self._done_bytes += len(piece)
            self.fetched_bytes += len(piece)
        self._patience.came()
        return len(piece)

    # -- checking

    def _digests_of(self, parts: Sequence[Part]) -> dict[str, _FileDigest]:
        if self._manifest is None:
            return {}
        of_file: dict[str, list[int]] = {file.name: [] for file in self._manifest.files}
        for number, part in enumerate(parts):
            if part.file.name in of_file:
                of_file[part.file.name].append(number)
        return {name: _FileDigest(str(self._entry.files / name), parts, numbers) for name, numbers in of_file.items()}

    def _check_digests(self) -> None:
        if self._manifest is None:
            return
        wrong = []
        for file in self._manifest.files:
            digest = self._digests[file.name]
            digest.advance(self._done)
            if digest.hexdigest() != file.sha256:
                wrong.append(file.name)
                self._entry.forget_parts(digest.numbers)
        if wrong:
            raise DataLoss(
                f"{self._path}: {', '.join(sorted(wrong))}: not what the manifest's checksum says; publish the version again"
            )

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._done:
                self._entry.remove()  # what it has reserved may help others
            missing = self.size_bytes - self._done_bytes
            raise disk_error(error, self._entry.directory.parent, self._path, missing) from error


class _FileDigest:
    """The SHA-256 of one file, formed from its parts in their order as they come, by whichever thread brings one."""

    def __init__(self, path: str, parts: Sequence[Part], numbers: Sequence[int]) -> None:
        self.numbers = numbers
        self._path = path
        self._parts = parts
        self._next = 0
        self._digest = hashlib.sha256()
        self._hashing = threading.Lock()

    def advance(self, done: set[int]) -> None:
        """Takes in what has come and is next. At once if another thread is at it: that one, or the last call, will do it."""
        if not self._hashing.acquire(blocking=False):
            return
        try:
            while self._next < len(self.numbers) and self.numbers[self._next] in done:
                self._take_in(self._parts[self.numbers[self._next]])
                self._next += 1
        finally:
            self._hashing.release()

    def hexdigest(self) -> str:
        return self._digest.hexdigest()

    def _take_in(self, part: Part) -> None:
        piece = memoryview(bytearray(min(part.size_bytes, _HASH_PIECE_BYTES)))
        with open(self._path, "rb", buffering=0) as file:
            file.seek(part.start)
            left = part.size_bytes
            while left and (count := file.readinto(piece[:left])):
                self._digest.update(piece[:count])
                left -= count
