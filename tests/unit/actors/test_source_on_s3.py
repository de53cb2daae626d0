"""What befalls an S3 server changes nothing that is aspired; it is told, and when it is over nobody has to do anything."""

from __future__ import annotations

import asyncio
import functools
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.actors.model_config_store import ModelConfigStore
from cluster.actors.source_actor import SourceActor
from cluster.config.model_config import ModelConfig, ModelServerConfig
from cluster.core import poll_schedule
from cluster.core.stream_report import StreamReport
from cluster.sources.file_system_storage_path_source import FileSystemStoragePathSource
from cluster.storage.s3_client import s3_client
from cluster.storage.s3_storage import S3Storage
from cluster.storage.version_manifest import CLAIM_PREFIX, MANIFEST_NAME, ManifestFile, VersionManifest
from tests.fakes.fake_actors import InMemoryCheckpointStore, LocalLink, started
from tests.fakes.listening_controller import ListeningController
from tests.fakes.s3_server import FaultyGate, S3Server, upload_directory

SECRET = "test-secret"
_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture(scope="module")
def client(server: S3Server) -> Any:
    return server.client()


@pytest.fixture
def gate(server: S3Server) -> Iterator[FaultyGate]:
    with FaultyGate(server.port) as gate:
        yield gate


@dataclass
class World:
    """A stream of one model in a bucket, which a source actor follows through a gate."""

    client: Any
    gate: FaultyGate
    bucket: str
    controller: ListeningController

    def publish(self, version: int) -> None:
        """A version with a manifest, which waits for no rest."""
        files = {"saved_model.pb": b"graph"}
        manifest = VersionManifest(tuple(ManifestFile(name, len(data), "0" * 64) for name, data in files.items()))
        for name, content in {**files, MANIFEST_NAME: manifest.to_json()}.items():
            self.put(f"m/{version}/{name}", content)

    def put(self, key: str, content: bytes = b"x") -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content)

    def delete_bucket(self) -> None:
        for entry in self.client.list_objects_v2(Bucket=self.bucket)["Contents"]:
            self.client.delete_object(Bucket=self.bucket, Key=entry["Key"])
        self.client.delete_bucket(Bucket=self.bucket)

    async def error(self, says: str) -> StreamReport:
        """The next error that says so, once it is told."""
        while says not in (report := (await self.controller.report())[1]).error:
            assert SECRET not in report.error
        return report

    async def recovers_with(self, version: int) -> None:
        assert await self.controller.list() == ("m", [version])
        while (report := (await self.controller.report())[1]) != StreamReport(listed=True):
            assert SECRET not in report.error


def client_of(gate: FaultyGate) -> Any:
    with pytest.MonkeyPatch.context() as patched:
        for name, value in gate.environment.items():
            patched.setenv(name, value)
        return s3_client(connect_timeout_s=2.0, read_timeout_s=1.0, attempts=1)


@pytest.fixture
async def world(client: Any, gate: FaultyGate, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(poll_schedule, "LONGEST_BACKOFF_S", 0.2)
    monkeypatch.setattr(poll_schedule, "LONGEST_THROTTLED_S", 0.2)
    world = World(client, gate, f"models-{next(_NUMBERS)}", ListeningController())
    client.create_bucket(Bucket=world.bucket)
    world.publish(1)
    models = ModelServerConfig((ModelConfig("m", f"s3://{world.bucket}/m"),))
    make_source = functools.partial(
        FileSystemStoragePathSource, storage=S3Storage(lambda: client_of(gate)), stopwatch=time.monotonic
    )
    store = ModelConfigStore(InMemoryCheckpointStore(), "models", models)
    actor = await started(SourceActor, make_source, store, LocalLink(world.controller), 0.05, None)
    assert await world.controller.list() == ("m", [1])
    yield world
    await actor.configure(ModelServerConfig())


def down(gate: FaultyGate) -> Callable[[], None]:
    gate.shut()
    return gate.open


def answering(status: int, code: str = "") -> Callable[[FaultyGate], Callable[[], None]]:
    def fault(gate: FaultyGate) -> Callable[[], None]:
        gate.status, gate.code = status, code

        def heal() -> None:
            gate.status, gate.code = None, ""

        return heal

    return fault


def stalled(gate: FaultyGate) -> Callable[[], None]:
    gate.stalled = True
    return lambda: setattr(gate, "stalled", False)


def cut(gate: FaultyGate) -> Callable[[], None]:
    gate.cut_after = 120
    return lambda: setattr(gate, "cut_after", None)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (down, "cannot be reached: Connection refused"),
        (stalled, "has stopped answering"),
        (cut, "broke off"),
        (answering(500), "answered 500"),
        (answering(503), "asks for fewer requests (SlowDown)"),
        (answering(403, "InvalidAccessKeyId"), "refuses the credentials: the access key is not known there"),
        (answering(403, "SignatureDoesNotMatch"), "refuses the credentials: the secret key does not belong"),
        (answering(400, "ExpiredToken"), "refuses the credentials: the credentials have expired"),
        (answering(403, "AccessDenied"), "s3:ListBucket on arn:aws:s3:::models-"),
        (answering(403, "RequestTimeTooSkewed"), "set the time of this machine"),
        (answering(404, "NoSuchBucket"), "has no bucket models-"),
    ],
    ids=["down", "stalled", "cut", "500", "slow down", "key", "secret", "expired", "denied", "skew", "no bucket"],
)
async def test_a_fault_is_told_changes_nothing_and_passes(
    world: World, fault: Callable[[FaultyGate], Callable[[], None]], says: str
) -> None:
    before = time.time()
    heal = fault(world.gate)
    report = await world.error(says)
    assert report.listed
    assert before <= report.error_since <= time.time()
    assert SECRET not in report.error
    assert world.controller.lists.empty(), "nothing has been taken away"
    world.publish(2)
    heal()
    await world.recovers_with(2)


