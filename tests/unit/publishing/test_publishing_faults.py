"""The way to the bucket breaks while a version is on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from cluster import client
from cluster.client import Unavailable, VersionState
from cluster.publishing import transfer
from cluster.publishing.export import read_export
from cluster.publishing.publisher import publish_export
from cluster.publishing.puller import pull_version
from cluster.publishing.remover import remove_versions
from cluster.storage.s3_storage import S3Storage
from cluster.storage.storage import StoredFile
from cluster.storage.storages import Storages
from tests.fakes.exports import write_export
from tests.fakes.s3_server import FaultyGate, S3Server
from tests.unit.publishing.conftest import Place


@pytest.fixture
def gate(s3_server: S3Server, s3_place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyGate]:
    """Everything that is published or pulled goes through it; `s3_place` looks around it."""
    monkeypatch.setattr(transfer, "_FIRST_PAUSE_S", 0.0)
    with FaultyGate(s3_server.port) as gate:
        monkeypatch.setenv("S3_ENDPOINT", gate.url)
        yield gate


class Stumbling(S3Storage):
    """Breaks the gate for the first attempt to move each file, and mends it afterwards."""

    def __init__(self, gate: FaultyGate, break_it: Callable[[FaultyGate], None]) -> None:
        super().__init__()
        self._gate, self._break = gate, break_it
        self.stumbled: set[str] = set()

    def upload(self, local: Path, path: str, sent: Callable[[int], None]) -> None:
        with self._stumble(path):
            super().upload(local, path, sent)

    def read_range(self, path: str, file: StoredFile, start: int, end: int) -> Iterator[bytes]:
        with self._stumble(file.name):
            yield from super().read_range(path, file, start, end)

    def _stumble(self, name: str) -> Stumble:
        return Stumble(self, name)


class Stumble:
    def __init__(self, storage: Stumbling, name: str) -> None:
        self.storage, self.name = storage, name

    def __enter__(self) -> None:
        if self.name not in self.storage.stumbled:
            self.storage.stumbled.add(self.name)
            self.storage._break(self.storage._gate)

    def __exit__(self, *_: object) -> None:
        gate = self.storage._gate
        gate.status = gate.cut_after = None


def answer_500(gate: FaultyGate) -> None:
    gate.status = 500


def answer_slow_down(gate: FaultyGate) -> None:
    gate.status = 503


def cut_replies(gate: FaultyGate) -> None:
    gate.cut_after = 1000


def storages_of(storage: S3Storage) -> Storages:
    return Storages({"s3": lambda: storage})


@pytest.mark.parametrize("fault", [answer_500, answer_slow_down])
def test_an_upload_that_fails_for_a_moment_is_tried_again(
    s3_place: Place, gate: FaultyGate, tmp_path: Path, fault: Callable[[FaultyGate], None]
) -> None:
    export = read_export(write_export(tmp_path / "export", assets=3))
    storage = Stumbling(gate, fault)
    publish_export(storages_of(storage), export, s3_place.base_path)
    assert len(storage.stumbled) == 6
    (version,) = client.versions(s3_place.base_path)
    assert (version.state, version.files) == (VersionState.PUBLISHED, 6)


def test_a_pull_whose_replies_are_cut_is_tried_again(s3_place: Place, gate: FaultyGate, tmp_path: Path) -> None:
    client.publish(write_export(tmp_path / "export", size_bytes=300_000), s3_place.base_path)
    storage = Stumbling(gate, cut_replies)
    pulled = pull_version(storage, s3_place.base_path, tmp_path / "pulled")
    assert pulled.verified
    assert (tmp_path / "pulled" / "variables" / "variables.data-00000-of-00001").read_bytes() == b"v" * 300_000


def test_when_the_bucket_is_gone_for_good_it_is_said_what_is_left(s3_place: Place, gate: FaultyGate, export: Path) -> None:
    class Cut(S3Storage):
        def upload(self, local: Path, path: str, sent: Callable[[int], None]) -> None:
            gate.shut()
            super().upload(local, path, sent)

    with pytest.raises(Unavailable) as caught:
        publish_export(storages_of(Cut()), read_export(export), s3_place.base_path)
    (note,) = caught.value.__notes__
    assert note.startswith("What was written of version 1 is still there (")
    assert note.endswith(f"remove it with: aspired unpublish {s3_place.base_path} 1")
    gate.open()
    (left,) = client.versions(s3_place.base_path)
    assert left.state is VersionState.BEING_PUBLISHED
    client.unpublish(s3_place.base_path, 1, force=True)
    assert s3_place.names() == {"aspired_unpublished_1"}


def test_a_deletion_that_breaks_off_leaves_nothing_that_looks_whole(s3_place: Place, gate: FaultyGate, export: Path) -> None:
    client.publish(export, s3_place.base_path)

    class Cut(S3Storage):
        def delete(self, path: str, names: Iterable[str]) -> None:
            super().delete(path, list(names)[:2])
            gate.shut()

    with pytest.raises(Unavailable):
        remove_versions(Cut(), s3_place.base_path, client.versions(s3_place.base_path))
    gate.open()
    (left,) = client.versions(s3_place.base_path)
    assert left.state is VersionState.BEING_UNPUBLISHED
    client.unpublish(s3_place.base_path, 1)
    assert client.versions(s3_place.base_path) == ()
