"""The parts in which a version is fetched."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from cluster.core.errors import FailedPrecondition
from cluster.storage.storage import StoredFile
from cluster.storage.version_manifest import is_claim, is_safe_name


class Part(NamedTuple):
    """The bytes from `start` up to `end` of one file."""

    file: StoredFile
    start: int
    end: int

    @property
    def size_bytes(self) -> int:
        return self.end - self.start


def parts_of(files: Iterable[StoredFile], part_bytes: int) -> tuple[Part, ...]:
    """All bytes of the files, in parts of `part_bytes` at most; the same for the same files, whatever their order.

    Large files first, so that small ones fill the end, and the parts of a file in order. Files without bytes have none.
    """
    ordered = sorted(files, key=lambda file: (-file.size_bytes, file.name))
    return tuple(
        Part(file, start, min(start + part_bytes, file.size_bytes))
        for file in ordered
        for start in range(0, file.size_bytes, part_bytes)
    )


def files_to_fetch(path: str, files: Iterable[StoredFile]) -> tuple[StoredFile, ...]:
    """The files that belong to the version at `path`: all but publishers' claims.

    Raises FailedPrecondition for names that cannot be files under one directory.
    """
    chosen = tuple(file for file in files if not is_claim(file.name))
    names = {file.name for file in chosen}
    for name in names:
        if not is_safe_name(name):
            raise FailedPrecondition(f"{path}: {name!r} is no safe name of a file: rename it")
        parents = name.split("/")[:-1]
        for length in range(1, len(parents) + 1):
            parent = "/".join(parents[:length])
            if parent in names:
                raise FailedPrecondition(f"{path}: {parent} and {name} cannot both be files: rename one of them")
    return chosen
