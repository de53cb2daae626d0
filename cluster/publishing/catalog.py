"""What lies under a base path: every version, whole or not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from cluster.core.errors import AspiredError, NotFound
from cluster.publishing.published_version import PublishedVersion, VersionState, assess
from cluster.publishing.transfer import THREADS, persistently
from cluster.publishing.version_number import PUBLISHING_PREFIX, UNPUBLISHING_PREFIX, reserved_number
from cluster.storage.claim import Claim, Purpose, parse_claim
from cluster.storage.storage import Storage
from cluster.storage.version_manifest import MANIFEST_NAME, is_claim
from cluster.storage.version_name import parse_version_name


def list_versions(storage: Storage, base_path: str) -> tuple[PublishedVersion, ...]:
    """Every version under the base path, newest first. Raises NotFound when the base path is not there."""
    children = persistently(partial(storage.children, base_path))
    with ThreadPoolExecutor(THREADS, thread_name_prefix="catalog") as pool:
        found = list(pool.map(partial(_look, storage, base_path), children))
    return tuple(sorted((version for version in found if version), key=lambda version: -version.version))


def newest_whole(versions: Iterable[PublishedVersion]) -> PublishedVersion | None:
    return max((version for version in versions if version.state.whole), key=lambda version: version.version, default=None)


def _look(storage: Storage, base_path: str, child: str) -> PublishedVersion | None:
    """The version that a child is; None for other children, and for one that has gone meanwhile."""
    path = storage.join(base_path, child)
    number = reserved_number(child)
    staged, leaving = child.startswith(PUBLISHING_PREFIX), child.startswith(UNPUBLISHING_PREFIX)
    if number is None or not (staged or leaving or parse_version_name(child) is not None):
        return None
    try:
        tree = persistently(partial(storage.tree, path))
        names = [file.name for file in tree.files]
        manifest = persistently(partial(storage.read, storage.join(path, MANIFEST_NAME))) if MANIFEST_NAME in names else None
        claim = _claim_among(storage, path, names)
    except NotFound:
        return None
    if leaving:
        return replace(assess(number, path, tree, manifest, None), state=VersionState.BEING_UNPUBLISHED, reason="")
    # What is staged is no version yet, even with its manifest.
    return assess(number, path, tree, None, claim or Claim()) if staged else assess(number, path, tree, manifest, claim)


def _claim_among(storage: Storage, path: str, names: Iterable[str]) -> Claim | None:
    """The claim on a version; of several, one that deletes it, since that cannot be undone."""
    claims = []
    for name in names:
        if is_claim(name):
            content = b""
            with contextlib.suppress(AspiredError):  # of somebody unknown, then
                content = storage.read(storage.join(path, name))
            claims.append(parse_claim(content))
    return min(claims, key=lambda claim: claim.purpose is not Purpose.UNPUBLISH, default=None)
