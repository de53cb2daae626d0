"""Versions as numbered directories under a base path (TF Serving: `sources/storage_path/file_system_storage_path_source.cc`).

A version is aspired only once its files are whole and at rest, so that a copy under way is never loaded. The rule is the same
for local disks, network file systems and object stores:

- while something of it is known to be missing (`version_completeness`), it is not;
- new, with a manifest and every file that it lists: at rest from the first look on. So is one whose manifest is new, or whose
  last missing file has come. Files that change under an old manifest must come to rest as others do;
- new, and its newest change is older than `settle_s`: at rest from the first look on (a start waits for nothing);
- else at rest when its fingerprint has stayed the same for `settle_s`. The files' own times say since when it has, unless they
  contradict what was seen: then it is since the first look at this fingerprint.

Until then the policy chooses among the other versions: with `latest`, a half-copied version 3 does not push out version 2.
A version that has been emitted stays as it was emitted while its files change, and is emitted anew, with its new
fingerprint, when they rest again; so a version whose load failed is tried again when its files have been repaired. When
nothing that the policy wants is at rest, the list is left as it is: version 1, deleted before version 2 has fully arrived,
goes on serving.

A copy without a manifest that pauses for longer than `settle_s` is taken for complete. When it goes on, its fingerprint
changes, and the above holds.

A poll costs one listing of the base path. The trees of versions are looked at besides: of those that are not at rest at every
poll, of the others now and then, of those that the policy does not want never. A manifest is read once.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cluster.config.model_config import All, Latest, ModelConfig, Specific, VersionPolicy
from cluster.core.aspired_version import AspiredVersion
from cluster.core.errors import AspiredError, Code, DataLoss, FailedPrecondition, NotFound, Status
from cluster.core.servable_id import ServableId
from cluster.core.source import Source
from cluster.sources.version_completeness import Completeness, claim_among, claimed_by, completeness_of
from cluster.storage.storage import MAX_READ_BYTES, Storage, StoredFile, Tree
from cluster.storage.version_manifest import MANIFEST_NAME, VersionManifest, parse_manifest

logger = logging.getLogger(__name__)

SETTLE_S = 1.5
"""How long a version's files must have been still before it is served."""

# A version at rest is walked again after entries / this many seconds: small trees at every poll, huge ones seldom. Where a walk
# is a request, only the longest interval counts.
_ENTRIES_PER_SECOND = 100
LONGEST_REWALK_S = 10.0

# What an object store says of one version that is true of all of them: the poll fails, and no version for it.
_OF_THE_STORE = frozenset({Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.UNAUTHENTICATED, Code.FAILED_PRECONDITION})

_VERSION_NAME = re.compile(r"\+?[0-9]{1,100}")
_VERSION_MAX = 2**63 - 1


def is_version_name(name: str) -> bool:
    """Whether a child of a base path is a version, by its name."""
    return _VERSION_NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class _Note:
    """What a version's manifest or claim says, read at this tag.

    A claim says what the version waits for; a Status is what is wrong with a manifest; None: it was gone when it was read.
    """

    file: StoredFile
    says: VersionManifest | str | Status | None


@dataclass(frozen=True, slots=True)
class _Sighting:
    """The last look at one version: its files, or why they cannot be read. Found so `since` then, last looked at `walked`.

    `lacks` is what it waits for beside time, `note` what was read of it.
    """

    found: Tree | Status
    since: float
    walked: float
    settled: bool
    lacks: str = ""
    note: _Note | None = None

    def is_like(self, found: Tree | Status) -> bool:
        if isinstance(self.found, Tree) and isinstance(found, Tree):
            return self.found.fingerprint == found.fingerprint
        return self.found == found

    def is_fresh(self, now: float, per_look_s: float) -> bool:
        """Whether what was found may stand without another walk; each is worth `per_look_s` and more for its entries."""
        if not self.settled or not isinstance(self.found, Tree):
            return False
        return now - self.walked < min(max(per_look_s, self.found.entries / _ENTRIES_PER_SECOND), LONGEST_REWALK_S)


@dataclass(slots=True)
class _Stream:
    model: ModelConfig
    sightings: dict[int, _Sighting] = field(default_factory=dict)
    emitted: dict[int, AspiredVersion] = field(default_factory=dict)
    complaints: frozenset[str] = frozenset()
    waiting: tuple[str, ...] = ()


