"""Claims: small files that keep a version's number for somebody who is writing or deleting it.

To get a number on an object store, a publisher writes its claim into the version's directory and then lists it: the number
is its own if nothing else is there. Of two that do so at once at least one sees the other, since each has written before it
lists. Who sees another withdraws; when both do, each tries again after a pause of its own.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable
from dataclasses import dataclass

from cluster.storage.version_manifest import CLAIM_PREFIX


class Purpose(enum.Enum):
    PUBLISH = "publish"
    UNPUBLISH = "unpublish"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim says. `since` is UTC in ISO 8601, `publisher` says who and where; both are empty if it cannot be read."""

    purpose: Purpose = Purpose.PUBLISH
    publisher: str = ""
    since: str = ""

    def to_json(self) -> bytes:
        return json.dumps({"purpose": self.purpose.value, "publisher": self.publisher, "since": self.since}).encode() + b"\n"


def claim_name(unique: str) -> str:
    return f"{CLAIM_PREFIX}{unique}"


def parse_claim(content: bytes) -> Claim:
    """A claim that makes no sense is one all the same: of somebody unknown. One without a purpose is a publisher's."""
    try:
        document = json.loads(content)
        return Claim(Purpose(document.get("purpose", "publish")), str(document["publisher"]), str(document["since"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Claim()


def owns(names: Iterable[str], claim: str) -> bool:
    """Whether a listing of the version's files, made after the claim was written, gives the number to this claim."""
    return set(names) == {claim}
