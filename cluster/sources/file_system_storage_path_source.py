"""Versions as numbered directories under a base path (TF Serving: `sources/storage_path/file_system_storage_path_source.cc`).

A version is aspired only once its files have come to rest, so that a copy under way is never loaded:

- new, and its newest change is older than `settle_s`: at rest from the first look on (a start waits for nothing);
- else at rest when its fingerprint has stayed the same for `settle_s`. The files' own times say since when it has, unless they
  contradict what was seen: then it is since the first look at this fingerprint.

Until then the policy chooses among the other versions: with `latest`, a half-copied version 3 does not push out version 2.
A version that has been emitted stays as it was emitted while its files change, and is emitted anew, with its new
fingerprint, when they rest again; so a version whose load failed is tried again when its files have been repaired. When
nothing that the policy wants is at rest, the list is left as it is: version 1, deleted before version 2 has fully arrived,
goes on serving.

A copy that pauses for longer than `settle_s` is taken for complete. When it goes on, its fingerprint changes, and the above
holds.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cluster.config.model_config import All, Latest, ModelConfig, Specific, VersionPolicy
from cluster.core.aspired_version import AspiredVersion
from cluster.core.errors import AspiredError, FailedPrecondition, NotFound, Status
from cluster.core.servable_id import ServableId
from cluster.core.source import Source
from cluster.storage.storage import Storage, Tree

logger = logging.getLogger(__name__)

SETTLE_S = 1.5
"""How long a version's files must have been still before it is served."""

# A version at rest is walked again after entries / this many seconds: small trees at every poll, huge ones seldom.
_ENTRIES_PER_SECOND = 100
_LONGEST_REWALK_S = 10.0

_VERSION_NAME = re.compile(r"\+?[0-9]{1,100}")
_VERSION_MAX = 2**63 - 1


def is_version_name(name: str) -> bool:
    """Whether a child of a base path is a version, by its name."""
    return _VERSION_NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class _Sighting:
    """The last look at one version: its files, or why they cannot be read. Found so `since` then, last looked at `walked`."""

    found: Tree | Status
    since: float
    walked: float
    settled: bool

    def is_like(self, found: Tree | Status) -> bool:
        if isinstance(self.found, Tree) and isinstance(found, Tree):
            return self.found.fingerprint == found.fingerprint
        return self.found == found

    def is_fresh(self, now: float) -> bool:
        """Whether what was found may stand without another walk."""
        if not self.settled or not isinstance(self.found, Tree):
            return False
        return now - self.walked < min(self.found.entries / _ENTRIES_PER_SECOND, _LONGEST_REWALK_S)


@dataclass(slots=True)
class _Stream:
    model: ModelConfig
    sightings: dict[int, _Sighting] = field(default_factory=dict)
    emitted: dict[int, AspiredVersion] = field(default_factory=dict)
    complaints: frozenset[str] = frozenset()


