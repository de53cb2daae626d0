from __future__ import annotations

import json

import pytest

from cluster.core.errors import DataLoss
from cluster.storage.version_manifest import CLAIM_PREFIX, ManifestFile, VersionManifest, is_claim, is_safe_name, parse_manifest

MANIFEST = VersionManifest(
    (ManifestFile("saved_model.pb", 5, "0" * 64), ManifestFile("variables/variables.index", 7, "f" * 64)),
    "2026-01-02T03:04:05+00:00",
    "trainer@host",
    {"accuracy": "0.9"},
)


def test_a_manifest_survives_the_way_to_the_storage_and_back() -> None:
    assert parse_manifest(MANIFEST.to_json(), "m") == MANIFEST
    assert MANIFEST.size_bytes == 12


@pytest.mark.parametrize(
    ("sizes", "missing"),
    [
        ({"saved_model.pb": 5, "variables/variables.index": 7, "more": 1}, ""),
        ({"saved_model.pb": 5}, "variables/variables.index is missing"),
        ({"saved_model.pb": 4, "variables/variables.index": 7}, "saved_model.pb has 4 bytes, not 5"),
    ],
)
def test_says_in_what_a_listing_falls_short(sizes: dict[str, int], missing: str) -> None:
    assert MANIFEST.missing_from(sizes) == missing


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"format": 1}',
        b'{"format": 1, "files": [{"name": "../x", "size_bytes": 1, "sha256": "%s"}]}' % (b"0" * 64),
        b'{"format": 1, "files": [{"name": "x", "size_bytes": -1, "sha256": "%s"}]}' % (b"0" * 64),
        b'{"format": 1, "files": [{"name": "x", "size_bytes": true, "sha256": "%s"}]}' % (b"0" * 64),
        b'{"format": 1, "files": [{"name": "x", "size_bytes": 1, "sha256": "short"}]}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_manifest_is_named_and_never_used(content: bytes) -> None:
    with pytest.raises(DataLoss, match=r"/models/m/1/aspired_manifest\.json"):
        parse_manifest(content, "/models/m/1/aspired_manifest.json")


def test_a_newer_format_is_told_from_rubbish() -> None:
    with pytest.raises(DataLoss, match="a newer Aspired has written it"):
        parse_manifest(json.dumps({"format": 2, "files": []}).encode(), "m")


def test_claims_are_known_by_their_name() -> None:
    assert is_claim(CLAIM_PREFIX + "x")
    assert not is_claim("saved_model.pb")


@pytest.mark.parametrize("name", ["/x", "../x", "a/../x", "a//b", "", ".", "a\0b", "a\\b"])
def test_names_that_lead_elsewhere_are_not_safe(name: str) -> None:
    assert not is_safe_name(name)
    assert is_safe_name("variables/variables.data-00000-of-00001")
