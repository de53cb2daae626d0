"""What is known of a version where it is published."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.core.errors import DataLoss
from cluster.storage.claim import Claim, Purpose
from cluster.storage.storage import Tree
from cluster.storage.version_manifest import MANIFEST_NAME, is_claim, parse_manifest


class VersionState(enum.Enum):
    """The value is how people read it."""

    PUBLISHED = "published"
    """Its manifest is there, and every file of it."""
    UNMANIFESTED = "unmanifested"
    """Files without a manifest, copied there by other means."""
    BEING_PUBLISHED = "being published"
    """Somebody is writing it, or has died doing so. No server loads it."""
    BEING_UNPUBLISHED = "being unpublished"
    """Somebody is deleting it, or has died doing so: to be deleted once more. No server loads it without its manifest."""
    BROKEN = "broken"
    """Its manifest cannot be read, or tells of files that are not there. No server loads it."""

    @property
    def whole(self) -> bool:
        return self in (VersionState.PUBLISHED, VersionState.UNMANIFESTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedVersion:
    """One version under a base path. `files` and `size_bytes` count what belongs to the model, no manifest and no claim.

    `published_at` is UTC in ISO 8601, and with `publisher` the claim's while there is no manifest: by whom, and since when.
    `reason` says why a version is broken.
    """

    version: int
    path: str
    state: VersionState
    files: int
    size_bytes: int
    published_at: str = ""
    publisher: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""


def assess(version: int, path: str, tree: Tree, manifest: bytes | None, claim: Claim | None) -> PublishedVersion:
    """What a version is, by its files, the content of its manifest and one claim on it, if there are such."""
    model = [file for file in tree.files if file.name != MANIFEST_NAME and not is_claim(file.name)]
    files, size_bytes = len(model), sum(file.size_bytes for file in model)

    def version_in(state: VersionState, publisher: str = "", at: str = "", reason: str = "") -> PublishedVersion:
        return PublishedVersion(
            version=version,
            path=path,
            state=state,
            files=files,
            size_bytes=size_bytes,
            publisher=publisher,
            published_at=at,
            reason=reason,
        )

    if claim is not None and (manifest is None or claim.purpose is Purpose.UNPUBLISH):
        state = VersionState.BEING_PUBLISHED if claim.purpose is Purpose.PUBLISH else VersionState.BEING_UNPUBLISHED
        return version_in(state, claim.publisher, claim.since)
    if manifest is None:
        return version_in(VersionState.UNMANIFESTED)
    try:
        told = parse_manifest(manifest, MANIFEST_NAME)
    except DataLoss as error:
        return version_in(VersionState.BROKEN, reason=error.message)
    missing = told.missing_from({file.name: file.size_bytes for file in model})
    return PublishedVersion(
        version=version,
        path=path,
        state=VersionState.BROKEN if missing else VersionState.PUBLISHED,
        files=files,
        size_bytes=size_bytes,
        published_at=told.published_at,
        publisher=told.publisher,
        annotations=dict(told.annotations or {}),
        reason=missing,
    )
