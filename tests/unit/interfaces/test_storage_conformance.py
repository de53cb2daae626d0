"""What every `Storage` owes to the source that looks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.core.errors import NotFound
from cluster.storage.local_storage import LocalStorage
from cluster.storage.s3_storage import S3Storage
from cluster.storage.storage import Storage
from tests.fakes.fake_storage import FakeStorage
from tests.fakes.s3_server import S3Server


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


def s3(server: S3Server) -> Place:
    client, bucket = server.client(), "models"
    client.create_bucket(Bucket=bucket)
    for key in ("m/1/saved_model.pb", "m/2/saved_model.pb", "m/1/more"):
        client.delete_object(Bucket=bucket, Key=key)

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


@pytest.fixture(params=[local, fake, s3])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param is s3:
        return s3(request.getfixturevalue("s3_server"))
    made: Place = request.param(tmp_path)
    return made


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
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
