"""What every `Storage` of real files owes to those who fetch them, and every `WritableStorage` to those who publish.

Each is asked over a socket, but for the local one. Files are put there by other means than the storage itself where there
are any.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
import pytest

from cluster.core.errors import Aborted, FailedPrecondition, NotFound, ResourceExhausted
from cluster.core.object_uri import ObjectUri
from cluster.storage import local_storage, object_storage, s3_storage
from cluster.storage.azure_storage import AzureStorage
from cluster.storage.google_storage import GoogleStorage
from cluster.storage.http_storage import HttpStorage
from cluster.storage.local_storage import LocalStorage
from cluster.storage.s3_storage import S3Storage
from cluster.storage.storage import Storage, StoredFile, WritableStorage
from cluster.storage.version_manifest import CLAIM_PREFIX
from tests.fakes.azure_server import azure_server
from tests.fakes.object_servers import (
    NO_AZURITE,
    azure_environment,
    azurite,
    azurite_command,
    google_environment,
    make_azure_container,
    webdav_server,
)
from tests.fakes.s3_server import S3Server

ODD_NAMES = (
    "a b",
    "a+b",
    "a%b",
    "a%20b",
    "a#b?c",
    "a~b*",
    "[x]{y}^|",
    "q\"<>'`",
    "=;&,:@$!",
    "ünï/çødé/名",
    "deep/er/and/deep/er/still/file",
    ".hidden",
    "variables/variables.data-00000-of-00001",
)
MANY = 1100

numbers = itertools.count()


@dataclass
class Place:
    """A storage with an empty base path, and the means to put files there and to delete them, by their relative names."""

    storage: Storage
    base_path: str
    put: Callable[[str, bytes], object]
    remove: Callable[[str], object]

    def path(self, child: str) -> str:
        return self.storage.join(self.base_path, child)

    def file(self, child: str, name: str) -> StoredFile:
        return next(file for file in self.storage.tree(self.path(child)).files if file.name == name)

    def fetch(self, child: str, file: StoredFile, start: int = 0, end: int | None = None) -> bytes:
        return b"".join(self.storage.read_range(self.path(child), file, start, file.size_bytes if end is None else end))

    @property
    def writable(self) -> WritableStorage:
        assert isinstance(self.storage, WritableStorage)
        return self.storage


def in_directory(storage: Storage, base_path: str, directory: Path) -> Place:
    def put(name: str, content: bytes) -> None:
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        known_ns = file.stat().st_mtime_ns if file.exists() else None
        file.write_bytes(content)
        if known_ns is not None:  # some web servers' tags know seconds only
            os.utime(file, ns=(known_ns + 10**9, known_ns + 10**9))

    def remove(name: str) -> None:
        (directory / name).unlink()
        with contextlib.suppress(OSError):
            (directory / name).parent.rmdir()

    directory.mkdir(parents=True, exist_ok=True)
    return Place(storage, base_path, put, remove)


@pytest.fixture
def local(tmp_path: Path) -> Place:
    return in_directory(LocalStorage(), str(tmp_path / "m"), tmp_path / "m")


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        server.client().create_bucket(Bucket="models")
        yield server


@pytest.fixture
def s3(s3_server: S3Server) -> Place:
    client, prefix = s3_server.client(), f"s3{next(numbers)}/m"
    return Place(
        S3Storage(s3_server.client),
        f"s3://models/{prefix}",
        lambda name, content: client.put_object(Bucket="models", Key=f"{prefix}/{name}", Body=content),
        lambda name: client.delete_object(Bucket="models", Key=f"{prefix}/{name}"),
    )


@pytest.fixture
def google(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Place:
    for name, value in google_environment(s3_server.url).items():
        monkeypatch.setenv(name, value)
    client, prefix = s3_server.client(), f"google{next(numbers)}/m"
    return Place(
        GoogleStorage(),
        f"gs://models/{prefix}",
        lambda name, content: client.put_object(Bucket="models", Key=f"{prefix}/{name}", Body=content),
        lambda name: client.delete_object(Bucket="models", Key=f"{prefix}/{name}"),
    )


@pytest.fixture(scope="module")
def azure_port() -> Iterator[int]:
    with azure_server() as port:
        make_azure_container(port, "models")
        yield port


@pytest.fixture(scope="module")
def azurite_port() -> Iterator[int]:
    if azurite_command() is None:
        pytest.skip(NO_AZURITE)
    with azurite() as port:
        make_azure_container(port, "models")
        yield port


@pytest.fixture
def azure(azure_port: int, monkeypatch: pytest.MonkeyPatch) -> Place:
    return in_azure(azure_port, monkeypatch)


@pytest.fixture
def azures_emulator(azurite_port: int, monkeypatch: pytest.MonkeyPatch) -> Place:
    return in_azure(azurite_port, monkeypatch)


def in_azure(port: int, monkeypatch: pytest.MonkeyPatch) -> Place:
    for name, value in azure_environment(port).items():
        monkeypatch.setenv(name, value)
    storage, prefix = AzureStorage(), f"azure{next(numbers)}/m"
    store: Any = storage.open(ObjectUri("models", ""))
    return Place(
        storage,
        f"az://models/{prefix}",
        lambda name, content: obstore.put(store, f"{prefix}/{name}", content),
        lambda name: obstore.delete(store, f"{prefix}/{name}"),
    )


@pytest.fixture(scope="module")
def webdav_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    root = tmp_path_factory.mktemp("webdav")
    with webdav_server(root) as port:
        yield root, port


@pytest.fixture
def webdav(webdav_root: tuple[Path, int]) -> Place:
    root, port = webdav_root
    name = f"of {next(numbers)}"
    return in_directory(HttpStorage(), f"http://127.0.0.1:{port}/{urllib.parse.quote(name)}/m", root / name / "m")


STORES = ("s3", "google", "azure", "azures_emulator", "webdav")
WRITABLE = ("local", "s3", "google", "azure", "azures_emulator")
BUCKETS = ("s3", "google", "azure", "azures_emulator")


@pytest.fixture(params=("local", *STORES))
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=WRITABLE)
def writable(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=BUCKETS)
def bucket(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


def test_a_prefix_of_another_name_is_not_its_directory(place: Place) -> None:
    place.put("1/graph", b"one")
    place.put("10/graph", b"ten")
    assert sorted(place.storage.children(place.base_path)) == ["1", "10"]
    assert [(file.name, file.size_bytes) for file in place.storage.tree(place.path("1")).files] == [("graph", 3)]


def test_files_lie_beside_versions(place: Place) -> None:
    place.put("1/graph", b"one")
    place.put("README", b"?")
    assert sorted(place.storage.children(place.base_path)) == ["1", "README"]


def test_odd_names_are_listed_and_read_as_they_are(place: Place) -> None:
    for name in ODD_NAMES:
        place.put(f"1/{name}", name.encode())
    files = place.storage.tree(place.path("1")).files
    assert [file.name for file in files] == sorted(ODD_NAMES)
    assert [place.fetch("1", file).decode() for file in files] == sorted(ODD_NAMES)


def test_reads_parts_of_a_file(place: Place) -> None:
    content = bytes(range(256)) * 10_000
    place.put("1/data", content)
    file = place.file("1", "data")
    assert place.fetch("1", file) == content
    for start, end in ((0, 1), (1_000_000, 2_560_000), (5, 5), (1, 2_000_001)):
        assert place.fetch("1", file, start, end) == content[start:end]


def test_an_empty_file_is_a_file(place: Place) -> None:
    place.put("1/empty", b"")
    place.put("1/graph", b"graph")
    file = place.file("1", "empty")
    assert (file.size_bytes, place.fetch("1", file)) == (0, b"")


@pytest.mark.parametrize("content", [b"other content", b"grapX"])
def test_a_file_that_has_changed_since_it_was_listed_is_not_read(place: Place, content: bytes) -> None:
    place.put("1/graph", b"graph")
    file = place.file("1", "graph")
    place.put("1/graph", content)
    for start, end in ((0, 5), (1, 3)):
        with pytest.raises(Aborted, match="1/graph has changed"):
            place.fetch("1", file, start, end)


def test_a_file_that_has_gone_since_it_was_listed_is_not_read(place: Place) -> None:
    place.put("1/graph", b"graph")
    place.put("1/other", b"")
    file = place.file("1", "graph")
    place.remove("1/graph")
    with pytest.raises((Aborted, NotFound), match="1/graph"):
        place.fetch("1", file)


def test_small_files_are_read_whole_and_large_ones_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (local_storage, object_storage, s3_storage):
        monkeypatch.setattr(module, "MAX_READ_BYTES", 1000)
    place.put("1/small", b"x" * 1000)
    place.put("1/large", b"x" * 1001)
    assert place.storage.read(place.storage.join(place.path("1"), "small")) == b"x" * 1000
    with pytest.raises(ResourceExhausted, match="1/large is larger"):
        place.storage.read(place.storage.join(place.path("1"), "large"))
    with pytest.raises(NotFound, match="1/none"):
        place.storage.read(place.storage.join(place.path("1"), "none"))


def test_what_is_not_there_is_not_found(store: Place) -> None:
    for look in (store.storage.children, store.storage.tree):
        with pytest.raises(NotFound, match="m/7"):
            look(store.path("7"))


def test_a_claim_does_not_change_the_fingerprint(place: Place) -> None:
    place.put("1/graph", b"graph")
    before = place.storage.tree(place.path("1"))
    place.put(f"1/{CLAIM_PREFIX}me", b"{}")
    after = place.storage.tree(place.path("1"))
    assert after.fingerprint == before.fingerprint
    assert len(after.files) == 2


def test_a_tree_that_is_new_never_looks_old(place: Place) -> None:
    place.put("1/graph", b"graph")
    age_s = place.storage.tree(place.path("1")).age_s
    assert age_s is None or 0 <= age_s < 60


def test_many_names_are_listed_in_full(place: Place) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: place.put(f"{number}/graph", b""), range(MANY)))
    assert sorted(map(int, place.storage.children(place.base_path))) == list(range(MANY))


def test_many_files_are_listed_in_full(place: Place) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: place.put(f"1/{number}", b"x"), range(MANY)))
    tree = place.storage.tree(place.path("1"))
    assert (len(tree.files), tree.size_bytes) == (MANY, MANY)


def test_is_used_from_several_threads_at_once(place: Place) -> None:
    for number in range(10):
        place.put(f"1/{number}", str(number).encode() * 100_000)
    files = place.storage.tree(place.path("1")).files
    with ThreadPoolExecutor(8) as threads:
        contents = list(threads.map(lambda file: place.fetch("1", file), files * 4))
    assert contents == [file.name.encode() * 100_000 for file in files * 4]


@pytest.mark.parametrize("kind", ["s3", "google"])
def test_marks_of_directories_are_no_files(kind: str, request: pytest.FixtureRequest) -> None:
    """As consoles leave them, and TensorFlow that saves straight to a bucket."""
    place: Place = request.getfixturevalue(kind)
    for mark in ("", "1/", "1/assets/", "1/variables/", "2/"):
        place.put(mark, b"")
    place.put("1/variables/data", b"data")
    place.put("1/graph", b"graph")
    place.put("1/really_empty", b"")
    assert sorted(place.storage.children(place.base_path)) == ["1", "2"]
    assert [file.name for file in place.storage.tree(place.path("1")).files] == ["graph", "really_empty", "variables/data"]
    with pytest.raises(NotFound):
        place.storage.tree(place.path("2"))


@pytest.mark.parametrize("kind", ["s3", "google"])
def test_unsafe_keys_are_passed_over(kind: str, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> None:
    place: Place = request.getfixturevalue(kind)
    place.put("1/graph", b"graph")
    place.put("1/back\\slash", b"x")
    for _ in range(2):
        assert [file.name for file in place.storage.tree(place.path("1")).files] == ["graph"]
    assert len([record for record in caplog.records if "no safe name" in record.message]) == 1


def test_a_bucket_that_is_not_there_is_not_taken_for_empty(bucket: Place) -> None:
    path = f"{bucket.base_path.partition('://')[0]}://none-there/m"
    for ask in (bucket.storage.children, bucket.storage.tree, bucket.storage.read):
        with pytest.raises(FailedPrecondition, match=r"no (bucket )?none-there: create it, or correct the path"):
            ask(path)


def test_what_is_written_is_read(writable: Place) -> None:
    for name in ("1/graph", *(f"1/odd/{name}" for name in ODD_NAMES)):
        path = writable.storage.join(writable.base_path, name)
        writable.writable.write(path, b"first")
        writable.writable.write(path, name.encode())
        assert writable.storage.read(path) == name.encode()
    assert [file.name for file in writable.storage.tree(writable.path("1")).files] == sorted(
        ["graph", *(f"odd/{name}" for name in ODD_NAMES)]
    )


@pytest.mark.parametrize("size_bytes", [0, 5, (8 << 20) + 1, 21_000_000])
def test_an_upload_carries_every_byte_and_tells_so(writable: Place, tmp_path: Path, size_bytes: int) -> None:
    local, sent = tmp_path / "data", list[int]()
    local.write_bytes(bytes(range(256)) * (size_bytes // 256) + b"x" * (size_bytes % 256))
    writable.writable.upload(local, writable.storage.join(writable.path("1"), "a b/data"), sent.append)
    assert sum(sent) == size_bytes
    file = writable.file("1", "a b/data")
    assert file.size_bytes == size_bytes
    assert writable.fetch("1", file) == local.read_bytes()


def test_an_upload_of_what_is_not_there_names_the_file(bucket: Place, tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="none: No such file"):
        bucket.writable.upload(tmp_path / "none", bucket.path("1/none"), lambda _: None)


def test_deletes_what_is_named_and_passes_over_what_is_gone(writable: Place) -> None:
    for name in ("1/a b", "1/keep", "1/sub/ü%20"):
        writable.put(name, b"x")
    writable.writable.delete(writable.path("1"), ["a b", "gone", "sub/ü%20"])
    assert [file.name for file in writable.storage.tree(writable.path("1")).files] == ["keep"]
    writable.writable.delete(writable.path("1"), ["keep"])
    with pytest.raises(NotFound):
        writable.storage.tree(writable.path("1"))
