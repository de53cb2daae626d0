"""Brings a published version to a directory of this machine."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cluster.core.errors import AlreadyExists, DataLoss, FailedPrecondition, NotFound
from cluster.publishing.catalog import list_versions, newest_whole
from cluster.publishing.published_version import PublishedVersion
from cluster.publishing.staged_version import file_errors
from cluster.publishing.transfer import Moved, TransferProgress, persistently, transfer
from cluster.storage.storage import Storage, StoredFile
from cluster.storage.version_manifest import MANIFEST_NAME, VersionManifest, is_claim, is_safe_name, parse_manifest


@dataclass(frozen=True, slots=True)
class PulledVersion:
    """A version that has been brought here. `verified`: it has a manifest, and every file has the checksum that is in it."""

    version: int
    path: str
    files: int
    size_bytes: int
    verified: bool


def pull_version(
    storage: Storage,
    base_path: str,
    target: Path,
    *,
    version: int | None = None,
    progress: Callable[[TransferProgress], None] = lambda progress: None,
) -> PulledVersion:
    """Copies a whole version, the newest unless `version` says which, to `target`, which must not hold anything yet.

    Everything comes or nothing does. Raises NotFound, AlreadyExists, FailedPrecondition for a version that is not whole,
    DataLoss for a file that is not what its manifest says.
    """
    _check_target(target)
    wanted = _wanted(list_versions(storage, base_path), base_path, version)
    tree = persistently(lambda: storage.tree(wanted.path))
    manifest = _manifest(storage, wanted.path) if any(file.name == MANIFEST_NAME for file in tree.files) else None
    files = [file for file in tree.files if file.name != MANIFEST_NAME and not is_claim(file.name)]
    if manifest is not None:
        files = [file for file in files if manifest.file(file.name) is not None]
    size_bytes = sum(file.size_bytes for file in files)
    with file_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".aspired-pulling-", dir=target.parent))
        try:
            staging.chmod(0o755)
            transfer(files, _Puller(storage, wanted.path, staging, manifest).pull, progress)
            if manifest is not None:
                (staging / MANIFEST_NAME).write_bytes(manifest.to_json())
            staging.rename(target)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
    return PulledVersion(wanted.version, str(target), len(files), size_bytes, manifest is not None)


@dataclass(frozen=True, slots=True)
class _Puller:
    storage: Storage
    path: str
    staging: Path
    manifest: VersionManifest | None

    def pull(self, file: StoredFile, moved: Moved) -> None:
        if not is_safe_name(file.name):
            raise FailedPrecondition(f"{self.path}: {file.name!r} is no name for a file here")
        target = self.staging / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with open(target, "wb") as copy:
            for piece in self.storage.read_range(self.path, file, 0, file.size_bytes):
                copy.write(piece)
                digest.update(piece)
                moved(len(piece))
        told = self.manifest.file(file.name) if self.manifest is not None else None
        if told is not None and digest.hexdigest() != told.sha256:
            raise DataLoss(f"{self.path}/{file.name} is not what was published: its SHA-256 is another than in the manifest")


def _check_target(target: Path) -> None:
    if target.exists() and (not target.is_dir() or os.listdir(target)):
        raise AlreadyExists(f"{target} exists already: give a directory that does not, or an empty one")


def _wanted(versions: tuple[PublishedVersion, ...], base_path: str, version: int | None) -> PublishedVersion:
    if version is None:
        newest = newest_whole(versions)
        if newest is None:
            raise NotFound(f"{base_path} holds no whole version: see aspired versions {base_path}")
        return newest
    for found in versions:
        if found.version == version:
            if not found.state.whole:
                reason = f" ({found.reason})" if found.reason else ""
                raise FailedPrecondition(f"{found.path} is {found.state.value}{reason}: only whole versions can be pulled")
            return found
    there = ", ".join(str(found.version) for found in versions) or "none"
    raise NotFound(f"{base_path} has no version {version}; there are: {there}")


def _manifest(storage: Storage, path: str) -> VersionManifest:
    name = storage.join(path, MANIFEST_NAME)
    return parse_manifest(persistently(lambda: storage.read(name)), name)