class FileSystemStoragePathSource(Source):
    """Polls the base path of each model. What could not be read, or is not at rest, never takes a version away.

    `settle_s` holds for models whose settings say nothing else. `servable_versions_always_present`: a base path without
    versions is an error, and unloads nothing.
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
        waiting: list[str] = []
        incomplete = False
        for version in wanted:
            if len(usable) == limit:
                break
            try:
                aspired = self._look(known, version, paths[version], now)
            except NotFound:  # deleted since the base path was read
                known.sightings.pop(version, None)
                incomplete = True
                continue
            if reason := self._waits_for(known, known.sightings[version]):
                waiting.append(f"version {version}: {reason}")
            if aspired is None:
                incomplete = True
            else:
                (usable if aspired.status.ok else unreadable).append(aspired)
        known.waiting = tuple(waiting)
        versions = sorted([*usable, *unreadable], key=lambda version: version.id)
        if not versions and incomplete:
            return None
        if not versions and self._always_present:
            raise _refusal_to_empty(known)
        known.emitted = {aspired.id.version: aspired for aspired in versions}
        return tuple(versions)

    def due(self, stream: str, polled: float) -> float | None:
        known = self._streams.get(stream)
        if known is None:
            return None
        restless = (sighting for sighting in known.sightings.values() if not sighting.settled and not sighting.lacks)
        # One that was not settled when it could be was not looked at: the policy does not want it.
        return min((at for sighting in restless if (at := sighting.since + self._settle(known)) > polled), default=None)

    def waiting(self, stream: str) -> Sequence[str]:
        known = self._streams.get(stream)
        return known.waiting if known else ()

    def _settle(self, known: _Stream) -> float:
        settle_s = known.model.settings.settle_s
        return self._settle_s if settle_s is None else settle_s

    def _waits_for(self, known: _Stream, sighting: _Sighting) -> str:
        """Why the version is not emitted as it lies there; empty when it is."""
        if sighting.lacks:
            return sighting.lacks
        if isinstance(sighting.found, Status):
            return sighting.found.message
        return "" if sighting.settled else f"its files have not been still for {self._settle(known):g} s yet"

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
        per_look_s = 0.0 if self._storage.local_path(path) is not None else LONGEST_REWALK_S
        if sighting is None or not sighting.is_fresh(now, per_look_s):
            sighting = known.sightings[version] = self._sight(sighting, path, now, self._settle(known))
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

    def _sight(self, before: _Sighting | None, path: str, now: float, settle_s: float) -> _Sighting:
        found: Tree | Status
        whole, note = Completeness(), None
        try:
            found = self._storage.tree(path)
            note = self._note(path, found, before.note if before else None)
            whole = _completeness(found, note)
            if note is not None and isinstance(note.says, Status):
                found = note.says
        except NotFound:
            raise
        except AspiredError as error:
            if error.code in _OF_THE_STORE and self._storage.local_path(path) is None:
                raise
            found = error.to_status()
        like = before is not None and before.is_like(found)
        if whole.lacks:
            return _Sighting(found, before.since if before and like else now, now, False, whole.lacks, note)
        if whole.vouched and (before is None or before.lacks or before.note != note):
            return _Sighting(found, now, now, settled=True, note=note)
        age_s = found.age_s if isinstance(found, Tree) else None
        if before is None:
            old = age_s is not None and age_s >= settle_s
            return _Sighting(found, _changed(age_s, now), now, settled=old or settle_s <= 0, note=note)
        if not like:
            changed = _changed(age_s, now, since=before.walked)
            return _Sighting(found, changed, now, settled=changed + settle_s <= now, note=note)
        return _Sighting(found, before.since, now, before.settled or before.since + settle_s <= now, note=note)

    def _note(self, path: str, tree: Tree, before: _Note | None) -> _Note | None:
        """The manifest, or else a claim, if there is one; read when its tag is new."""
        manifest = next((file for file in tree.files if file.name == MANIFEST_NAME), None)
        file = manifest or claim_among(tree.files)
        if file is None or (before is not None and before.file == file):
            return before if file is not None else None
        where = self._storage.join(path, file.name)
        if file.size_bytes > MAX_READ_BYTES:
            return _Note(
                file, DataLoss(f"{where} is no manifest: it has {file.size_bytes} bytes").to_status() if manifest else ""
            )
        try:
            content = self._storage.read(where)
            return _Note(file, parse_manifest(content, where) if manifest else claimed_by(content))
        except NotFound:
            return _Note(file, None)
        except DataLoss as error:
            return _Note(file, error.to_status())


def _completeness(tree: Tree, note: _Note | None) -> Completeness:
    if note is not None and note.says is None:
        return Completeness(lacks=f"{note.file.name} was there and is gone")
    if note is not None and isinstance(note.says, str) and note.says:
        return Completeness(lacks=note.says)
    return completeness_of(tree.files, note.says if note is not None and isinstance(note.says, VersionManifest) else None)


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
