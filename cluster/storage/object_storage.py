"""What the object stores that obstore speaks to have in common."""

from __future__ import annotations

import contextlib
import logging
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from cluster.core.errors import (
    Aborted,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from cluster.core.object_uri import ObjectUri
from cluster.storage.object_error import StoreAdvice, configuration_error, storage_error
from cluster.storage.storage import MAX_READ_BYTES, Storage, StoredFile, Tree, WritableStorage, tree_of
from cluster.storage.version_manifest import is_safe_name

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

_PIECE_BYTES = 1 << 20
_LISTED_AT_ONCE = 1000
_PART_BYTES = 8 << 20
_MOST_PARTS = 5000  # Google takes 10,000 at most, Azure 50,000
_UPLOAD_THREADS = 4

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request may take: to connect, between two pieces of a reply, and how often it is tried again.

    The library tries what fails for the moment (5xx, throttling, broken connections) again, with backoff and jitter. Few
    times: whoever asked knows better how long it is worth waiting.
    """

    connect_timeout_s: float = 5.0
    read_timeout_s: float = 20.0
    retries: int = 2
    retry_timeout_s: float = 15.0


class ObjectStorage(Storage):
    """Reads buckets by obstore, with one client for each bucket.

    A file's tag is its ETag, or its time of modification where the store gives none. Trees have no age: the library does not
    tell the store's own time, and the local clock says nothing of the store's; so a source watches each version for itself
    (see `FileSystemStoragePathSource`), and clocks that differ cannot make a copy under way look old.

    Keys that end in "/", and empty objects where other keys show a directory, are marks that tools leave for directories:
    they are no files. Keys that would not be safe as names of local files are passed over, with a warning. A refusal of the
    credentials has the next call look for others, as they may have been renewed in the files that hold them.
    """

    advice: ClassVar[StoreAdvice]

    def __init__(self, patience: Patience = Patience()) -> None:
        self._patience = patience
        self._stores: dict[tuple[str, str, str], ObjectStore] = {}
        self._opening = threading.Lock()
        self._passed_over: set[str] = set()

    @abstractmethod
    def uri(self, path: str) -> ObjectUri:
        """Raises InvalidArgument for a path that cannot be one."""

    @abstractmethod
    def open(self, uri: ObjectUri) -> ObjectStore:
        """A client for the bucket of `uri`, by the environment as it is now. May raise whatever obstore raises."""

    def children(self, path: str) -> Sequence[str]:
        import obstore

        uri = self.uri(path)
        with self._store(path, uri) as store:
            found = obstore.list_with_delimiter(store, uri.key or None)
        keys = [*found["common_prefixes"], *(entry["path"] for entry in found["objects"])]
        if not keys:
            raise NotFound(f"{path}: there is nothing under this path")
        return [name for key in dict.fromkeys(keys) if key != uri.key and (name := self._name(uri, key)) is not None]

    def tree(self, path: str) -> Tree:
        uri = self.uri(path)
        with self._store(path, uri) as store:
            files = {
                name: StoredFile(name, entry["size"], _tag(entry))
                for entry in self.list_files(store, uri)
                if entry["path"] != uri.key and (name := self._name(uri, entry["path"])) is not None
            }
            directories = {parent for name in files for parent in _parents(name)}
            for name in [name for name, file in files.items() if file.size_bytes == 0]:
                if name in directories or self._is_mark(store, uri.folder + name):
                    del files[name]
        if not files:
            raise NotFound(f"{path}: there are no files under this path")
        return tree_of(files.values(), age_s=None)

    def read(self, path: str) -> bytes:
        import obstore

        uri = self.uri(path)
        with self._store(path, uri) as store:
            found = obstore.get(store, uri.key)
            if found.meta["size"] > MAX_READ_BYTES:
                raise ResourceExhausted(f"{path} is larger than {MAX_READ_BYTES} bytes")
            return bytes(found.bytes())

    def read_range(self, path: str, file: StoredFile, start: int, end: int) -> Iterator[bytes]:
        import obstore

        if start >= end:
            return
        whole = self.join(path, file.name)
        uri = self.uri(whole)
        with self._store(whole, uri) as store:
            try:
                # Not every web server can give parts of a file; whole ones they all can.
                whole_file = (start, end) == (0, file.size_bytes)
                found = obstore.get(store, uri.key, options=None if whole_file else {"range": (start, end)})
            except FileNotFoundError as error:
                raise Aborted(f"{whole} is gone since it was listed") from error
            # Compared here and not by If-Match: not all stores know it, and none matches the weak tags of web servers.
            if found.meta["size"] != file.size_bytes or not self.is_tag_of(found.meta, file.tag):
                raise Aborted(f"{whole} has changed since it was listed")
            for piece in found.stream(_PIECE_BYTES):
                start += len(piece)
                yield bytes(piece)
        if start != end:
            raise Unavailable(f"{whole} ends at {start} bytes")

    def list_files(self, store: ObjectStore, uri: ObjectUri) -> Iterator[ObjectMeta]:
        """All objects under `uri`, at any depth."""
        import obstore

        for found in obstore.list(store, uri.key or None, chunk_size=_LISTED_AT_ONCE):
            yield from found

    def is_tag_of(self, found: ObjectMeta, tag: str) -> bool:
        """Whether an object that is about to be read is the one that was listed with `tag`."""
        return _tag(found) == tag

    def client_options(self, *, allow_http: bool = False) -> ClientConfig:
        # A reply of any length may take as long as it comes; one that stalls may not.
        return {
            "allow_http": allow_http,
            "connect_timeout": timedelta(seconds=self._patience.connect_timeout_s),
            "read_timeout": timedelta(seconds=self._patience.read_timeout_s),
            "timeout": timedelta(days=1),
            "user_agent": "aspired",
        }

    def retry_config(self) -> RetryConfig:
        return {
            "max_retries": self._patience.retries,
            "retry_timeout": timedelta(seconds=self._patience.retry_timeout_s),
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
        }

    @contextlib.contextmanager
    def _store(self, path: str, uri: ObjectUri) -> Iterator[ObjectStore]:
        """The client for `uri`; turns what it and the opening of it raise into an AspiredError about `path`."""
        from obstore.exceptions import BaseError

        with self._opening:
            store = self._stores.get(uri.place)
            if store is None:
                try:
                    store = self._stores[uri.place] = self.open(uri)
                except (BaseError, ValueError, OSError) as error:
                    raise configuration_error(error, path, self.advice) from error
        try:
            yield store
        except (BaseError, ValueError, FileNotFoundError) as error:
            refusal = storage_error(error, path, uri.bucket, self.advice)
            if isinstance(refusal, Unauthenticated | PermissionDenied):
                with self._opening:
                    if self._stores.get(uri.place) is store:
                        del self._stores[uri.place]
            raise refusal from error

    def _is_mark(self, store: ObjectStore, key: str) -> bool:
        """Whether an empty object has been listed without the "/" that its key ends in: then there is none without it."""
        import obstore

        try:
            obstore.head(store, key)
        except FileNotFoundError:
            return True
        return False

    def _name(self, uri: ObjectUri, key: str) -> str | None:
        """The name of a key under `uri`; None for one that could lead elsewhere when it is a file's."""
        name = key[len(uri.folder) :]
        if is_safe_name(name):
            return name
        if key not in self._passed_over and len(self._passed_over) < _LISTED_AT_ONCE:
            self._passed_over.add(key)
            logger.warning("%s: the key %r is passed over: it is no safe name of a file", uri.bucket, key)
        return None


class WritableObjectStorage(ObjectStorage, WritableStorage):
    """An object store that versions can be published to. Whole objects appear at once, or not at all."""

    def write(self, path: str, content: bytes) -> None:
        import obstore

        uri = self.uri(path)
        with self._store(path, uri) as store:
            obstore.put(store, uri.key, content, use_multipart=False)

    def upload(self, local: Path, path: str, sent: Callable[[int], None]) -> None:
        import obstore

        uri = self.uri(path)
        try:
            size_bytes = local.stat().st_size
            with local.open("rb") as file:
                if size_bytes <= _PART_BYTES:
                    self.write(path, file.read())
                    sent(size_bytes)
                    return
                part_bytes = max(_PART_BYTES, size_bytes // _MOST_PARTS)
                pieces = _pieces(iter(lambda: file.read(_PIECE_BYTES), b""), sent)
                with self._store(path, uri) as store:
                    obstore.put(store, uri.key, pieces, chunk_size=part_bytes, max_concurrency=_UPLOAD_THREADS)
        except OSError as error:
            raise FailedPrecondition(f"{local}: {error.strerror or error}") from error

    def delete(self, path: str, names: Iterable[str]) -> None:
        import obstore

        uri = self.uri(path)
        with self._store(path, uri) as store:
            for name in names:  # one by one: the library keeps no order among several
                with contextlib.suppress(FileNotFoundError):
                    obstore.delete(store, uri.folder + name)


def _pieces(pieces: Iterator[bytes], sent: Callable[[int], None]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        sent(len(piece))


def _tag(entry: ObjectMeta) -> str:
    """Listings and replies of the same store do not agree on quotes, nor on what makes a tag weak."""
    return (entry["e_tag"] or "").removeprefix("W/").strip('"') or entry["last_modified"].isoformat()


def _parents(name: str) -> Iterator[str]:
    parts = name.split("/")[:-1]
    return ("/".join(parts[: length + 1]) for length in range(len(parts)))
