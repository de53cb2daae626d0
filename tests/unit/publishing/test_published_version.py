from __future__ import annotations

import pytest

from cluster.publishing.published_version import PublishedVersion, VersionState, assess
from cluster.storage.claim import Claim, Purpose, owns, parse_claim
from cluster.storage.storage import StoredFile, tree_of
from cluster.storage.version_manifest import CLAIM_PREFIX, MANIFEST_NAME, ManifestFile, VersionManifest

MANIFEST = VersionManifest(
    (ManifestFile("saved_model.pb", 5, "0" * 64),), "2026-01-02T03:04:05+00:00", "ann@host", {"commit": "abc"}
).to_json()
CLAIM = Claim(Purpose.PUBLISH, "bob@host", "2026-01-02T03:00:00+00:00")


def look(sizes: dict[str, int], manifest: bytes | None = None, claim: Claim | None = None) -> PublishedVersion:
    tree = tree_of((StoredFile(name, size, "tag") for name, size in sizes.items()), None)
    return assess(4, "s3://b/m/4", tree, manifest, claim)


def test_a_version_with_all_files_of_its_manifest_is_published() -> None:
    version = look({"saved_model.pb": 5, MANIFEST_NAME: 300}, MANIFEST)
    assert (version.state, version.files, version.size_bytes) == (VersionState.PUBLISHED, 1, 5)
    assert (version.publisher, version.annotations) == ("ann@host", {"commit": "abc"})


@pytest.mark.parametrize(
    ("sizes", "manifest", "reason"),
    [
        ({}, MANIFEST, "saved_model.pb is missing"),
        ({"saved_model.pb": 4}, MANIFEST, "saved_model.pb has 4 bytes, not 5"),
        ({"saved_model.pb": 5}, b"{", "is not a manifest"),
    ],
)
def test_a_version_that_is_not_what_its_manifest_says_is_broken(sizes: dict[str, int], manifest: bytes, reason: str) -> None:
    version = look(sizes, manifest)
    assert version.state is VersionState.BROKEN
    assert reason in version.reason


def test_files_without_a_manifest_are_somebodys_copy() -> None:
    assert look({"saved_model.pb": 5}).state is VersionState.UNMANIFESTED


def test_a_claim_without_a_manifest_tells_who_publishes_and_since_when() -> None:
    version = look({"saved_model.pb": 5, f"{CLAIM_PREFIX}x": 90}, claim=CLAIM)
    assert (version.state, version.files) == (VersionState.BEING_PUBLISHED, 1)
    assert (version.publisher, version.published_at) == (CLAIM.publisher, CLAIM.since)


def test_a_claim_that_was_left_beside_a_manifest_does_not_matter() -> None:
    assert look({"saved_model.pb": 5}, MANIFEST, CLAIM).state is VersionState.PUBLISHED


@pytest.mark.parametrize("manifest", [MANIFEST, None])
def test_a_version_that_is_being_deleted_is_not_whole(manifest: bytes | None) -> None:
    version = look({"saved_model.pb": 5}, manifest, Claim(Purpose.UNPUBLISH, "bob@host"))
    assert version.state is VersionState.BEING_UNPUBLISHED
    assert not version.state.whole


def test_a_claim_survives_writing_and_reading() -> None:
    assert parse_claim(CLAIM.to_json()) == CLAIM


@pytest.mark.parametrize("content", [b"", b"[]", b'{"purpose": "dance", "publisher": "", "since": ""}', b"\xff"])
def test_a_claim_that_makes_no_sense_is_somebodys(content: bytes) -> None:
    assert parse_claim(content) == Claim()


@pytest.mark.parametrize(
    ("names", "owned"), [(["mine"], True), (["mine", "theirs"], False), (["mine", MANIFEST_NAME], False), ([], False)]
)
def test_a_number_is_ones_own_if_nothing_else_is_there(names: list[str], owned: bool) -> None:
    assert owns(names, "mine") is owned
