from __future__ import annotations

import pytest

from cluster.sources.version_completeness import Completeness, claimed_by, completeness_of
from cluster.storage.storage import StoredFile
from cluster.storage.version_manifest import CLAIM_PREFIX, MANIFEST_NAME, ManifestFile, VersionManifest

MANIFEST = VersionManifest((ManifestFile("saved_model.pb", 5, "0" * 64), ManifestFile("variables/x", 7, "0" * 64)))
INDEX = "variables/variables.index"
ONLY_SHARD = "variables/variables.data-00000-of-00001"


def files(**sizes: int) -> list[StoredFile]:
    return [StoredFile(name, size, "tag") for name, size in sizes.items()]


def named(*names: str) -> list[StoredFile]:
    return [StoredFile(name, 1, "tag") for name in names]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"saved_model.pb": 5, "variables/x": 7, MANIFEST_NAME: 300}, Completeness(vouched=True)),
        ({"saved_model.pb": 5, "variables/x": 7, "more": 1, f"{CLAIM_PREFIX}a": 9}, Completeness(vouched=True)),
        ({"saved_model.pb": 5}, Completeness(lacks="variables/x is missing")),
        ({"saved_model.pb": 5, "variables/x": 6}, Completeness(lacks="variables/x has 6 bytes, not 7")),
    ],
)
def test_a_manifest_decides_alone(sizes: dict[str, int], expected: Completeness) -> None:
    assert completeness_of(files(**sizes), MANIFEST) == expected


def test_a_claim_without_a_manifest_is_never_whole() -> None:
    lacks = completeness_of(named("saved_model.pb", f"{CLAIM_PREFIX}a"), None).lacks
    assert lacks == f"it is being published, or that has died: {CLAIM_PREFIX}a is there and no manifest"


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (["saved_model.pb"], ""),
        (["saved_model.pb", INDEX, ONLY_SHARD], ""),
        (["saved_model.pb", INDEX], ONLY_SHARD),
        (["saved_model.pb", ONLY_SHARD], INDEX),
        ([INDEX, "variables/variables.data-00000-of-00002"], "variables/variables.data-00001-of-00002"),
        ([INDEX, "variables/variables.data-00000-of-00002", "variables/variables.data-00001-of-00002"], ""),
        (["words.index"], ""),
        (["assets/words.data-00001-of-00002", "assets/words.index"], "assets/words.data-00000-of-00002"),
    ],
)
def test_a_part_of_a_checkpoint_that_is_missing_is_waited_for(names: list[str], missing: str) -> None:
    assert completeness_of(named(*names), None).lacks == (f"{missing} is missing" if missing else "")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            b'{"publisher": "eve@host", "since": "2026-01-02T03:04:05+00:00"}',
            "it is being published by eve@host since 2026-01-02T",
        ),
        (b'{"purpose": "unpublish", "publisher": "eve@host", "since": "now"}', "it is being deleted by eve@host since now"),
        (b"{}", ""),
        (b"[]", ""),
        (b"\xff", ""),
    ],
)
def test_a_claim_names_its_owner(content: bytes, says: str) -> None:
    assert claimed_by(content).startswith(says)
    assert bool(claimed_by(content)) == bool(says)
