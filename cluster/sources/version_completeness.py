"""Whether all of a version is there, as far as its files tell.

its files                                        | it is
-------------------------------------------------|----------------------------------------------------------
a manifest, and every file in the size it says   | whole, at once
a manifest, and a file missing or of other size  | waited for
a claim and no manifest                          | waited for: it is being published, or that has died
a checkpoint of which a part is missing          | waited for
anything else                                    | whole once it has been still for a time; nothing here can tell more
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cluster.storage.claim import Purpose, parse_claim
from cluster.storage.storage import StoredFile
from cluster.storage.version_manifest import VersionManifest, is_claim

_SHARD = re.compile(r"(?P<checkpoint>.*)\.data-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})")
_VARIABLES = "variables/variables"


@dataclass(frozen=True, slots=True)
class Completeness:
    """`vouched`: a manifest says that this is all. `lacks`: what is waited for, for an operator; empty: nothing but time."""

    vouched: bool = False
    lacks: str = ""


def completeness_of(files: Sequence[StoredFile], manifest: VersionManifest | None) -> Completeness:
    """What the files of a version say, with its manifest if there is one."""
    if manifest is not None:
        lacks = manifest.missing_from({file.name: file.size_bytes for file in files})
        return Completeness(vouched=not lacks, lacks=lacks)
    if claim := claim_among(files):
        return Completeness(lacks=f"it is being published, or that has died: {claim.name} is there and no manifest")
    return Completeness(lacks=_missing_part({file.name for file in files}))


def claim_among(files: Iterable[StoredFile]) -> StoredFile | None:
    return next((file for file in files if is_claim(file.name)), None)


def claimed_by(content: bytes) -> str:
    """What a claim says of its owner, as what a version waits for; empty when it says nothing that can be read."""
    claim = parse_claim(content)
    doing = "deleted" if claim.purpose is Purpose.UNPUBLISH else "published"
    return f"it is being {doing} by {claim.publisher} since {claim.since}" if claim.publisher else ""


def _missing_part(names: set[str]) -> str:
    """The first part of a checkpoint that is not there beside its others. Tools copy big files last."""
    shards = [match for name in sorted(names) if (match := _SHARD.fullmatch(name))]
    expected = [f"{_VARIABLES}.data-00000-of-00001"] if f"{_VARIABLES}.index" in names and not shards else []
    for shard in shards:
        expected.append(f"{shard['checkpoint']}.index")
        expected += [f"{shard['checkpoint']}.data-{number:05d}-of-{shard['count']}" for number in range(int(shard["count"]))]
    return next((f"{name} is missing" for name in expected if name not in names), "")
