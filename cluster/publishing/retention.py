"""Which versions may be deleted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cluster.core.errors import FailedPrecondition, InvalidArgument, NotFound
from cluster.publishing.published_version import PublishedVersion, VersionState

PUBLISHER_GIVEN_UP_AFTER = timedelta(hours=1)
"""A claim that is younger may be that of a publisher which is still at work."""


@dataclass(frozen=True, slots=True)
class Removal:
    """`versions`: the numbers that are deleted. `kept_served`: old ones that were kept because a server has them.

    `blind`: no server was asked, so nobody knows what is served.
    """

    versions: tuple[int, ...] = ()
    kept_served: tuple[int, ...] = ()
    blind: bool = False


def check_keep(keep: int | None) -> None:
    """Raises InvalidArgument for a number of versions to keep that would leave none."""
    if keep is not None and keep < 1:
        raise InvalidArgument(f"keep {keep}: expected 1 or more, so that a version is left to serve")


def plan_retention(versions: Iterable[PublishedVersion], keep: int, served: Mapping[int, str] | None) -> Removal:
    """Keeps the newest `keep` whole versions, and all that are served (number -> state); None when no server was asked.

    What is not whole is somebody's work or somebody's wreck: it counts for nothing and stays, to be removed by its number.
    """
    check_keep(keep)
    old = sorted(version.version for version in versions if version.state.whole)[:-keep]
    return Removal(
        versions=tuple(version for version in old if version not in (served or ())),
        kept_served=tuple(version for version in old if version in (served or ())),
        blind=served is None,
    )


def plan_removal(
    versions: Sequence[PublishedVersion],
    wanted: Iterable[int],
    served: Mapping[int, str] | None,
    now: datetime,
    *,
    force: bool = False,
) -> Removal:
    """Deletes the versions of these numbers. Unless it is forced, raises FailedPrecondition for one that is served, may be
    the one that is served, or has a publisher who may be at work. Raises NotFound for a number that is not there.
    """
    wanted = sorted(set(wanted))
    for number in wanted:
        found = [version for version in versions if version.version == number]
        if not found:
            there = ", ".join(str(version.version) for version in versions) or "none"
            raise NotFound(f"There is no version {number}; there are: {there}")
        if not force:
            _refuse_in_use(found[0], versions, served, now)
    return Removal(tuple(wanted), blind=served is None)


def _refuse_in_use(
    version: PublishedVersion, versions: Sequence[PublishedVersion], served: Mapping[int, str] | None, now: datetime
) -> None:
    number = version.version
    if served is not None and number in served:
        raise FailedPrecondition(f"Version {number} is {served[number]} on the server: it needs force (--force) to be deleted")
    if version.state is VersionState.BEING_PUBLISHED and _recent(version.published_at, now):
        raise FailedPrecondition(
            f"Version {number} is being published by {version.publisher} since {version.published_at}: it needs force "
            "(--force) to be deleted, if that publisher is gone"
        )
    newest = max((other.version for other in versions if other.state.whole), default=None)
    if served is None and number == newest:
        raise FailedPrecondition(
            f"Version {number} is the newest whole one, which servers load: name a server that can be asked (--server=URL), "
            "or use force (--force)"
        )


def _recent(since: str, now: datetime) -> bool:
    try:
        return now - datetime.fromisoformat(since) < PUBLISHER_GIVEN_UP_AFTER
    except (ValueError, TypeError):  # TypeError: a time without a zone
        return False
