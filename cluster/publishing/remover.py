"""Deletes versions so that no reader takes what is left of one for whole."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable
from pathlib import Path

from cluster.core.errors import NotFound
from cluster.publishing.claimed_version import children_of, delete_in_order
from cluster.publishing.published_version import PublishedVersion
from cluster.publishing.publisher import publisher_name, utc_now
from cluster.publishing.staged_version import remove_directory
from cluster.publishing.transfer import persistently
from cluster.publishing.version_number import UNPUBLISHED_PREFIX, next_version, reserved_number
from cluster.storage.claim import Claim, Purpose, claim_name
from cluster.storage.storage import WritableStorage


def remove_versions(storage: WritableStorage, base_path: str, versions: Iterable[PublishedVersion]) -> None:
    """Deletes versions, in this order. Their numbers are not given to others afterwards."""
    for version in versions:
        _keep_number(storage, base_path, version.version)
        _remove(storage, version)


def _remove(storage: WritableStorage, version: PublishedVersion) -> None:
    local = storage.local_path(version.path)
    if local is not None:
        remove_directory(Path(local), version.version)
        return
    # Without a manifest the files would look like a version that was copied by hand: the claim says that they are none.
    claim = claim_name(uuid.uuid4().hex)
    content = Claim(Purpose.UNPUBLISH, publisher_name(), utc_now()).to_json()
    persistently(lambda: storage.write(storage.join(version.path, claim), content))
    with contextlib.suppress(NotFound):
        delete_in_order(storage, version.path, [file.name for file in persistently(lambda: storage.tree(version.path)).files])


def _keep_number(storage: WritableStorage, base_path: str, version: int) -> None:
    """Leaves word of the highest number that was in use, when it goes."""
    children = persistently(lambda: children_of(storage, base_path))
    if next_version(children) != version + 1:
        return
    marker = f"{UNPUBLISHED_PREFIX}{version}"
    persistently(lambda: storage.write(storage.join(base_path, marker), b"Numbers up to this one have been used.\n"))
    lower = [child for child in children if child.startswith(UNPUBLISHED_PREFIX) and (reserved_number(child) or 0) < version]
    if lower:
        persistently(lambda: storage.delete(base_path, lower))
