from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cluster.core.errors import FailedPrecondition, InvalidArgument, NotFound
from cluster.publishing.published_version import PublishedVersion, VersionState
from cluster.publishing.retention import Removal, plan_removal, plan_retention

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


def version(number: int, state: VersionState = VersionState.PUBLISHED, since: str = "") -> PublishedVersion:
    return PublishedVersion(
        version=number, path=f"m/{number}", state=state, files=1, size_bytes=1, publisher="ann@host", published_at=since
    )


VERSIONS = [version(number) for number in (5, 4, 3, 2, 1)]


def test_keeps_the_newest_so_many() -> None:
    assert plan_retention(VERSIONS, 2, {}) == Removal((1, 2, 3))


def test_never_removes_what_is_served() -> None:
    assert plan_retention(VERSIONS, 1, {2: "AVAILABLE", 5: "LOADING"}) == Removal((1, 3, 4), kept_served=(2,))


def test_says_that_it_could_not_know_what_is_served() -> None:
    assert plan_retention(VERSIONS, 4, None) == Removal((1,), blind=True)


def test_what_is_not_whole_is_neither_counted_nor_removed() -> None:
    broken = [version(6, VersionState.BEING_PUBLISHED), version(7, VersionState.BROKEN), *VERSIONS]
    assert plan_retention(broken, 4, {}) == Removal((1,))
    assert plan_retention([version(1, VersionState.BEING_PUBLISHED), *VERSIONS[:2]], 1, {}) == Removal((4,))


def test_what_was_copied_by_hand_counts_as_a_version() -> None:
    assert plan_retention([version(6, VersionState.UNMANIFESTED), *VERSIONS], 5, {}) == Removal((1,))


def test_keeping_more_than_there_are_removes_nothing() -> None:
    assert plan_retention(VERSIONS, 9, {}) == Removal()


@pytest.mark.parametrize("keep", [0, -1])
def test_keeping_nothing_is_refused(keep: int) -> None:
    with pytest.raises(InvalidArgument, match="expected 1 or more"):
        plan_retention(VERSIONS, keep, {})


@pytest.mark.parametrize(
    ("number", "served", "reason"),
    [
        (2, {2: "AVAILABLE"}, "Version 2 is AVAILABLE on the server"),
        (2, {2: "LOADING"}, "Version 2 is LOADING on the server"),
        (5, None, "Version 5 is the newest whole one"),
    ],
)
def test_what_is_or_may_be_served_is_removed_by_force_alone(number: int, served: dict[int, str] | None, reason: str) -> None:
    with pytest.raises(FailedPrecondition, match=reason):
        plan_removal(VERSIONS, [number], served, NOW)
    assert plan_removal(VERSIONS, [number], served, NOW, force=True).versions == (number,)


def test_the_newest_may_go_when_a_server_says_that_it_has_it_not() -> None:
    assert plan_removal(VERSIONS, [5, 1, 1], {4: "AVAILABLE"}, NOW) == Removal((1, 5))


@pytest.mark.parametrize(("age", "refused"), [(timedelta(minutes=5), True), (timedelta(hours=2), False)])
def test_a_publisher_that_may_be_at_work_is_left_alone(age: timedelta, refused: bool) -> None:
    claimed = version(6, VersionState.BEING_PUBLISHED, (NOW - age).isoformat())
    if refused:
        with pytest.raises(FailedPrecondition, match="is being published by ann@host since"):
            plan_removal([claimed, *VERSIONS], [6], None, NOW)
    assert plan_removal([claimed, *VERSIONS], [6], None, NOW, force=refused).versions == (6,)


def test_one_wrong_number_removes_nothing() -> None:
    with pytest.raises(NotFound, match=r"There is no version 9; there are: 5, 4, 3, 2, 1"):
        plan_removal(VERSIONS, [1, 9], None, NOW)