class FileSystemStoragePathSource(Source):
    """Polls the base path of each model. What could not be read, or is not at rest, never takes a version away.

    `servable_versions_always_present`: a base path without versions is an error, and unloads nothing.
    """

    def __init__(
        self,
        models: Iterable[ModelConfig],
        storage: Storage,
        *,
        settle_s: float = SETTLE_S,
        servable_versions_always_present: bool = False,
    ) -> None:
        self._streams = {model.name: _Stream(model) for model in models}
        self._storage = storage
        self._settle_s = settle_s
        self._always_present = servable_versions_always_present

    def streams(self) -> Sequence[str]:
        return tuple(self._streams)

    def poll(self, stream: str, now: float) -> Sequence[AspiredVersion] | None:
        known = self._streams.get(stream)
        if known is None:
            raise NotFound(f"There is no stream {stream}")
        model = known.model
        paths, complaints = self._version_paths(model)
        self._complain(known, complaints)
        for version in known.sightings.keys() - paths.keys():
            del known.sightings[version]

        wanted, limit = _preference(model.version_policy, paths)
        usable: list[AspiredVersion] = []
        unreadable: list[AspiredVersion] = []
        restless = False
        for version in wanted:
            if len(usable) == limit:
                break
            try:
                aspired = self._look(known, version, paths[version], now)
            except NotFound:  # deleted since the base path was read
                continue
            if aspired is None:
                restless = True
            else:
                (usable if aspired.status.ok else unreadable).append(aspired)
        versions = sorted([*usable, *unreadable], key=lambda version: version.id)
        if not versions and restless:
            return None
        if not versions and self._always_present:
            raise _refusal_to_empty(known)
        known.emitted = {aspired.id.version: aspired for aspired in versions}
        return tuple(versions)

    def due(self, stream: str, polled: float) -> float | None:
        known = self._streams.get(stream)
        restless = (sighting for sighting in known.sightings.values() if not sighting.settled) if known else ()
        # One that was not settled when it could be was not looked at: the policy does not want it.
        return min((at for sighting in restless if (at := sighting.since + self._settle_s) > polled), default=None)

    def _version_paths(self, model: ModelConfig) -> tuple[dict[int, str], frozenset[str]]:
        """The path of each version that is there, and what is wrong with them."""
        try:
            names = sorted(self._storage.children(model.base_path))
        except NotFound as error:
            raise NotFound(f"Could not find base path {model.base_path} for servable {model.name}") from error
        paths: dict[int, str] = {}
        complaints = set()
        for name in names:
            version = _parse_version(name)
            if version is None:
                continue
            path = self._storage.join(model.base_path, name)
            # In sorted order, the plainly written number comes last.
            if version in paths:
                complaints.add(f"{paths[version]} and {path} are one version: the latter counts")
            paths[version] = path
        if isinstance(model.version_policy, Specific):
            missing = sorted(model.version_policy.versions - paths.keys())
            if missing:
                complaints.add(f"versions {missing} of model {model.name} are not in {model.base_path}")
            if not model.version_policy.versions:
                complaints.add(f"model {model.name} lists no specific versions: nothing of it is served")
        elif not paths:
            complaints.add(f"No versions of servable {model.name} found under base path {model.base_path}")
        return paths, frozenset(complaints)

    def _complain(self, known: _Stream, complaints: frozenset[str]) -> None:
        for complaint in sorted(complaints - known.complaints):
            logger.warning("%s", complaint)
        known.complaints = complaints

    def _look(self, known: _Stream, version: int, path: str, now: float) -> AspiredVersion | None:
        """The version as it is to be emitted; None while it is not at rest. Raises NotFound when it is there no longer."""
        sighting = known.sightings.get(version)
        if sighting is None or not sighting.is_fresh(now):
            sighting = known.sightings[version] = self._sight(sighting, path, now)
        emitted = known.emitted.get(version)
        if not sighting.settled:
            return emitted
        servable = ServableId(known.model.name, version)
        if isinstance(sighting.found, Tree):
            found, model = sighting.found, known.model
            return AspiredVersion(
                servable,
                path,
                found.fingerprint,
                found.size_bytes,
                platform=model.platform,
                settings=model.settings.serving,
            )
        # What has been read once is not taken back because the storage stumbles.
        if emitted is not None and emitted.status.ok:
            return emitted
        return AspiredVersion(servable, path, status=sighting.found, platform=known.model.platform)

    def _sight(self, before: _Sighting | None, path: str, now: float) -> _Sighting:
        found: Tree | Status
        try:
            found = self._storage.tree(path)
        except NotFound:
            raise
        except AspiredError as error:
            found = error.to_status()
        age_s = found.age_s if isinstance(found, Tree) else None
        if before is None:
            old = age_s is not None and age_s >= self._settle_s
            return _Sighting(found, _changed(age_s, now), now, settled=old or self._settle_s <= 0)
        if not before.is_like(found):
            changed = _changed(age_s, now, since=before.walked)
            return _Sighting(found, changed, now, settled=changed + self._settle_s <= now)
        return _Sighting(found, before.since, now, settled=before.settled or before.since + self._settle_s <= now)


def _changed(age_s: float | None, now: float, since: float = -math.inf) -> float:
    """When files of this age were last changed, which did change after `since`; `now` when their age cannot be right."""
    return now - age_s if age_s is not None and 0 <= age_s <= now - since else now


def _refusal_to_empty(known: _Stream) -> AspiredError:
    model = known.model
    if known.emitted:
        return FailedPrecondition(f"Refusing to unload all versions for Servable: {model.name}")
    return NotFound(f"Unable to find a numerical version path for servable {model.name} at: {model.base_path}")


def _preference(policy: VersionPolicy, present: Iterable[int]) -> tuple[list[int], int | None]:
    """The versions that a policy may choose, best first, and how many of them it wants; None for all."""
    newest_first = sorted(present, reverse=True)
    match policy:
        case Latest(num_versions):
            return newest_first, num_versions
        case All():
            return newest_first, None
        case Specific(versions):
            return [version for version in newest_first if version in versions], None


def _parse_version(name: str) -> int | None:
    """The number that a directory's name stands for: `00000123` is 123. None for a name that is no version."""
    if not is_version_name(name):
        return None
    version = int(name)
    return version if version <= _VERSION_MAX else None
