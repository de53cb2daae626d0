"""Which children of a base path are versions, by their names."""

from __future__ import annotations

import re

VERSION_MAX = 2**63 - 1

_VERSION_NAME = re.compile(r"\+?[0-9]{1,100}")


def is_version_name(name: str) -> bool:
    """Whether a child of a base path is a version, by its name."""
    return _VERSION_NAME.fullmatch(name) is not None


def parse_version_name(name: str) -> int | None:
    """The number that a child's name stands for: `00000123` is 123. None for a name that is no version."""
    if not is_version_name(name):
        return None
    version = int(name)
    return version if version <= VERSION_MAX else None
