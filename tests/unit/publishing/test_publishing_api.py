"""`cluster.client`'s publishing, on a file system and on a real S3 protocol server."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from cluster import client
from cluster.client import (
    Aborted,
    AlreadyExists,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PublishProgress,
    Step,
    Unavailable,
    Unimplemented,
    VersionState,
)
from cluster.config.model_config import ModelConfig
from cluster.publishing.export import read_export
from cluster.publishing.publisher import publish_export, reserve
from cluster.publishing.remover import remove_versions
from cluster.sources.file_system_storage_path_source import FileSystemStoragePathSource
from cluster.storage.claim import Claim, Purpose
from cluster.storage.s3_storage import S3Storage
from cluster.storage.storages import Storages
from cluster.storage.version_manifest import CLAIM_PREFIX, MANIFEST_NAME, VersionManifest, parse_manifest
from tests.fakes.base_path import Place
from tests.fakes.exports import write_export
from tests.fakes.s3_server import free_port
from tests.fakes.status_server import StatusServer


def numbers(place: Place) -> list[int]:
    return [version.version for version in client.versions(place.base_path)]


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


class TestPublish:
    def test_everything_arrives_with_a_manifest_that_tells_it(self, place: Place, export: Path) -> None:
        publication = client.publish(export, place.base_path, annotations={"commit": "abc"})
        assert (publication.version, publication.path) == (1, f"{place.base_path}/1")
        assert (publication.files, list(publication.signatures)) == (5, ["serving_default"])
        assert place.names() == {f"1/{name}" for name in (*files_of(export), MANIFEST_NAME)}
        manifest = parse_manifest(Storages().read(f"{place.base_path}/1/{MANIFEST_NAME}"), "manifest")
        assert manifest.annotations == {"commit": "abc"}
        assert {file.name: file.sha256 for file in manifest.files} == {
            name: hashlib.sha256(content).hexdigest() for name, content in files_of(export).items()
        }

    def test_every_version_gets_the_next_number(self, place: Place, export: Path) -> None:
        assert [client.publish(export, place.base_path).version for _ in range(3)] == [1, 2, 3]
        place.put("00000007/saved_model.pb", b"by hand")
        assert client.publish(export, place.base_path).version == 8

    def test_a_number_may_be_asked_for_once(self, place: Place, export: Path) -> None:
        assert client.publish(export, place.base_path, version=20).version == 20
        before = place.names()
        with pytest.raises(AlreadyExists, match="/20 exists already: leave the number out"):
            client.publish(export, place.base_path, version=20)
        assert place.names() == before

    def test_a_number_is_refused_that_exists_in_another_spelling(self, place: Place, export: Path) -> None:
        place.put("007/saved_model.pb", b"by hand")
        with pytest.raises(AlreadyExists):
            client.publish(export, place.base_path, version=7)

    def test_progress_ends_with_everything(self, place: Place, export: Path) -> None:
        told: list[PublishProgress] = []
        publication = client.publish(export, place.base_path, progress=told.append)
        last = told[-1]
        assert (last.step, last.version) == (Step.UPLOADING, 1)
        assert (last.transfer.files_done, last.transfer.bytes_done) == (5, publication.size_bytes)

    def test_an_interrupt_leaves_nothing(self, place: Place, export: Path) -> None:
        def interrupt(progress: PublishProgress) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt) as caught:
            client.publish(export, place.base_path, progress=interrupt)
        assert caught.value.__notes__ == ["What was written of version 1 has been removed."]
        assert place.names() == set()
        assert client.publish(export, place.base_path).version == 1

    def test_an_export_that_changes_meanwhile_is_not_published(self, place: Place, export: Path) -> None:
        found = read_export(export)
        (export / "saved_model.pb").write_bytes(b"another")
        with pytest.raises(Aborted, match=r"saved_model\.pb changed while it was published"):
            publish_export(Storages(), found, place.base_path)
        assert place.names() == set()

    def test_who_removes_a_version_under_way_ends_its_publication(self, place: Place, export: Path) -> None:
        files = read_export(export).files
        reservation = reserve(Storages(), place.base_path, None, ())
        told = [reservation.upload(file, lambda moved: None) for file in files[:2]]
        client.unpublish(place.base_path, 1, force=True)
        if place.local:  # an object store says nothing, and takes them
            with pytest.raises(Aborted, match="somebody has removed"):
                reservation.upload(files[2], lambda moved: None)
        else:
            told += [reservation.upload(file, lambda moved: None) for file in files[2:]]
        with pytest.raises(Aborted, match="somebody has removed"):
            reservation.publish(VersionManifest(tuple(told)))
        reservation.withdraw()
        assert place.names() == {"aspired_unpublished_1"}

    def test_what_another_has_of_the_number_is_not_withdrawn(self, place: Place, export: Path) -> None:
        files = read_export(export).files
        sleeper = reserve(Storages(), place.base_path, 1, ())
        client.unpublish(place.base_path, 1, force=True)
        other = reserve(Storages(), place.base_path, 1, ())
        other.publish(VersionManifest(tuple(other.upload(file, lambda moved: None) for file in files)))
        with pytest.raises(Aborted, match="somebody has removed"):
            sleeper.publish(VersionManifest(()))
        sleeper.withdraw()
        (version,) = client.versions(place.base_path)
        assert (version.state, version.files) == (VersionState.PUBLISHED, 5)

    def test_nothing_is_written_for_an_export_that_is_refused(self, place: Place, tmp_path: Path) -> None:
        export = write_export(tmp_path / "bad")
        (export / "variables" / "variables.index").unlink()
        with pytest.raises(FailedPrecondition):
            client.publish(export, place.base_path)
        assert place.names() == set()

    def test_the_path_of_a_version_is_refused(self, place: Place, export: Path) -> None:
        with pytest.raises(InvalidArgument, match=rf"give {place.base_path}, and --version=3"):
            client.publish(export, f"{place.base_path}/3")

    def test_a_scheme_without_a_storage_is_refused(self, export: Path) -> None:
        with pytest.raises(Unimplemented, match="no storage can read ftp://"):
            client.publish(export, "ftp://host/m")


class TestReaders:
    def test_a_source_takes_what_is_published_and_nothing_that_is_not(self, place: Place, export: Path) -> None:
        seen: list[list[int]] = []
        source = FileSystemStoragePathSource([ModelConfig("m", place.base_path)], Storages(), settle_s=0.0)

        def poll() -> list[int]:
            return [version.id.version for version in source.poll("m", time.monotonic()) or ()]

        client.publish(export, place.base_path)
        client.publish(export, place.base_path, progress=lambda progress: seen.append(poll()))
        assert set(map(tuple, seen)) == {(1,)}
        assert poll() == [2]


class TestWaiting:
    def test_returns_once_the_server_has_it(self, place: Place, export: Path, model_server: StatusServer) -> None:
        states = iter([{}, {1: "LOADING"}, {1: "AVAILABLE"}])
        model_server.states = lambda: next(states)
        told: list[PublishProgress] = []
        publication = client.publish(export, place.base_path, server=model_server.url, progress=told.append)
        assert publication.version == 1
        assert told[-1].step is Step.WAITING
        assert set(model_server.asked) == {"/v1/models/m"} or "/v1/models/m/versions/1" in model_server.asked
        assert next(states, "all asked for") == "all asked for"

    def test_the_model_may_have_another_name_there(self, local_place: Place, export: Path, model_server: StatusServer) -> None:
        model_server.states = lambda: {1: "AVAILABLE"}
        client.publish(export, local_place.base_path, version=1, server=model_server.url, model="other")
        assert all(path.startswith("/v1/models/other") for path in model_server.asked)

    def test_a_failed_load_is_told_in_the_servers_words(
        self, local_place: Place, export: Path, model_server: StatusServer
    ) -> None:
        model_server.states = lambda: {4: "AVAILABLE", 5: "END"}
        model_server.errors = {5: "Op type not registered 'Frobnicate'"}
        with pytest.raises(FailedPrecondition) as caught:
            client.publish(export, local_place.base_path, version=5, server=model_server.url)
        assert caught.value.message.startswith(f"Version 5 is published in {local_place.base_path}/5, but {model_server.url}")
        assert "Op type not registered 'Frobnicate'" in caught.value.message
        assert numbers(local_place) == [5]

    def test_gives_up_after_its_time(self, local_place: Place, export: Path, model_server: StatusServer) -> None:
        model_server.states = lambda: {7: "AVAILABLE"}
        with pytest.raises(DeadlineExceeded, match="the server does not know the version"):
            client.publish(export, local_place.base_path, server=model_server.url, timeout_s=0.1)
        assert numbers(local_place) == [8]  # above what the server has known

    def test_a_server_that_is_not_there_is_noticed_before_anything_is_written(self, local_place: Place, export: Path) -> None:
        with pytest.raises(Unavailable):
            client.publish(export, local_place.base_path, server=f"http://127.0.0.1:{free_port()}")
        assert local_place.names() == set()


class TestVersions:
    def test_shows_every_state(self, place: Place, export: Path) -> None:
        for _ in range(2):
            client.publish(export, place.base_path, annotations={"commit": "abc"})
        place.delete("1/saved_model.pb")
        place.put("3/saved_model.pb", b"by hand")
        hidden = ".aspired-publishing-4" if place.local else "4"
        place.put(f"{hidden}/{CLAIM_PREFIX}x", Claim(Purpose.PUBLISH, "ann@host", "2026-01-02T03:04:05+00:00").to_json())
        leaving = ".aspired-unpublishing-5-x" if place.local else "5"
        place.put(f"{leaving}/{CLAIM_PREFIX}x", Claim(Purpose.UNPUBLISH, "ann@host").to_json())
        found = client.versions(place.base_path)
        assert [(version.version, version.state) for version in found] == [
            (5, VersionState.BEING_UNPUBLISHED),
            (4, VersionState.BEING_PUBLISHED),
            (3, VersionState.UNMANIFESTED),
            (2, VersionState.PUBLISHED),
            (1, VersionState.BROKEN),
        ]
        assert found[1].publisher == "ann@host"
        assert (found[3].files, found[3].annotations) == (5, {"commit": "abc"})
        assert found[4].reason == "saved_model.pb is missing"

    def test_a_base_path_that_is_not_there_is_an_error(self, place: Place) -> None:
        with pytest.raises(NotFound):
            client.versions(place.base_path)


class TestPull:
    def test_brings_the_newest_whole_version(self, place: Place, export: Path, tmp_path: Path) -> None:
        for _ in range(2):
            client.publish(export, place.base_path)
        place.put(f"{'.aspired-publishing-' if place.local else ''}3/{CLAIM_PREFIX}x", b"")
        pulled = client.pull(place.base_path, tmp_path / "pulled")
        assert (pulled.version, pulled.files, pulled.verified) == (2, 5, True)
        got = files_of(tmp_path / "pulled")
        del got[MANIFEST_NAME]
        assert got == files_of(export)

    def test_what_was_pulled_can_be_published_again(self, place: Place, export: Path, tmp_path: Path) -> None:
        client.publish(export, place.base_path)
        client.pull(place.base_path, tmp_path / "pulled", 1)
        assert client.publish(tmp_path / "pulled", place.base_path).files == 5

    @pytest.mark.parametrize("size_bytes", [20, 21])
    def test_a_file_that_is_not_what_was_published_brings_nothing(
        self, place: Place, export: Path, tmp_path: Path, size_bytes: int
    ) -> None:
        client.publish(export, place.base_path)
        place.put("1/variables/variables.data-00000-of-00001", b"w" * size_bytes)
        with pytest.raises((DataLoss, FailedPrecondition, NotFound)):
            client.pull(place.base_path, tmp_path / "deep" / "pulled")
        assert list(tmp_path.glob("deep/*")) == []

    def test_what_was_copied_by_hand_comes_unverified(self, place: Place, tmp_path: Path) -> None:
        place.put("3/saved_model.pb", b"by hand")
        pulled = client.pull(place.base_path, tmp_path / "pulled")
        assert (pulled.version, pulled.verified) == (3, False)
        assert files_of(tmp_path / "pulled") == {"saved_model.pb": b"by hand"}

    def test_says_what_there_is_instead(self, place: Place, export: Path, tmp_path: Path) -> None:
        client.publish(export, place.base_path)
        with pytest.raises(NotFound, match="has no version 9; there are: 1"):
            client.pull(place.base_path, tmp_path / "pulled", 9)
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "file").touch()
        with pytest.raises(AlreadyExists, match="exists already"):
            client.pull(place.base_path, tmp_path / "full")


class TestUnpublish:
    def test_deletes_every_file_and_never_gives_the_number_again(self, place: Place, export: Path) -> None:
        for _ in range(3):
            client.publish(export, place.base_path)
        assert client.unpublish(place.base_path, 2).versions == (2,)
        assert client.unpublish(place.base_path, [3], force=True).versions == (3,)
        assert numbers(place) == [1]
        assert {name.partition("/")[0] for name in place.names()} == {"1", "aspired_unpublished_3"}
        assert client.publish(export, place.base_path).version == 4
        client.unpublish(place.base_path, [4, 1], force=True)
        assert place.names() == {"aspired_unpublished_4"}
        assert client.publish(export, place.base_path).version == 5

    def test_removes_what_a_dead_publisher_left(self, place: Place, export: Path) -> None:
        hidden = ".aspired-publishing-1" if place.local else "1"
        place.put(f"{hidden}/{CLAIM_PREFIX}x", Claim(Purpose.PUBLISH, "ann@host", "2026-01-02T03:04:05+00:00").to_json())
        place.put(f"{hidden}/saved_model.pb", b"half")
        assert client.publish(export, place.base_path).version == 2
        client.unpublish(place.base_path, 1)
        assert numbers(place) == [2]
        assert not any(CLAIM_PREFIX in name for name in place.names())

    def test_a_deletion_that_was_cut_off_is_finished_by_another(self, place: Place, export: Path) -> None:
        client.publish(export, place.base_path)
        if place.local:
            Path(place.base_path, "1").rename(Path(place.base_path, ".aspired-unpublishing-1-x"))
        else:
            place.put(f"1/{CLAIM_PREFIX}x", Claim(Purpose.UNPUBLISH, "ann@host").to_json())
            place.delete(f"1/{MANIFEST_NAME}")
        assert client.versions(place.base_path)[0].state is VersionState.BEING_UNPUBLISHED
        client.unpublish(place.base_path, 1)
        assert place.names() == {"aspired_unpublished_1"}

    def test_what_the_server_has_is_kept(self, place: Place, export: Path, model_server: StatusServer) -> None:
        for _ in range(4):
            client.publish(export, place.base_path)
        model_server.states = lambda: {1: "END", 2: "AVAILABLE", 4: "LOADING"}
        with pytest.raises(FailedPrecondition, match="Version 2 is AVAILABLE on the server"):
            client.unpublish(place.base_path, [1, 2], server=model_server.url)
        assert numbers(place) == [4, 3, 2, 1]
        planned = client.unpublish(place.base_path, keep=1, server=model_server.url, dry_run=True)
        assert numbers(place) == [4, 3, 2, 1]
        assert client.unpublish(place.base_path, keep=1, server=model_server.url) == planned
        assert (planned.versions, planned.kept_served, planned.blind) == ((1, 3), (2,), False)
        assert numbers(place) == [4, 2]

    def test_publishing_keeps_so_many_and_what_is_served(self, place: Place, export: Path, model_server: StatusServer) -> None:
        for _ in range(3):
            client.publish(export, place.base_path)
        model_server.states = lambda: {1: "AVAILABLE", 4: "AVAILABLE"}
        publication = client.publish(export, place.base_path, version=4, keep=2, server=model_server.url)
        assert publication.removed is not None
        assert (publication.removed.versions, publication.removed.kept_served) == ((2,), (1,))
        assert numbers(place) == [4, 3, 1]

    def test_keeping_none_is_refused_before_anything_is_written(self, place: Place, export: Path) -> None:
        with pytest.raises(InvalidArgument):
            client.publish(export, place.base_path, keep=0)
        assert place.names() == set()


def test_readers_never_see_a_half_deleted_version_as_whole(s3_place: Place, export: Path) -> None:
    client.publish(export, s3_place.base_path)
    states: list[VersionState] = []

    class Watched(S3Storage):
        def delete(self, path: str, names: Iterable[str]) -> None:
            for name in names:
                super().delete(path, [name])
                states.extend(version.state for version in client.versions(s3_place.base_path))

    remove_versions(Watched(), s3_place.base_path, client.versions(s3_place.base_path))
    # After the manifest and each of five files; when the claim has gone there is no version any more.
    assert states == [VersionState.BEING_UNPUBLISHED] * 6
