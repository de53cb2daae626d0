from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config.model_config import All, Latest, ModelConfig, Specific, VersionPolicy
from cluster.config.model_settings import ModelSettings, ServingSettings, Unbatched
from cluster.core.errors import (
    AspiredError,
    Code,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from cluster.sources.file_system_storage_path_source import FileSystemStoragePathSource
from cluster.storage.storage import StoredFile, Tree
from cluster.storage.version_manifest import CLAIM_PREFIX, MANIFEST_NAME, ManifestFile, VersionManifest
from tests.fakes.fake_storage import FakeStorage

BASE = "/models/m"
SETTLE_S = 1.5


@pytest.fixture
def storage() -> FakeStorage:
    storage = FakeStorage()
    storage.add_base_path(BASE)
    return storage


def source_of(storage: FakeStorage, policy: VersionPolicy | None = None, **options: bool) -> FileSystemStoragePathSource:
    model = ModelConfig("m", BASE, version_policy=policy or Latest())
    return FileSystemStoragePathSource([model], storage, settle_s=SETTLE_S, **options)


def polled(source: FileSystemStoragePathSource, now: float) -> dict[int, str] | None:
    """Version -> fingerprint of what is emitted."""
    versions = source.poll("m", now)
    return None if versions is None else {version.id.version: version.fingerprint for version in versions}


class TestPolicies:
    def test_latest_takes_the_largest_number(self, storage: FakeStorage) -> None:
        for child in ("9", "10", "2"):
            storage.put(BASE, child)
        assert polled(source_of(storage), 0) == {10: "whole"}

    def test_versions_carry_the_platform_and_the_settings_of_their_model(self, storage: FakeStorage) -> None:
        storage.put(BASE, "1")
        serving = ServingSettings(batching=Unbatched())
        model = ModelConfig("m", BASE, "hashmap", settings=ModelSettings(replicas=3, serving=serving))
        (version,) = FileSystemStoragePathSource([model], storage, settle_s=SETTLE_S).poll("m", 0) or ()
        assert (version.platform, version.settings) == ("hashmap", serving)

    def test_latest_takes_as_many_as_asked_for_and_emits_them_in_order(self, storage: FakeStorage) -> None:
        for child in ("9", "10", "2"):
            storage.put(BASE, child)
        assert list(polled(source_of(storage, Latest(2)), 0) or {}) == [9, 10]

    def test_latest_does_not_look_into_versions_it_does_not_want(self, storage: FakeStorage) -> None:
        for child in ("1", "2", "3"):
            storage.put(BASE, child)
        source_of(storage).poll("m", 0)
        assert storage.walks == {f"{BASE}/3": 1}

    def test_all_takes_every_version(self, storage: FakeStorage) -> None:
        for child in ("1", "2", "3"):
            storage.put(BASE, child)
        assert list(polled(source_of(storage, All()), 0) or {}) == [1, 2, 3]

    def test_specific_takes_those_listed_that_are_there_and_warns_of_others(
        self, storage: FakeStorage, caplog: pytest.LogCaptureFixture
    ) -> None:
        for child in ("1", "2", "3"):
            storage.put(BASE, child)
        assert list(polled(source_of(storage, Specific(frozenset({1, 3, 7}))), 0) or {}) == [1, 3]
        assert [record.getMessage() for record in caplog.records] == [f"versions [7] of model m are not in {BASE}"]

    def test_specific_with_nothing_listed_aspires_nothing_and_warns(
        self, storage: FakeStorage, caplog: pytest.LogCaptureFixture
    ) -> None:
        storage.put(BASE, "1")
        assert polled(source_of(storage, Specific(frozenset())), 0) == {}
        assert [record.getMessage() for record in caplog.records] == [
            "model m lists no specific versions: nothing of it is served"
        ]


class TestNames:
    def test_a_name_with_leading_zeros_is_its_number(self, storage: FakeStorage) -> None:
        storage.put(BASE, "00000123")
        (version,) = source_of(storage).poll("m", 0) or ()
        assert (version.id.name, version.id.version, version.path) == ("m", 123, f"{BASE}/00000123")

    @pytest.mark.parametrize("child", ["tmp", "1.5", "-1", "1_000", "0x10", "", "١", str(2**63), "9" * 5000])
    def test_a_name_that_is_no_version_is_ignored(self, storage: FakeStorage, child: str) -> None:
        storage.put(BASE, child)
        assert polled(source_of(storage, All()), 0) == {}

    def test_the_largest_version_is_the_largest_int64(self, storage: FakeStorage) -> None:
        storage.put(BASE, str(2**63 - 1))
        assert polled(source_of(storage), 0) == {2**63 - 1: "whole"}

    @pytest.mark.parametrize("policy", [Latest(), All(), Specific(frozenset({1}))])
    def test_of_two_directories_with_one_number_the_plainly_named_counts(
        self, storage: FakeStorage, policy: VersionPolicy, caplog: pytest.LogCaptureFixture
    ) -> None:
        for child in ("1", "001", "01"):
            storage.put(BASE, child, fingerprint=child)
        source = source_of(storage, policy)
        assert polled(source, 0) == {1: "1"}
        said = len(caplog.records)
        assert said == 2
        source.poll("m", 1)
        assert len(caplog.records) == said, "the same is not said at every poll"


class TestBasePath:
    def test_a_missing_base_path_raises_and_names_it(self, storage: FakeStorage) -> None:
        storage.remove(BASE)
        with pytest.raises(NotFound, match=f"^Could not find base path {BASE} for servable m$"):
            source_of(storage).poll("m", 0)

    def test_an_empty_base_path_aspires_nothing(self, storage: FakeStorage) -> None:
        storage.put(BASE, "1")
        source = source_of(storage)
        source.poll("m", 0)
        storage.remove(BASE, "1")
        assert polled(source, 1) == {}

    def test_an_unreadable_base_path_changes_nothing(self, storage: FakeStorage) -> None:
        storage.put(BASE, "1")
        source = source_of(storage)
        assert polled(source, 0) == {1: "whole"}
        storage.fail(BASE, Unavailable(f"{BASE}: Stale file handle"))
        with pytest.raises(Unavailable, match="Stale file handle"):
            source.poll("m", 1)
        storage.heal(BASE)
        assert polled(source, 2) == {1: "whole"}

    def test_versions_always_present_refuses_to_empty_a_stream(self, storage: FakeStorage) -> None:
        storage.put(BASE, "1")
        source = source_of(storage, servable_versions_always_present=True)
        source.poll("m", 0)
        storage.remove(BASE, "1")
        with pytest.raises(FailedPrecondition, match=r"^Refusing to unload all versions for Servable: m$"):
            source.poll("m", 1)

    def test_versions_always_present_misses_the_first_version(self, storage: FakeStorage) -> None:
        with pytest.raises(NotFound, match=f"^Unable to find a numerical version path for servable m at: {BASE}$"):
            source_of(storage, servable_versions_always_present=True).poll("m", 0)

    def test_a_base_path_without_versions_is_logged_once(self, storage: FakeStorage, caplog: pytest.LogCaptureFixture) -> None:
        source = source_of(storage)
        with caplog.at_level(logging.WARNING):
            source.poll("m", 0)
            source.poll("m", 1)
        assert [record.getMessage() for record in caplog.records] == [f"No versions of servable m found under base path {BASE}"]

    def test_a_stream_that_hangs_delays_no_other(self, storage: FakeStorage) -> None:
        storage.put("/models/slow", "1")
        storage.put("/models/quick", "1")
        models = [ModelConfig("slow", "/models/slow"), ModelConfig("quick", "/models/quick")]
        source = FileSystemStoragePathSource(models, storage)
        gate = storage.block("/models/slow")
        hung = threading.Thread(target=source.poll, args=("slow", 0.0))
        hung.start()
        try:
            assert source.poll("quick", 0.0)
            assert hung.is_alive()
        finally:
            gate.set()
            hung.join()


class TestSettling:
    def test_files_that_are_old_at_first_sight_are_emitted_at_once(self, storage: FakeStorage) -> None:
        storage.put(BASE, "1", age_s=SETTLE_S)
        assert polled(source_of(storage), 0) == {1: "whole"}

    @pytest.mark.parametrize("age_s", [0.0, -5.0, None])
    def test_files_that_are_fresh_or_of_unknown_age_must_be_seen_unchanged(
        self, storage: FakeStorage, age_s: float | None
    ) -> None:
        storage.put(BASE, "1", age_s=age_s)
        source = source_of(storage)
        assert polled(source, 10.0) is None
        assert polled(source, 11.4) is None
        assert polled(source, 11.5) == {1: "whole"}

    def test_a_copy_under_way_is_not_emitted_while_it_grows(self, storage: FakeStorage) -> None:
        source = source_of(storage)
        for second in range(20):
            storage.put(BASE, "1", fingerprint=f"part {second}", age_s=0.2)
            assert polled(source, second) is None
        assert polled(source, 19 + SETTLE_S) == {1: "part 19"}

    def test_a_growing_copy_with_old_times_is_not_emitted_once_it_was_seen_to_grow(self, storage: FakeStorage) -> None:
        storage.put(BASE, "1", fingerprint="part 0", age_s=0.2)
        source = source_of(storage)
        source.poll("m", 0)
        storage.put(BASE, "1", fingerprint="part 1", age_s=3600)
        assert polled(source, 1) is None

    def test_a_copy_rests_from_its_newest_change_on_not_from_the_look_that_found_it(self, storage: FakeStorage) -> None:
        storage.put(BASE, "1", fingerprint="part", age_s=0.2)
        source = source_of(storage)
        assert polled(source, 10.0) is None
        storage.put(BASE, "1", age_s=0.7)
        assert polled(source, 11.0) is None
        assert source.due("m", 11.0) == pytest.approx(10.3 + SETTLE_S)
        assert polled(source, 10.4 + SETTLE_S) == {1: "whole"}

    def test_times_that_contradict_what_was_seen_are_not_believed(self, storage: FakeStorage) -> None:
        storage.put(BASE, "1", fingerprint="part", age_s=0.2)
        source = source_of(storage)
        source.poll("m", 10.0)
        storage.put(BASE, "1", age_s=1.2)  # yet it has changed within the last second
        source.poll("m", 11.0)
        assert source.due("m", 11.0) == 11.0 + SETTLE_S

    def test_nothing_is_due_once_all_that_the_policy_wants_has_settled(self, storage: FakeStorage) -> None:
        storage.put(BASE, "1", age_s=0)
        source = source_of(storage)
        source.poll("m", 0)
        storage.put(BASE, "2")
        assert polled(source, 1.0) == {2: "whole"}
        assert source.due("m", 1.0) == SETTLE_S
        assert polled(source, SETTLE_S) == {2: "whole"}
        assert source.due("m", SETTLE_S) is None

    def test_an_unsettled_newest_version_does_not_push_out_the_older(self, storage: FakeStorage) -> None:
        storage.put(BASE, "1")
        source = source_of(storage)
        assert polled(source, 0) == {1: "whole"}
        storage.put(BASE, "2", age_s=0)
        assert polled(source, 1) == {1: "whole"}
        assert polled(source, 1 + SETTLE_S) == {2: "whole"}

    def test_an_older_version_is_chosen_at_start_while_the_newest_is_unsettled(self, storage: FakeStorage) -> None:
        storage.put(BASE, "1")
        storage.put(BASE, "2", age_s=0)
        source = source_of(storage)
        assert polled(source, 0) == {1: "whole"}
        assert polled(source, SETTLE_S) == {2: "whole"}

    def test_a_version_deleted_before_its_successor_settles_goes_on_being_served(self, storage: FakeStorage) -> None:
        storage.put(BASE, "1")
        source = source_of(storage)
        source.poll("m", 0)
        storage.remove(BASE, "1")
        storage.put(BASE, "2", age_s=0)
        assert polled(source, 1) is None
        assert polled(source, 1 + SETTLE_S) == {2: "whole"}

    def test_an_emitted_version_stays_as_it_was_until_its_changed_files_settle(self, storage: FakeStorage) -> None:
        storage.put(BASE, "1", fingerprint="broken")
        source = source_of(storage)
        assert polled(source, 0) == {1: "broken"}
        storage.put(BASE, "1", fingerprint="repaired", age_s=0)
        assert polled(source, 1) == {1: "broken"}
        assert polled(source, 1 + SETTLE_S) == {1: "repaired"}

    def test_an_emitted_version_whose_files_never_rest_stays_as_it_was(self, storage: FakeStorage) -> None:
        storage.put(BASE, "1", fingerprint="first")
        source = source_of(storage)
        source.poll("m", 0)
        for second in range(1, 10):
            storage.put(BASE, "1", fingerprint=f"{second}", age_s=0)
            assert polled(source, second) == {1: "first"}

    def test_an_empty_version_directory_settles_too_and_heals_by_a_new_fingerprint(self, storage: FakeStorage) -> None:
        storage.put(BASE, "1", fingerprint="empty", age_s=0, size_bytes=0, entries=1)
        source = source_of(storage)
        assert polled(source, 0) is None
        assert polled(source, 2) == {1: "empty"}
        storage.put(BASE, "1", fingerprint="whole", age_s=0)
        assert polled(source, 3) == {1: "empty"}
        assert polled(source, 5) == {1: "whole"}

    def test_a_version_deleted_during_the_poll_is_left_out(self, storage: FakeStorage) -> None:
        storage.put(BASE, "1")
        storage.put(BASE, "2")
        storage.vanish_when_walked(BASE, "2")
        assert polled(source_of(storage), 0) == {1: "whole"}

    def test_a_directory_that_takes_over_a_number_must_settle_first(self, storage: FakeStorage) -> None:
        storage.put(BASE, "01", fingerprint="old")
        source = source_of(storage)
        assert polled(source, 0) == {1: "old"}
        storage.put(BASE, "1", fingerprint="new", age_s=0)
        assert polled(source, 1) == {1: "old"}
        assert polled(source, 1 + SETTLE_S) == {1: "new"}


class TestUnreadableVersions:
    def test_a_new_version_that_stays_unreadable_is_emitted_with_its_error_beside_the_older(self, storage: FakeStorage) -> None:
        storage.put(BASE, "1")
        storage.put(BASE, "2")
        storage.fail(f"{BASE}/2", PermissionDenied(f"{BASE}/2: Permission denied"))
        source = source_of(storage)
        assert polled(source, 0) == {1: "whole"}
        good, bad = source.poll("m", SETTLE_S) or ()
        assert good.status.ok
        assert (bad.id.version, bad.status.code, bad.status.message) == (
            2,
            Code.PERMISSION_DENIED,
            f"{BASE}/2: Permission denied",
        )
        storage.heal(f"{BASE}/2")
        source.poll("m", 10)
        assert polled(source, 10 + SETTLE_S) == {2: "whole"}

    def test_an_emitted_version_survives_a_storage_that_stumbles(self, storage: FakeStorage) -> None:
        storage.put(BASE, "1", entries=0)
        source = source_of(storage)
        source.poll("m", 0)
        storage.fail(f"{BASE}/1", Unavailable("input/output error"))
        for second in range(1, 10):
            (version,) = source.poll("m", second) or ()
            assert version.status.ok
            assert version.fingerprint == "whole"


REMOTE = "s3://models/m"
FILES = {"saved_model.pb": 5, "variables/x": 7}


def manifest_of(files: Mapping[str, int]) -> bytes:
    return VersionManifest(tuple(ManifestFile(name, size, "0" * 64) for name, size in files.items())).to_json()


@pytest.mark.parametrize("base", [BASE, REMOTE], ids=["local", "remote"])
class TestManifests:
    """Under the same rule wherever they lie."""

    @pytest.fixture
    def storage(self, storage: FakeStorage, base: str) -> FakeStorage:
        storage.put(base, "1")
        storage.put_file(f"{base}/2/{MANIFEST_NAME}", manifest_of(FILES))
        return storage

    @pytest.fixture
    def source(self, storage: FakeStorage, base: str) -> FileSystemStoragePathSource:
        source = FileSystemStoragePathSource([ModelConfig("m", base)], storage, settle_s=SETTLE_S)
        assert polled(source, 0) == {1: "whole"}
        return source

    def publish(self, storage: FakeStorage, base: str, fingerprint: str = "new", **changed: int) -> None:
        storage.put(base, "2", fingerprint, age_s=0, files={MANIFEST_NAME: 300, **FILES, **changed})

    def test_a_version_that_is_whole_by_its_manifest_waits_for_no_rest(
        self, storage: FakeStorage, source: FileSystemStoragePathSource, base: str
    ) -> None:
        self.publish(storage, base)
        assert polled(source, 1) == {2: "new"}
        assert list(source.waiting("m")) == []
        assert source.due("m", 1) is None

    def test_a_version_is_not_served_before_the_last_file_and_then_at_once(
        self, storage: FakeStorage, source: FileSystemStoragePathSource, base: str
    ) -> None:
        self.publish(storage, base, "part", **{"saved_model.pb": 4})
        for second in range(1, 20):
            assert polled(source, second) == {1: "whole"}
            assert source.waiting("m") == ("version 2: saved_model.pb has 4 bytes, not 5",)
            assert source.due("m", second) is None, "time alone does not help"
        self.publish(storage, base, "all")
        assert polled(source, 20) == {2: "all"}
        assert source.waiting("m") == ()

    def test_a_manifest_is_read_once_until_it_changes(
        self, storage: FakeStorage, source: FileSystemStoragePathSource, base: str
    ) -> None:
        self.publish(storage, base)
        for second in range(1, 40):
            source.poll("m", second)
        assert storage.reads == {f"{base}/2/{MANIFEST_NAME}": 1}

    def test_files_that_change_under_an_old_manifest_must_come_to_rest(
        self, storage: FakeStorage, source: FileSystemStoragePathSource, base: str
    ) -> None:
        files = {MANIFEST_NAME: 300, **FILES}
        storage.put(base, "2", "old", files=files)
        assert polled(source, 1) == {2: "old"}
        stored = [StoredFile(name, size, "old") for name, size in files.items()]
        storage.put_tree(base, "2", Tree("overwritten in part", 12, 3, 0.0, tuple(stored)))
        assert polled(source, 20) == {2: "old"}
        assert polled(source, 20 + SETTLE_S) == {2: "overwritten in part"}

    def test_a_version_published_again_with_a_new_manifest_is_emitted_at_once(
        self, storage: FakeStorage, source: FileSystemStoragePathSource, base: str
    ) -> None:
        self.publish(storage, base, "old")
        assert polled(source, 1) == {2: "old"}
        self.publish(storage, base, "new")
        assert polled(source, 20) == {2: "new"}

    def test_a_broken_manifest_is_shown_and_never_served_until_it_is_mended(
        self, storage: FakeStorage, source: FileSystemStoragePathSource, base: str
    ) -> None:
        storage.put_file(f"{base}/2/{MANIFEST_NAME}", b"{")
        self.publish(storage, base, "broken")
        for second in range(1, 5):
            source.poll("m", second)
        one, two = source.poll("m", 5) or ()
        assert one.status.ok
        assert (two.id.version, two.status.code) == (2, Code.DATA_LOSS)
        assert storage.reads == {f"{base}/2/{MANIFEST_NAME}": 1}
        storage.put_file(f"{base}/2/{MANIFEST_NAME}", manifest_of(FILES))
        self.publish(storage, base, "mended")
        assert polled(source, 6) == {2: "mended"}

    def test_what_is_served_outlives_a_manifest_that_breaks(
        self, storage: FakeStorage, source: FileSystemStoragePathSource, base: str
    ) -> None:
        self.publish(storage, base, "good")
        assert polled(source, 1) == {2: "good"}
        storage.put_file(f"{base}/2/{MANIFEST_NAME}", b"{")
        self.publish(storage, base, "broken")
        for second in (20, 30, 40):
            assert polled(source, second) == {2: "good"}
        assert "is not a manifest" in source.waiting("m")[0]

    def test_a_manifest_too_large_to_be_one_is_not_read(
        self, storage: FakeStorage, source: FileSystemStoragePathSource, base: str
    ) -> None:
        self.publish(storage, base, **{MANIFEST_NAME: 1 << 40})
        source.poll("m", 1)
        _, two = source.poll("m", 5) or ()
        assert two.status.code is Code.DATA_LOSS
        assert storage.reads == {}

    def test_a_manifest_that_is_gone_when_it_is_read_is_looked_for_again(
        self, storage: FakeStorage, source: FileSystemStoragePathSource, base: str
    ) -> None:
        storage.put_file(f"{base}/3/{MANIFEST_NAME}", manifest_of({"x": 1}))
        storage.put(base, "4", "torn", files={MANIFEST_NAME: 300, "x": 1})
        assert polled(source, 1) == {1: "whole"}
        assert source.waiting("m") == (f"version 4: {MANIFEST_NAME} was there and is gone",)

    def test_a_claim_without_a_manifest_is_never_at_rest_and_its_owner_is_named(
        self, storage: FakeStorage, source: FileSystemStoragePathSource, base: str
    ) -> None:
        claim = f"{CLAIM_PREFIX}x"
        storage.put_file(f"{base}/2/{claim}", b'{"publisher": "eve@host", "since": "noon"}')
        storage.put(base, "2", "claimed", files={claim: 50, "saved_model.pb": 5})
        for second in range(1, 60):
            assert polled(source, second) == {1: "whole"}
        assert source.waiting("m") == ("version 2: it is being published by eve@host since noon",)
        assert storage.reads == {f"{base}/2/{claim}": 1}
        self.publish(storage, base)
        assert polled(source, 60) == {2: "new"}

    def test_a_checkpoint_without_a_shard_is_not_at_rest(
        self, storage: FakeStorage, source: FileSystemStoragePathSource, base: str
    ) -> None:
        names = {"saved_model.pb": 5, "variables/variables.index": 7}
        storage.put(base, "2", "part", files=names)
        for second in range(1, 60):
            assert polled(source, second) == {1: "whole"}
        assert source.waiting("m") == ("version 2: variables/variables.data-00000-of-00001 is missing",)
        storage.put(base, "2", "all", age_s=0, files={**names, "variables/variables.data-00000-of-00001": 9})
        assert polled(source, 60) == {1: "whole"}
        assert source.waiting("m") == ("version 2: its files have not been still for 1.5 s yet",)
        assert polled(source, 60 + SETTLE_S) == {2: "all"}


class TestObjectStores:
    @pytest.fixture
    def storage(self, storage: FakeStorage) -> FakeStorage:
        storage.put(REMOTE, "1")
        storage.put(REMOTE, "2")
        return storage

    @pytest.fixture
    def source(self, storage: FakeStorage) -> FileSystemStoragePathSource:
        return FileSystemStoragePathSource([ModelConfig("m", REMOTE)], storage, settle_s=SETTLE_S)

    def test_a_poll_is_one_listing_and_a_version_at_rest_is_looked_at_every_ten_seconds(
        self, storage: FakeStorage, source: FileSystemStoragePathSource
    ) -> None:
        for second in range(60):
            source.poll("m", second)
        assert storage.listings == {REMOTE: 60}
        assert storage.walks == {f"{REMOTE}/2": 6}, "and what the policy does not want, never"

    def test_a_version_that_is_overwritten_is_noticed_within_ten_seconds(
        self, storage: FakeStorage, source: FileSystemStoragePathSource
    ) -> None:
        source.poll("m", 0)
        storage.put(REMOTE, "2", "overwritten")
        assert polled(source, 9.9) == {2: "whole"}
        assert polled(source, 10) == {2: "whole"}
        assert source.due("m", 10) == 10 + SETTLE_S
        assert polled(source, 10 + SETTLE_S) == {2: "overwritten"}

    @pytest.mark.parametrize("error", [Unavailable("503"), ResourceExhausted("SlowDown"), Unauthenticated("ExpiredToken")])
    def test_what_ails_the_store_fails_the_poll_and_no_version(
        self, storage: FakeStorage, source: FileSystemStoragePathSource, error: AspiredError
    ) -> None:
        storage.put(REMOTE, "3", age_s=0)
        storage.fail(f"{REMOTE}/3", error)
        for second in range(5):
            with pytest.raises(type(error)):
                source.poll("m", second)
        storage.heal(f"{REMOTE}/3")
        assert polled(source, 5) == {2: "whole"}
        assert polled(source, 5 + SETTLE_S) == {3: "whole"}

    def test_a_version_that_may_not_be_read_is_shown_beside_the_older(
        self, storage: FakeStorage, source: FileSystemStoragePathSource
    ) -> None:
        storage.put(REMOTE, "3")
        storage.fail(f"{REMOTE}/3", PermissionDenied("s3:GetObject must be allowed"))
        assert polled(source, 0) == {2: "whole"}
        assert source.waiting("m") == ("version 3: s3:GetObject must be allowed",)
        two, three = source.poll("m", SETTLE_S) or ()
        assert (two.status.ok, three.status.code) == (True, Code.PERMISSION_DENIED)

    def test_versions_that_vanish_between_two_listings_empty_no_stream(
        self, storage: FakeStorage, source: FileSystemStoragePathSource
    ) -> None:
        source.poll("m", 0)
        for child in ("1", "2"):
            storage.vanish_when_walked(REMOTE, child)
        assert polled(source, 20) is None


def test_a_models_own_settle_time_wins(storage: FakeStorage) -> None:
    storage.put(BASE, "1", age_s=20)
    model = ModelConfig("m", BASE, settings=ModelSettings(settle_s=30.0))
    source = FileSystemStoragePathSource([model], storage, settle_s=SETTLE_S)
    assert polled(source, 0) is None
    assert source.due("m", 0) == 10.0
    assert polled(source, 10) == {1: "whole"}


class TestCost:
    def test_a_small_settled_tree_is_walked_at_every_poll(self, storage: FakeStorage) -> None:
        storage.put(BASE, "1", entries=20)
        source = source_of(storage)
        for second in range(10):
            source.poll("m", second)
        assert storage.walks[f"{BASE}/1"] == 10

    def test_a_huge_settled_tree_is_walked_every_ten_seconds(self, storage: FakeStorage) -> None:
        storage.put(BASE, "1", entries=1_000_000)
        source = source_of(storage)
        for second in range(30):
            source.poll("m", second)
        assert storage.walks[f"{BASE}/1"] == 3


@given(
    st.lists(
        st.tuples(st.sampled_from(["1", "2", "3"]), st.sampled_from(["gone", "growing", "whole"]), st.floats(0.1, 2.0)),
        max_size=30,
    ),
    st.sampled_from([Latest(), Latest(2), All(), Specific(frozenset({1, 3}))]),
)
def test_nothing_that_has_just_changed_is_ever_emitted_and_all_converges(
    changes: list[tuple[str, str, float]], policy: VersionPolicy
) -> None:
    storage = FakeStorage()
    storage.add_base_path(BASE)
    source = source_of(storage, policy)
    now = 0.0
    changed_at: dict[str, float] = {}
    present: dict[str, str] = {}
    for number, (child, change, wait_s) in enumerate(changes):
        now += wait_s
        if change == "gone":
            if present.pop(child, None) is not None:
                storage.remove(BASE, child)
        else:
            present[child] = f"{change} {number}"
            changed_at[present[child]] = now
            storage.put(BASE, child, fingerprint=present[child], age_s=0)
        for fingerprint in (polled(source, now) or {}).values():
            assert now - changed_at[fingerprint] >= SETTLE_S
    source.poll("m", now + 20)
    wanted = {int(child): fingerprint for child, fingerprint in present.items()}
    match policy:
        case Latest(count):
            wanted = dict(sorted(wanted.items())[-count:])
        case Specific(versions):
            wanted = {version: wanted[version] for version in wanted if version in versions}
        case All():
            pass
    assert polled(source, now + 20 + SETTLE_S) == wanted
