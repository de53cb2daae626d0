"""`s3://bucket/prefix`, as paths and flags give it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cluster.core.errors import InvalidArgument

S3_SCHEME = "s3"

# Amazon's rule; other stores that speak S3 take no more than it allows.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class S3Uri:
    """A bucket and a key in it, or the beginning of keys. `key` is without slashes at its ends, and may be empty."""

    bucket: str
    key: str

    @property
    def folder(self) -> str:
        """What the keys of everything under it begin with."""
        return f"{self.key}/" if self.key else ""


def is_s3_uri(path: str) -> bool:
    return path[: len(S3_SCHEME) + 3].lower() == f"{S3_SCHEME}://"


def parse_s3_uri(path: str) -> S3Uri:
    """Raises InvalidArgument for what names no bucket that there could be; the message does not repeat credentials."""
    bucket, _, key = path[len(S3_SCHEME) + 3 :].partition("/")
    if "@" in bucket:
        raise InvalidArgument(
            "an s3:// path holds credentials: leave them out, and give them by the SDK's variables or profiles"
        )
    if not bucket:
        raise InvalidArgument(f"{path}: there is no bucket: expected s3://bucket/prefix")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise InvalidArgument(
            f"{path}: {bucket!r} is no name of a bucket: expected 3 to 63 lower-case letters, digits, dots and hyphens"
        )
    return S3Uri(bucket, key.strip("/"))
