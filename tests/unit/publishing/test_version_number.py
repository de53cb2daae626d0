from __future__ import annotations

import pytest

from cluster.core.errors import InvalidArgument, OutOfRange
from cluster.publishing.version_number import VERSION_MAX, check_version, next_version, parse_version_name


@pytest.mark.parametrize(
    ("names", "known", "expected"),
    [
        ([], [], 1),
        (["1", "2", "README.md"], [], 3),
        (["2", "10", "9"], [], 11),  # by number, not by text
        (["00000123"], [], 124),
        (["1", ".aspired-publishing-2"], [], 3),
        (["1", ".aspired-unpublishing-5-0a1b"], [], 6),
        (["1", "aspired_unpublished_7"], [], 8),
        (["3"], [8, 2], 9),
        (["v9", "-9", "9.5", "aspired_unpublished_x"], [], 1),
    ],
)
def test_the_next_number_is_above_all_that_were_ever_used(names: list[str], known: list[int], expected: int) -> None:
    assert next_version(names, known) == expected


def test_says_when_no_number_is_left() -> None:
    with pytest.raises(OutOfRange, match="no higher number"):
        next_version([str(VERSION_MAX)])


def test_a_number_that_no_server_could_read_is_refused() -> None:
    assert parse_version_name(str(VERSION_MAX + 1)) is None
    for version in (-1, VERSION_MAX + 1):
        with pytest.raises(InvalidArgument):
            check_version(version)