async def test_slow_replies_are_waited_for(world: World) -> None:
    world.gate.bytes_per_s = 20_000
    world.publish(2)
    assert await world.controller.list() == ("m", [2])
    assert world.controller.reports.empty()


async def test_a_bucket_that_is_deleted_takes_no_version_with_it(world: World) -> None:
    world.delete_bucket()
    await world.error("has no bucket")
    assert world.controller.lists.empty()
    world.client.create_bucket(Bucket=world.bucket)
    world.publish(2)
    await world.recovers_with(2)


async def test_files_that_are_all_deleted_leave_a_base_path_that_is_not_there(world: World) -> None:
    for name in ("saved_model.pb", MANIFEST_NAME):
        world.client.delete_object(Bucket=world.bucket, Key=f"m/1/{name}")
    await world.error("Could not find base path")
    assert world.controller.lists.empty()
    world.publish(2)
    await world.recovers_with(2)


async def test_a_server_that_dies_and_comes_back_empty_is_filled_and_read_again(world: World, server: S3Server) -> None:
    server.kill()
    await world.error("S3 at")
    server.start()
    await world.error("has no bucket")
    world.client.create_bucket(Bucket=world.bucket)
    world.publish(2)
    await world.recovers_with(2)


async def test_a_version_that_is_being_published_is_seen_when_its_manifest_is_there(world: World) -> None:
    claim = f"m/2/{CLAIM_PREFIX}x"
    world.put(claim, b'{"publisher": "eve@host", "since": "noon"}')
    _, report = await world.controller.report()
    assert report == StreamReport(listed=True, waiting=("version 2: it is being published by eve@host since noon",))
    world.put("m/2/variables/variables.index")
    requests = world.gate.requests
    while world.gate.requests < requests + 20:  # ten polls and more
        assert world.controller.lists.empty()
        await asyncio.sleep(0.005)
    world.publish(2)
    assert await world.controller.list() == ("m", [2])
    world.client.delete_object(Bucket=world.bucket, Key=claim)
    assert (await world.controller.report())[1] == StreamReport(listed=True)


def test_a_poll_of_versions_at_rest_is_one_request_and_one_more_every_ten_seconds(client: Any, gate: FaultyGate) -> None:
    bucket = f"models-{next(_NUMBERS)}"
    world = World(client, gate, bucket, ListeningController())
    client.create_bucket(Bucket=bucket)
    for version in range(1, 6):
        world.publish(version)
    storage = S3Storage(lambda: client_of(gate))
    source = FileSystemStoragePathSource([ModelConfig("m", f"s3://{bucket}/m")], storage)
    source.poll("m", 0.0)
    assert gate.requests == 3, "the base path, the files of the version that is wanted, and its manifest"
    for second in range(1, 10):
        source.poll("m", float(second))
    assert gate.requests == 3 + 9
    source.poll("m", 10.0)
    assert gate.requests == 3 + 9 + 2


def test_an_upload_without_a_manifest_is_taken_once_it_is_whole_however_it_pauses(
    client: Any, gate: FaultyGate, tmp_path: Path
) -> None:
    """By a script that uploads file by file, with a pause of a minute before the second shard of the variables."""
    bucket = f"models-{next(_NUMBERS)}"
    client.create_bucket(Bucket=bucket)
    for name in ("saved_model.pb", "variables/v.data-00000-of-00002", "variables/v.data-00001-of-00002", "variables/v.index"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 1000)
    source = FileSystemStoragePathSource(
        [ModelConfig("m", f"s3://{bucket}/m")], S3Storage(lambda: client_of(gate)), settle_s=5.0
    )
    client.put_object(Bucket=bucket, Key="m/1/saved_model.pb", Body=b"x")
    assert source.poll("m", 0.0) is None, "it has just been written"
    now = 10.0
    assert [version.id.version for version in source.poll("m", now) or ()] == [1]
    for key in upload_directory(client, tmp_path, bucket, "m/2"):
        for _ in range(60 if "data-00000" in key else 4):
            now += 1.0
            assert [version.id.version for version in source.poll("m", now) or ()] == [1]
    assert [version.id.version for version in source.poll("m", now + 5.0) or ()] == [2]
