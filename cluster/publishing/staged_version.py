"""A version on a file system: written in a hidden directory that keeps its number, then renamed into place."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path

from cluster.core.errors import Aborted, AlreadyExists
from cluster.publishing.export import ExportFile
from cluster.publishing.file_errors import file_errors
from cluster.publishing.reservation import PIECE_BYTES, Reservation, unchanged
from cluster.publishing.transfer import Moved
from cluster.publishing.version_number import PUBLISHING_PREFIX, UNPUBLISHING_PREFIX, next_version
from cluster.storage.claim import Claim, claim_name
from cluster.storage.version_manifest import MANIFEST_NAME, ManifestFile, VersionManifest, is_claim
from cluster.storage.version_name import parse_version_name


class StagedVersion(Reservation):
    """Made by `stage_version`."""

    def __init__(self, staging: Path, version: int, claim: str) -> None:
        self.version = version
        self.path = str(staging.with_name(str(version)))
        self._staging = staging
        self._claim = staging / claim

    def upload(self, file: ExportFile, moved: Moved) -> ManifestFile:
        target = self._staging / file.name
        with file_errors(target), unchanged(file):
            self._check_claim()
            target.parent.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256()
            with open(file.path, "rb") as source, open(target, "wb") as copy:
                while piece := source.read(PIECE_BYTES):
                    copy.write(piece)
                    digest.update(piece)
                    moved(len(piece))
                copy.flush()
                os.fsync(copy.fileno())  # or the name could outlive the content in a crash of the machine
        return ManifestFile(file.name, file.size_bytes, digest.hexdigest())

    def publish(self, manifest: VersionManifest) -> None:
        with file_errors(self._staging):
            self._check_claim()
            (self._staging / MANIFEST_NAME).write_bytes(manifest.to_json())
            self._claim.unlink()
            try:
                self._staging.rename(self.path)
            except OSError as error:
                self._claim.touch()  # only what has it is ours to be withdrawn
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise AlreadyExists(f"{self.path} was made meanwhile by other means; publish again") from error
                raise
            self.published = True

    def withdraw(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            # Without our claim somebody has removed the directory. What came since is ours, unless the number is another's now.
            claims = [name for name in os.listdir(self._staging) if is_claim(name)]
            if not claims or self._claim.name in claims:
                remove_directory(self._staging, self.version)

    def _check_claim(self) -> None:
        if not self._claim.exists():
            raise Aborted(f"{self._staging}: somebody has removed what was published; publish again")


def stage_version(base_path: Path, claim: Claim, *, version: int | None = None, known: Iterable[int] = ()) -> StagedVersion:
    """Makes the hidden directory of `version`, or of the next one. AlreadyExists when `version` is another's."""
    with file_errors(base_path):
        base_path.mkdir(parents=True, exist_ok=True)
        while True:
            number = next_version(os.listdir(base_path), known) if version is None else version
            staging = base_path / f"{PUBLISHING_PREFIX}{number}"
            if version is not None and number in _versions(base_path):
                raise AlreadyExists(f"{base_path / str(number)} exists already: leave the number out to get the next one")
            try:
                staging.mkdir()
            except FileExistsError as error:
                if version is not None:
                    raise AlreadyExists(
                        f"{base_path / str(number)} is being published by another: leave the number out to get the next one"
                    ) from error
                continue
            # Its publisher may have been done between the look and the directory.
            if number in _versions(base_path):
                staging.rmdir()
                continue
            name = claim_name(uuid.uuid4().hex)
            (staging / name).write_bytes(claim.to_json())
            return StagedVersion(staging, number, name)


def remove_directory(directory: Path, version: int) -> None:
    """Deletes a version's directory, or what a publisher has left of it. Readers see all of it or nothing."""
    with file_errors(directory):
        hidden = directory
        if not directory.name.startswith(UNPUBLISHING_PREFIX):
            hidden = directory.with_name(f"{UNPUBLISHING_PREFIX}{version}-{uuid.uuid4().hex}")
            directory.rename(hidden)
        shutil.rmtree(hidden)


def _versions(base_path: Path) -> set[int | None]:
    return {parse_version_name(name) for name in os.listdir(base_path)}
