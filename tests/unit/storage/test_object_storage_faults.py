"""Stores that fail, each behind a gate: every fault is an error of its own code, soon, and is over when it is over."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import obstore
import pytest

from cluster.config.model_config import ModelConfig
from cluster.core.errors import (
    AspiredError,
    Cancelled,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from cluster.core.object_uri import ObjectUri
from cluster.sources.file_system_storage_path_source import FileSystemStoragePathSource
from cluster.storage.azure_storage import AzureStorage
from cluster.storage.google_storage import GoogleStorage
from cluster.storage.http_storage import HttpStorage
from cluster.storage.object_storage import Patience
from cluster.storage.storage import Storage, WritableStorage
from tests.fakes.azure_server import azure_server
from tests.fakes.object_servers import azure_environment, google_environment, make_azure_container, webdav_server
from tests.fakes.s3_server import FaultyGate, S3Server

HASTY = Patience(connect_timeout_s=0.5, read_timeout_s=0.5, retries=1)
DATA = bytes(range(256)) * 20_000

numbers = itertools.count()


@dataclass
class Gated:
    """A store behind a gate, with version 1 of one file in it."""

    storage: Storage
    base_path: str
    gate: FaultyGate

    @property
    def version(self) -> str:
        return self.storage.join(self.base_path, "1")

    def read(self) -> bytes:
        file = self.storage.tree(self.version).files[0]
        return b"".join(self.storage.read_range(self.version, file, 0, file.size_bytes))


@pytest.fixture
def google(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gated]:
    client = s3_server.client()
    client.create_bucket(Bucket="google")
    prefix = f"{next(numbers)}/m"
    client.put_object(Bucket="google", Key=f"{prefix}/1/data", Body=DATA)
    with FaultyGate(s3_server.port) as gate:
        for name, value in google_environment(gate.url).items():
            monkeypatch.setenv(name, value)
        yield Gated(GoogleStorage(HASTY), f"gs://google/{prefix}", gate)


@pytest.fixture(scope="module")
def azure_port() -> Iterator[int]:
    with azure_server() as port:
        make_azure_container(port, "models")
        yield port


@pytest.fixture
def azure(azure_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gated]:
    with FaultyGate(azure_port) as gate:
        for name, value in azure_environment(gate.port).items():
            monkeypatch.setenv(name, value)
        storage, prefix = AzureStorage(HASTY), f"{next(numbers)}/m"
        obstore.put(storage.open(ObjectUri("models", "")), f"{prefix}/1/data", DATA)
        yield Gated(storage, f"az://models/{prefix}", gate)


@pytest.fixture
def webdav(tmp_path: Path) -> Iterator[Gated]:
    (tmp_path / "m/1").mkdir(parents=True)
    (tmp_path / "m/1/data").write_bytes(DATA)
    with webdav_server(tmp_path) as port, FaultyGate(port) as gate:
        yield Gated(HttpStorage(HASTY), f"{gate.url}/m", gate)


@pytest.fixture(params=["google", "azure", "webdav"])
def gated(request: pytest.FixtureRequest) -> Gated:
    found: Gated = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize(
    ("status", "expected"),
    [(500, Unavailable), (503, ResourceExhausted), (429, ResourceExhausted), (403, PermissionDenied), (401, Unauthenticated)],
)
def test_what_a_store_answers_is_told_until_it_answers_well(gated: Gated, status: int, expected: type[AspiredError]) -> None:
    assert gated.storage.children(gated.base_path) == ["1"]
    gated.gate.status = status
    for look in (gated.storage.children, gated.storage.tree, gated.storage.read):
        with pytest.raises(expected, match=f"^{gated.base_path}.*HTTP {status}"):
            look(gated.base_path)
    gated.gate.status = None
    assert gated.storage.children(gated.base_path) == ["1"]


def test_a_source_keeps_what_it_has_said_while_a_store_is_down(gated: Gated) -> None:
    source = FileSystemStoragePathSource([ModelConfig("m", gated.base_path)], gated.storage, settle_s=1.0)
    assert source.poll("m", 0.0) is None  # no age is known, so it is watched first
    emitted = source.poll("m", 1.5)
    assert emitted is not None
    assert [(version.id.version, version.path) for version in emitted] == [(1, gated.version)]
    gated.gate.shut()
    with pytest.raises(Unavailable):
        source.poll("m", 3.0)
    gated.gate.open()
    assert source.poll("m", 4.5) == emitted


@pytest.mark.parametrize("kind", ["google", "azure"])
def test_an_upload_that_is_stopped_leaves_nothing(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    gated: Gated = request.getfixturevalue(kind)
    assert isinstance(gated.storage, WritableStorage)
    (tmp_path / "large").write_bytes(bytes(32 << 20))
    told: list[int] = []

    def sent(count: int) -> None:
        told.append(count)
        if sum(told) > 10 << 20:
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        gated.storage.upload(tmp_path / "large", gated.storage.join(gated.base_path, "2/large"), sent)
    with pytest.raises(NotFound):
        gated.storage.tree(gated.storage.join(gated.base_path, "2"))


@pytest.mark.parametrize("kind", ["google", "azure"])
def test_an_upload_into_a_store_that_fails_is_told_and_done_again(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    gated: Gated = request.getfixturevalue(kind)
    assert isinstance(gated.storage, WritableStorage)
    path = gated.storage.join(gated.base_path, "2/data")
    (tmp_path / "data").write_bytes(DATA * 3)
    gated.gate.status = 500
    for write in (
        lambda: gated.storage.upload(tmp_path / "data", path, lambda _: None),
        lambda: gated.storage.write(path, b"x"),
        lambda: gated.storage.delete(gated.version, ["data"]),
    ):
        with pytest.raises(Unavailable, match="answered HTTP 500"):
            write()
    gated.gate.status = None
    gated.storage.upload(tmp_path / "data", path, lambda _: None)
    assert gated.storage.read(path) == DATA * 3


@pytest.mark.parametrize("kind", ["google", "azure"])
def test_a_bucket_that_is_deleted_is_not_taken_for_empty(kind: str, request: pytest.FixtureRequest) -> None:
    gated: Gated = request.getfixturevalue(kind)
    gated.gate.status = 404
    with pytest.raises(FailedPrecondition, match="create it, or correct the path"):
        gated.storage.children(gated.base_path)


def test_a_store_that_is_down_is_unavailable_until_it_is_back(gated: Gated) -> None:
    assert gated.read() == DATA
    gated.gate.shut()
    with pytest.raises(Unavailable, match="cannot be reached"):
        gated.storage.children(gated.base_path)
    gated.gate.open()
    assert gated.read() == DATA


def test_a_store_that_stalls_is_unavailable_until_it_goes_on(gated: Gated) -> None:
    gated.gate.stalled = True
    with pytest.raises(Unavailable, match="does not answer in time"):
        gated.storage.children(gated.base_path)
    gated.gate.stalled = False
    assert gated.read() == DATA


def test_a_read_that_stalls_midway_ends(gated: Gated) -> None:
    gated.gate.bytes_per_s = 2_000_000.0
    with ThreadPoolExecutor(1) as thread:
        before = gated.gate.passed
        reading = thread.submit(gated.read)
        while gated.gate.passed - before < len(DATA) // 4:
            time.sleep(0.01)
        gated.gate.stalled = True
        assert isinstance(reading.exception(), Unavailable)
    gated.gate.stalled, gated.gate.bytes_per_s = False, None
    assert gated.read() == DATA


def test_connections_that_break_lose_and_double_no_byte(gated: Gated) -> None:
    file = gated.storage.tree(gated.version).files[0]
    gated.gate.cut_after = len(DATA) // 2
    got = bytearray()
    with contextlib.suppress(Unavailable):
        for piece in gated.storage.read_range(gated.version, file, 0, file.size_bytes):
            got += piece
    assert got
    assert DATA.startswith(got)
    gated.gate.cut_after = None
    assert gated.read() == DATA


def test_a_reply_may_take_longer_than_the_wait_between_its_pieces(gated: Gated) -> None:
    gated.gate.bytes_per_s = len(DATA) / (2 * HASTY.read_timeout_s)
    assert gated.read() == DATA
