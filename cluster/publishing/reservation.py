"""One number under a base path, kept for one publisher until the version is there or given up."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.core.errors import Aborted
from cluster.publishing.export import ExportFile
from cluster.publishing.transfer import Moved
from cluster.storage.version_manifest import ManifestFile, VersionManifest

PIECE_BYTES = 1 << 20


class Reservation(ABC):
    """Nobody else gets `version`. Readers see nothing, or a claim, until `publish` has returned.

    for file in export.files: reservation.upload(file, moved)   # from any thread
    reservation.publish(manifest)                               # or withdraw()
    """

    version: int
    path: str

    @abstractmethod
    def upload(self, file: ExportFile, moved: Moved) -> ManifestFile:
        """Writes one file; may be called again for the same. Raises Aborted when it changes meanwhile."""

    @abstractmethod
    def publish(self, manifest: VersionManifest) -> None:
        """Makes the version what readers take for whole. Raises Aborted when somebody has removed what was written."""

    @abstractmethod
    def withdraw(self) -> None:
        """Removes everything that was written, the number's claim last. May be called again when it has failed."""


@contextmanager
def unchanged(file: ExportFile) -> Iterator[None]:
    """Raises Aborted when the file is another one after the body than it was found to be, or before."""
    before = file.path.stat()
    yield
    after = file.path.stat()
    same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    if not same or after.st_size != file.size_bytes:
        raise Aborted(f"{file.path} changed while it was published: publish again once the export is finished")


def sha256_of(path: Path) -> str:
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
