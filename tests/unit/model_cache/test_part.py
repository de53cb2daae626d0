"""What is fetched, in which parts."""

from __future__ import annotations

import pytest

from cluster.core.errors import FailedPrecondition
from cluster.model_cache.part import files_to_fetch, parts_of
from cluster.storage.storage import StoredFile


def file(name: str, size_bytes: int = 1) -> StoredFile:
    return StoredFile(name, size_bytes, "tag")


def test_parts_hold_every_byte_once_and_none_is_larger_than_asked() -> None:
    files = [file("a", 25), file("b", 10), file("empty", 0), file("c", 3)]
    covered = {each.name: bytearray(each.size_bytes) for each in files}
    for part in parts_of(files, 10):
        assert 0 < part.size_bytes <= 10
        for position in range(part.start, part.end):
            covered[part.file.name][position] += 1
    assert all(set(counts) <= {1} for counts in covered.values())


def test_parts_are_the_same_whatever_the_order_of_the_listing() -> None:
    files = [file("a", 25), file("b", 10), file("c", 25)]
    assert parts_of(files, 10) == parts_of(files[::-1], 10)


def test_large_files_come_first_and_their_parts_in_order() -> None:
    assert [(part.file.name, part.start) for part in parts_of([file("small", 3), file("large", 25)], 10)] == [
        ("large", 0),
        ("large", 10),
        ("large", 20),
        ("small", 0),
    ]


def test_claims_of_publishers_are_not_fetched() -> None:
    assert files_to_fetch("s3://m/1", [file("aspired_claim_x"), file("saved_model.pb")]) == (file("saved_model.pb"),)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a//b", "a/../../b", "..", "a/.", "a\0b", "a\\b", ""])
def test_names_that_lead_out_of_the_directory_are_refused(name: str) -> None:
    with pytest.raises(FailedPrecondition, match=r"s3://m/1: .* is no safe name of a file"):
        files_to_fetch("s3://m/1", [file("saved_model.pb"), file(name)])


def test_a_file_that_is_also_a_directory_is_refused() -> None:
    with pytest.raises(FailedPrecondition, match="variables and variables/index cannot both be files"):
        files_to_fetch("s3://m/1", [file("variables/index"), file("variables")])
