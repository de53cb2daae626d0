"""A version on an object store: its number is kept by a claim, its manifest makes it whole."""

from __future__ import annotations

import contextlib
import random
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from cluster.core.errors import Aborted, AlreadyExists, AspiredError, DataLoss, NotFound
from cluster.publishing.export import ExportFile
from cluster.publishing.file_errors import file_errors
from cluster.publishing.reservation import Reservation, sha256_of, unchanged
from cluster.publishing.transfer import Moved, persistently
from cluster.publishing.version_number import next_version
from cluster.storage.claim import Claim, claim_name, owns
from cluster.storage.storage import WritableStorage
from cluster.storage.version_manifest import MANIFEST_NAME, ManifestFile, VersionManifest, is_claim
from cluster.storage.version_name import parse_version_name

_ATTEMPTS = 40
_LONGEST_PAUSE_S = 2.0


class ClaimedVersion(Reservation):
    """Made by `claim_version`."""

    def __init__(self, storage: WritableStorage, path: str, version: int, claim: str) -> None:
        self.version = version
        self.path = path
        self._storage = storage
        self._claim = claim

    def upload(self, file: ExportFile, moved: Moved) -> ManifestFile:
        # The file is read twice at the same time, so mostly from the system's cache.
        with file_errors(file.path), unchanged(file), ThreadPoolExecutor(1) as beside:
            sha256 = beside.submit(sha256_of, file.path)
            self._storage.upload(file.path, self._storage.join(self.path, file.name), moved)
            return ManifestFile(file.name, file.size_bytes, sha256.result())

    def publish(self, manifest: VersionManifest) -> None:
        sizes = {file.name: file.size_bytes for file in persistently(lambda: self._storage.tree(self.path)).files}
        if self._claim not in sizes:
            raise Aborted(f"{self.path}: somebody has removed this publisher's claim, and perhaps files; publish again")
        if missing := manifest.missing_from(sizes):
            raise DataLoss(f"{self.path}: {missing} after the upload; publish again")
        persistently(lambda: self._storage.write(self._storage.join(self.path, MANIFEST_NAME), manifest.to_json()))
        self.published = True
        # What may be left of the claim does no harm beside the manifest.
        with contextlib.suppress(AspiredError):
            persistently(lambda: self._storage.delete(self.path, [self._claim]))

    def withdraw(self) -> None:
        with contextlib.suppress(NotFound):
            names = [file.name for file in persistently(lambda: self._storage.tree(self.path)).files]
            # Without our claim somebody has removed the version. What came since is ours, unless the number is another's now.
            if self._claim in names or not any(name == MANIFEST_NAME or is_claim(name) for name in names):
                delete_in_order(self._storage, self.path, names)


def claim_version(
    storage: WritableStorage,
    base_path: str,
    claim: Claim,
    *,
    version: int | None = None,
    known: Iterable[int] = (),
    pause: Callable[[float], None] = time.sleep,
) -> ClaimedVersion:
    """Claims `version`, or the next one that nobody else has.

    Raises AlreadyExists when `version` is there or another's, Aborted when others have always been there first.
    """
    name = claim_name(uuid.uuid4().hex)
    for attempt in range(_ATTEMPTS):
        children = persistently(partial(children_of, storage, base_path))
        if version is not None:
            _refuse_taken(storage, base_path, children, version)
        number = next_version(children, known) if version is None else version
        path = storage.join(base_path, str(number))
        names = _claim(storage, path, name, claim)
        if owns(names, name):
            return ClaimedVersion(storage, path, number, name)
        persistently(partial(storage.delete, path, [name]))
        if version is not None:
            raise _taken(path, names)
        pause(random.uniform(0, min(_LONGEST_PAUSE_S, 0.05 * 2**attempt)))
    raise Aborted(f"{base_path}: of {_ATTEMPTS} numbers that were tried others have had each; publish again")


def delete_in_order(storage: WritableStorage, path: str, names: Iterable[str]) -> None:
    """Deletes a version's files so that readers take none of what is left for whole: the manifest first, claims last."""
    names = list(names)
    for group in (
        [name for name in names if name == MANIFEST_NAME],
        [name for name in names if name != MANIFEST_NAME and not is_claim(name)],
        [name for name in names if is_claim(name)],
    ):
        if group:
            persistently(partial(storage.delete, path, group))


def children_of(storage: WritableStorage, base_path: str) -> list[str]:
    """The names under a base path; none when it is not there yet."""
    try:
        return list(storage.children(base_path))
    except NotFound:
        return []


def _claim(storage: WritableStorage, path: str, name: str, claim: Claim) -> list[str]:
    """Writes the claim, and lists what lies beside it. A claim of which nobody knows whether it was written is deleted."""
    try:
        persistently(lambda: storage.write(storage.join(path, name), claim.to_json()))
        return [file.name for file in persistently(lambda: storage.tree(path)).files]
    except BaseException:
        with contextlib.suppress(AspiredError):
            storage.delete(path, [name])
        raise


def _refuse_taken(storage: WritableStorage, base_path: str, children: Iterable[str], version: int) -> None:
    for child in children:
        if parse_version_name(child) == version:
            path = storage.join(base_path, child)
            with contextlib.suppress(NotFound):
                raise _taken(path, [file.name for file in persistently(partial(storage.tree, path)).files])


def _taken(path: str, names: Sequence[str]) -> AlreadyExists:
    if MANIFEST_NAME not in names and any(map(is_claim, names)):
        return AlreadyExists(f"{path} is being published by another: leave the number out to get the next one")
    return AlreadyExists(f"{path} exists already: leave the number out to get the next one")
