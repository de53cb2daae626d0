"""Buckets of Amazon S3, and of whatever else speaks its protocol."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from cluster.core.errors import (
    Aborted,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from cluster.core.s3_uri import S3Uri, parse_s3_uri
from cluster.storage.s3_client import s3_client
from cluster.storage.s3_error import SDK_ERRORS, storage_error
from cluster.storage.storage import MAX_READ_BYTES, StoredFile, Tree, WritableStorage, tree_of
from cluster.storage.version_manifest import is_safe_name

_PIECE_BYTES = 1 << 20
_CLIENT_LIFE_S = 10.0  # making one takes some 50 ms of a core
_DATE_RESOLUTION_S = 1.0

logger = logging.getLogger(__name__)


class S3Storage(WritableStorage):
    """`s3://bucket/prefix`, by `make_client`'s client.

    Keys that end in "/", and empty objects where other keys show a directory, are marks that tools leave for directories:
    they are no files. Keys that would not be safe as names of local files are passed over, with a warning. A refusal of the
    credentials has the next call look for others, as they may have been renewed in the SDK's files.
    """

    def __init__(self, make_client: Callable[[], Any] = s3_client) -> None:
        self._make_client = make_client
        self._made: Any = None
        self._made_at = 0.0
        self._making = threading.Lock()
        self._passed_over: set[str] = set()

    def children(self, path: str) -> Sequence[str]:
        uri = parse_s3_uri(path)
        names: list[str] = []
        found = False
        for page in self._pages(path, uri, Delimiter="/"):
            found = found or bool(page.get("Contents") or page.get("CommonPrefixes"))
            keys = [prefix["Prefix"].removesuffix("/") for prefix in page.get("CommonPrefixes", ())]
            keys += [entry["Key"] for entry in page.get("Contents", ()) if not entry["Key"].endswith("/")]
            names += [name for key in keys if (name := self._name(uri, key)) is not None]
        if not found:
            raise NotFound(f"{path}: bucket {uri.bucket} has no keys under {uri.folder or '/'}")
        return names

    def tree(self, path: str) -> Tree:
        uri = parse_s3_uri(path)
        files: dict[str, StoredFile] = {}
        directories: set[str] = set()
        newest: datetime | None = None
        looked: datetime | None = None
        for page in self._pages(path, uri):
            looked = looked or _date(page)
            for entry in page.get("Contents", ()):
                name = None if entry["Key"].endswith("/") else self._name(uri, entry["Key"])
                if name is not None:
                    files[name] = StoredFile(name, entry["Size"], entry["ETag"])
                    directories.update(_parents(name))
                    newest = max(newest or entry["LastModified"], entry["LastModified"])
        if not files:
            raise NotFound(f"{path}: bucket {uri.bucket} has no files under {uri.folder or '/'}")
        marks = [name for name in directories & files.keys() if files[name].size_bytes == 0]
        return tree_of((file for name, file in files.items() if name not in marks), _age_s(newest, looked))

    def read(self, path: str) -> bytes:
        uri = parse_s3_uri(path)
        with self._client(path, uri) as client:
            reply = client.get_object(Bucket=uri.bucket, Key=uri.key)
            with contextlib.closing(reply["Body"]) as body:
                if "ContentLength" not in reply:
                    raise _cut(path)
                if reply["ContentLength"] > MAX_READ_BYTES:
                    raise ResourceExhausted(f"{path} is larger than {MAX_READ_BYTES} bytes")
                content: bytes = body.read()
                return content

    def read_range(self, path: str, file: StoredFile, start: int, end: int) -> Iterator[bytes]:
        if start >= end:
            return
        whole = self.join(path, file.name)
        uri = parse_s3_uri(whole)
        with self._client(whole, uri) as client:
            try:
                reply = client.get_object(Bucket=uri.bucket, Key=uri.key, Range=f"bytes={start}-{end - 1}", IfMatch=file.tag)
            except client.exceptions.NoSuchKey as error:
                raise Aborted(f"{whole} is gone since it was listed") from error
            with contextlib.closing(reply["Body"]) as body:
                if "ETag" not in reply or "ContentLength" not in reply:
                    raise _cut(whole)
                if reply["ETag"] != file.tag:  # a store that does not know If-Match
                    raise Aborted(f"{whole} has changed since it was listed")
                if reply["ContentLength"] != end - start:
                    raise Unavailable(f"{whole}: asked for bytes {start} to {end}, S3 sends {reply['ContentLength']} bytes")
                while piece := body.read(_PIECE_BYTES):
                    start += len(piece)
                    yield piece
            if start < end:
                raise Unavailable(f"{whole} ends at {start} bytes")

    def write(self, path: str, content: bytes) -> None:
        uri = parse_s3_uri(path)
        with self._client(path, uri) as client:
            client.put_object(Bucket=uri.bucket, Key=uri.key, Body=content)

    def upload(self, local: Path, path: str, sent: Callable[[int], None]) -> None:
        uri = parse_s3_uri(path)
        with self._client(path, uri) as client:
            try:
                client.upload_file(str(local), uri.bucket, uri.key, Callback=sent)
            except OSError as error:
                raise FailedPrecondition(f"{local}: {error.strerror or error}") from error

    def delete(self, path: str, names: Iterable[str]) -> None:
        uri = parse_s3_uri(path)
        with self._client(path, uri) as client:
            for name in names:
                client.delete_object(Bucket=uri.bucket, Key=uri.folder + name)

    def _pages(self, path: str, uri: S3Uri, **options: str) -> Iterator[Mapping[str, Any]]:
        """The replies to one listing of everything under `uri`, up to a thousand names each."""
        token: dict[str, str] = {}
        with self._client(path, uri) as client:
            while True:
                page = client.list_objects_v2(Bucket=uri.bucket, Prefix=uri.folder, **options, **token)
                if "IsTruncated" not in page:
                    raise _cut(path)
                yield page
                if not page["IsTruncated"]:
                    return
                token = {"ContinuationToken": page["NextContinuationToken"]}

    def _name(self, uri: S3Uri, key: str) -> str | None:
        """The name of a key under `uri`; None for one that could lead elsewhere when it is a file's."""
        name = key[len(uri.folder) :]
        if is_safe_name(name):
            return name
        if key not in self._passed_over and len(self._passed_over) < 1000:
            self._passed_over.add(key)
            logger.warning("s3://%s: the key %r is passed over: it is no safe name of a file", uri.bucket, key)
        return None

    @contextlib.contextmanager
    def _client(self, path: str, uri: S3Uri) -> Iterator[Any]:
        """A client; turns what it and the making of it raise into an AspiredError about `path`."""
        try:
            client = self._current()
        except (*SDK_ERRORS, ValueError) as error:  # ValueError: of the endpoint
            raise storage_error(error, path, uri) from error
        try:
            yield client
        except SDK_ERRORS as error:
            refusal = storage_error(error, path, uri, client.meta.endpoint_url)
            if isinstance(refusal, Unauthenticated | PermissionDenied):
                self._give_up(client)
            raise refusal from error

    def _current(self) -> Any:
        with self._making:
            if self._made is None:
                self._made = self._make_client()
                self._made_at = time.monotonic()
            return self._made

    def _give_up(self, client: Any) -> None:
        with self._making:
            if self._made is client and time.monotonic() - self._made_at >= _CLIENT_LIFE_S:
                self._made = None


def _cut(path: str) -> Unavailable:
    """For a reply that was cut in its headers: it reads as a whole one that holds nothing, so none of it may be believed."""
    return Unavailable(f"{path}: the reply of S3 broke off in its headers")


def _parents(name: str) -> Iterator[str]:
    parts = name.split("/")[:-1]
    return ("/".join(parts[: length + 1]) for length in range(len(parts)))


def _date(reply: Mapping[str, Any]) -> datetime | None:
    """The store's own time when it answered."""
    told = reply["ResponseMetadata"]["HTTPHeaders"].get("date", "")
    with contextlib.suppress(ValueError):
        date = parsedate_to_datetime(told)
        return date if date.tzinfo is not None else None
    return None


def _age_s(newest: datetime | None, looked: datetime | None) -> float | None:
    """The time since the newest change, both by the store's clock; never more than it is, as both are told in seconds."""
    if newest is None or looked is None:
        return None
    return max(0.0, (looked - newest).total_seconds() - _DATE_RESOLUTION_S)
