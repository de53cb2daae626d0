"""Which number the next version gets. Numbers are never used twice, whatever has become of their versions.

What reserves a number is seen in a listing of the base path: the version itself, the hidden directory in which a publisher or
a remover works, or what `unpublish` leaves behind when the highest version goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from cluster.core.errors import InvalidArgument, OutOfRange

VERSION_MAX = 2**63 - 1

PUBLISHING_PREFIX = ".aspired-publishing-"
"""Begins the name of the directory in which a version is being written on a file system; its number follows."""

UNPUBLISHING_PREFIX = ".aspired-unpublishing-"
"""Begins the name of what a version is renamed to when it is deleted; its number and something unique follow."""

UNPUBLISHED_PREFIX = "aspired_unpublished_"
"""Begins the name of an empty file in the base path, that says up to which number versions have been deleted."""

_NAME = re.compile(r"\+?[0-9]{1,100}")
_PREFIXES = "|".join(map(re.escape, (PUBLISHING_PREFIX, UNPUBLISHING_PREFIX, UNPUBLISHED_PREFIX)))
_RESERVED = re.compile(f"(?:{_PREFIXES})([0-9]{{1,19}})(?:-.*)?")


def parse_version_name(name: str) -> int | None:
    """The number that a child of a base path stands for, as servers read it: `00000123` is 123. None for other names."""
    if _NAME.fullmatch(name) is None:
        return None
    version = int(name)
    return version if version <= VERSION_MAX else None


def reserved_number(name: str) -> int | None:
    """The number that a child of a base path keeps from being used, be it a version or not; None if it keeps none."""
    match = _RESERVED.fullmatch(name)
    return int(match[1]) if match else parse_version_name(name)


def next_version(names: Iterable[str], known: Iterable[int] = ()) -> int:
    """The number above all that a base path's children reserve and all that are `known`, to a server; the first is 1."""
    taken = [number for name in names if (number := reserved_number(name)) is not None]
    highest = max([*taken, *known], default=0)
    if highest >= VERSION_MAX:
        raise OutOfRange(f"There is a version {highest}: no higher number is left")
    return highest + 1


def check_version(version: int) -> int:
    """`version` itself, for one that somebody asks for. Raises InvalidArgument when no version can have that number."""
    if not 0 <= version <= VERSION_MAX:
        raise InvalidArgument(f"version {version}: expected a number from 0 to {VERSION_MAX}")
    return version
