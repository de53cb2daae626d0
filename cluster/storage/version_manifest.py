"""What says that a version is whole: a manifest, written last by whoever publishes it.

A publisher to an object store first writes a claim into the version's directory, a small file of a name of its own; then the
files; then the manifest; then it deletes its claim. Readers take a version

- with a manifest when every file that it lists is there in its size;
- with a claim and no manifest, never: somebody is publishing it, or has died doing so;
- with neither, when its listing has been still for a time (see `FileSystemStoragePathSource`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.core.errors import DataLoss

MANIFEST_NAME = "aspired_manifest.json"
CLAIM_PREFIX = "aspired_claim_"
_FORMAT = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file that belongs to the version. `name` is relative to its directory, `sha256` is in lower-case hex."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class VersionManifest:
    """All files of one version but the manifest itself. `published_at` is UTC in ISO 8601, `publisher` says who and where.

    `annotations` are the publisher's own words about the version: the commit, the metrics it was chosen by.
    """

    files: tuple[ManifestFile, ...]
    published_at: str = ""
    publisher: str = ""
    annotations: Mapping[str, str] | None = None

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    def file(self, name: str) -> ManifestFile | None:
        return next((file for file in self.files if file.name == name), None)

    def to_json(self) -> bytes:
        document = {
            "format": _FORMAT,
            "published_at": self.published_at,
            "publisher": self.publisher,
            "annotations": dict(self.annotations or {}),
            "files": [{"name": file.name, "size_bytes": file.size_bytes, "sha256": file.sha256} for file in self.files],
        }
        return json.dumps(document, indent=1).encode() + b"\n"

    def missing_from(self, sizes: Mapping[str, int]) -> str:
        """The first thing in which a listing (name -> size in bytes) falls short of the manifest; empty when it is whole."""
        for file in self.files:
            size_bytes = sizes.get(file.name)
            if size_bytes is None:
                return f"{file.name} is missing"
            if size_bytes != file.size_bytes:
                return f"{file.name} has {size_bytes} bytes, not {file.size_bytes}"
        return ""


def parse_manifest(content: bytes, path: str) -> VersionManifest:
    """Raises DataLoss, naming `path`, for what is not a manifest of a format that is known."""
    try:
        document = json.loads(content)
        if document["format"] != _FORMAT:
            raise DataLoss(f"{path}: format {document['format']!r} is not known; a newer Aspired has written it")
        files = tuple(_file(entry) for entry in document["files"])
        annotations = {str(key): str(value) for key, value in dict(document.get("annotations") or {}).items()}
        return VersionManifest(files, str(document.get("published_at", "")), str(document.get("publisher", "")), annotations)
    except (ValueError, KeyError, TypeError) as error:
        raise DataLoss(f"{path} is not a manifest: {type(error).__name__}: {error}") from error


def is_claim(name: str) -> bool:
    """Whether a file right in a version's directory is the claim of a publisher, by its name."""
    return name.startswith(CLAIM_PREFIX)


def _file(entry: Any) -> ManifestFile:
    name, size_bytes, sha256 = entry["name"], entry["size_bytes"], entry["sha256"]
    if not isinstance(name, str) or not is_safe_name(name):
        raise ValueError(f"{name!r} is no name of a file in a version")
    if type(size_bytes) is not int or size_bytes < 0:
        raise ValueError(f"{name}: size_bytes is {size_bytes!r}")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise ValueError(f"{name}: sha256 is {sha256!r}")
    return ManifestFile(name, size_bytes, sha256)


def is_safe_name(name: str) -> bool:
    """Whether a relative name stays under the directory that it is put in, wherever it came from."""
    parts = name.split("/")
    return "\0" not in name and "\\" not in name and all(part not in ("", ".", "..") for part in parts)
