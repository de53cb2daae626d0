"""What every `Storage` owes to the source that looks at it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.core.errors import Aborted, NotFound
from cluster.storage.local_storage import LocalStorage
from cluster.storage.s3_storage import S3Storage
from cluster.storage.storage import Storage, WritableStorage
from tests.fakes.fake_storage import FakeStorage
from tests.fakes.s3_server import S3Server
from tests.fakes.s3rver_server import COMMAND, S3rverServer

_NUMBERS = itertools.count()


@dataclass
class Place:
    """A storage with a base path that holds versions 1 and 2, and the means to change them."""

    storage: Storage
    base_path: str
    change: Callable[[], None]  # writes to version 1
    delete: Callable[[], object]  # deletes version 1


def local(directory: Path) -> Place:
    for child in ("1", "2"):
        (directory / child).mkdir()
        (directory / child / "saved_model.pb").write_bytes(b"graph")

    def change() -> None:
        (directory / "1" / "more").write_bytes(b"data")

    def delete() -> None:
        (directory / "1" / "saved_model.pb").unlink()
        (directory / "1").rmdir()

    return Place(LocalStorage(), str(directory), change, delete)


def fake(_: Path) -> Place:
    storage = FakeStorage()
    storage.put("/models/m", "1", "one", size_bytes=5)
    storage.put("/models/m", "2", "two", size_bytes=5)
    return Place(
        storage,
        "/models/m",
        lambda: storage.put("/models/m", "1", "more", size_bytes=9),
        lambda: storage.remove("/models/m", "1"),
    )


def s3(server: S3Server | S3rverServer) -> Place:
    client, bucket = server.client(), f"models-{next(_NUMBERS)}"
    client.create_bucket(Bucket=bucket)

    def put(key: str, content: bytes) -> None:
        client.put_object(Bucket=bucket, Key=key, Body=content)

    put("m/1/saved_model.pb", b"graph")
    put("m/2/saved_model.pb", b"graph")
    return Place(
        S3Storage(server.client),
        f"s3://{bucket}/m",
        lambda: put("m/1/more", b"data"),
        lambda: client.delete_object(Bucket=bucket, Key="m/1/saved_model.pb"),
    )


@pytest.fixture(params=["local", "fake", "s3", "s3rver"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    match request.param:
        case "local":
            return local(tmp_path)
        case "fake":
            return fake(tmp_path)
        case _:
            return s3(request.getfixturevalue(f"{request.param}_server"))


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture(scope="module")
def s3rver_server() -> Iterator[S3rverServer]:
    if not COMMAND.exists():
        pytest.skip("s3rver is not installed")
    with S3rverServer() as server:
        yield server


def test_lists_what_lies_directly_under_a_base_path(place: Place) -> None:
    assert sorted(place.storage.children(place.base_path)) == ["1", "2"]


def test_gives_the_same_fingerprint_while_nothing_changes(place: Place) -> None:
    path = place.storage.join(place.base_path, "1")
    first, second = place.storage.tree(path), place.storage.tree(path)
    assert (first.fingerprint, first.size_bytes, first.entries) == (second.fingerprint, second.size_bytes, second.entries)
    assert first.size_bytes == 5


def test_gives_another_fingerprint_and_size_when_files_change(place: Place) -> None:
    path = place.storage.join(place.base_path, "1")
    before = place.storage.tree(path)
    place.change()
    after = place.storage.tree(path)
    assert after.fingerprint != before.fingerprint
    assert after.size_bytes == 9


def test_says_not_found_for_a_version_that_is_gone(place: Place) -> None:
    place.delete()
    assert list(place.storage.children(place.base_path)) == ["2"]
    with pytest.raises(NotFound):
        place.storage.tree(place.storage.join(place.base_path, "1"))


def test_says_not_found_for_a_missing_base_path(place: Place) -> None:
    with pytest.raises(NotFound):
        place.storage.children(place.base_path + "-other")


class TestWritable:
    @pytest.fixture
    def storage(self, place: Place) -> WritableStorage:
        if not isinstance(place.storage, WritableStorage):
            pytest.skip("it is only read")
        return place.storage

    def test_what_is_uploaded_is_read_back_in_parts(self, place: Place, storage: WritableStorage, tmp_path: Path) -> None:
        content = random.Random(1).randbytes(9 << 20)  # more than one part of an upload to S3
        (tmp_path / "data").write_bytes(content)
        version = storage.join(place.base_path, "3")
        sent: list[int] = []
        storage.upload(tmp_path / "data", storage.join(version, "variables/data"), sent.append)
        assert sum(sent) == len(content)
        (file,) = storage.tree(version).files
        assert (file.name, file.size_bytes) == ("variables/data", len(content))
        cuts = [0, 3, 5 << 20, len(content)]
        parts = [b"".join(storage.read_range(version, file, *cut)) for cut in itertools.pairwise(cuts)]
        assert b"".join(parts) == content

    def test_a_file_that_is_overwritten_is_another(self, place: Place, storage: WritableStorage) -> None:
        version = storage.join(place.base_path, "3")
        path = storage.join(version, "saved_model.pb")
        storage.write(path, b"one")
        before = storage.tree(version)
        storage.write(path, b"three")
        with pytest.raises(Aborted):
            list(storage.read_range(version, before.files[0], 0, 3))
        assert storage.read(path) == b"three"
        assert storage.tree(version).fingerprint != before.fingerprint

    def test_what_is_deleted_is_gone_and_what_was_gone_is_passed_over(self, place: Place, storage: WritableStorage) -> None:
        version = storage.join(place.base_path, "3")
        for name in ("saved_model.pb", "variables/index"):
            storage.write(storage.join(version, name), b"x")
        storage.delete(version, ["gone", "variables/index", "saved_model.pb"])
        with pytest.raises(NotFound):
            storage.tree(version)
        with pytest.raises(NotFound):
            storage.read(storage.join(version, "saved_model.pb"))
