"""Writes an export under a base path, as a new version."""

from __future__ import annotations

import enum
import getpass
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cluster.core.errors import AlreadyExists, AspiredError, InvalidArgument
from cluster.publishing.claimed_version import children_of, claim_version
from cluster.publishing.export import Export
from cluster.publishing.reservation import Reservation
from cluster.publishing.retention import Removal
from cluster.publishing.staged_version import stage_version
from cluster.publishing.transfer import TransferProgress, transfer
from cluster.publishing.version_number import check_version, next_version
from cluster.storage.claim import Claim, Purpose
from cluster.storage.storages import Storages
from cluster.storage.version_manifest import VersionManifest
from cluster.storage.version_name import parse_version_name
from servables.signatures import Signature


class Step(enum.Enum):
    UPLOADING = "uploading"
    WAITING = "waiting"
    """Published; the server that was named is asked until it has the version."""


@dataclass(frozen=True, slots=True)
class PublishProgress:
    """How far a publication is. While it waits, everything has been transferred."""

    step: Step
    version: int
    transfer: TransferProgress


@dataclass(frozen=True, slots=True)
class Publication:
    """A version that is there. `path` is where; `files` and `size_bytes` count what belongs to the model.

    `removed` says which older versions were deleted, if that was asked for; `remarks` are those of the `Export`.
    """

    version: int
    path: str
    files: int
    size_bytes: int
    signatures: Mapping[str, Signature] = field(default_factory=dict)
    removed: Removal | None = None
    remarks: tuple[str, ...] = ()


def publish_export(
    storages: Storages,
    export: Export,
    base_path: str,
    *,
    version: int | None = None,
    known: Iterable[int] = (),
    annotations: Mapping[str, str] | None = None,
    progress: Callable[[PublishProgress], None] = lambda progress: None,
) -> Publication:
    """Publishes under `version`, or under the next number above all that are there and all that are `known`.

    Whatever ends it before the version is there, an interrupt too, what was written is removed; a note on the exception says
    so, or what is there.
    """
    reservation = reserve(storages, base_path, version, known)
    try:
        files = transfer(
            export.files,
            reservation.upload,
            lambda transferred: progress(PublishProgress(Step.UPLOADING, reservation.version, transferred)),
        )
        reservation.publish(
            VersionManifest(tuple(files), published_at=utc_now(), publisher=publisher_name(), annotations=annotations)
        )
    except BaseException as error:
        error.add_note(_withdraw(reservation, base_path))
        raise
    return Publication(
        reservation.version, reservation.path, len(files), export.size_bytes, export.signatures, remarks=export.remarks
    )


def check_base_path(storages: Storages, base_path: str) -> str:
    """The base path as storages take it: local ones absolute. Raises InvalidArgument for a version's own path, and what
    `Storages.writable` raises for one that cannot be written to.
    """
    base_path = absolute(base_path)
    parent, _, name = base_path.rstrip("/").rpartition("/")
    if parse_version_name(name) is not None:
        raise InvalidArgument(
            f"{base_path} is the path of a version, not the base path that holds a model's versions: give {parent}, "
            f"and --version={name} if it is to be that one"
        )
    storages.writable(base_path)
    return base_path


def absolute(path: str | Path) -> str:
    """A path without a scheme from the root on; others as they are, without a slash at the end."""
    return str(path).rstrip("/") if "://" in str(path) else os.path.abspath(path)


def number_to_be(storages: Storages, base_path: str, version: int | None) -> int:
    """The number that a publication would get now, were nobody else at it. Raises AlreadyExists as `publish_export` does."""
    children = children_of(storages.writable(base_path), base_path)
    if version is None:
        return next_version(children)
    if check_version(version) in map(parse_version_name, children):
        raise AlreadyExists(f"{base_path}/{version} exists already: leave the number out to get the next one")
    return version


def publisher_name() -> str:
    """Who publishes, for claims and manifests: user@host, and the process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()} (pid {os.getpid()})"


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def reserve(storages: Storages, base_path: str, version: int | None, known: Iterable[int]) -> Reservation:
    """Keeps `version`, or the next number, for this process, as the storage allows."""
    storage = storages.writable(base_path)
    claim = Claim(Purpose.PUBLISH, publisher_name(), utc_now())
    wanted = None if version is None else check_version(version)
    local = storage.local_path(base_path)
    if local is None:
        return claim_version(storage, base_path, claim, version=wanted, known=known)
    return stage_version(Path(local), claim, version=wanted, known=known)


def _withdraw(reservation: Reservation, base_path: str) -> str:
    """What has become of a version that its publisher could not finish, for people."""
    if reservation.published:
        return f"Version {reservation.version} is published in {reservation.path}."
    try:
        reservation.withdraw()
    except (AspiredError, KeyboardInterrupt) as error:
        return (
            f"What was written of version {reservation.version} is still there ({str(error) or 'interrupted'}); remove it "
            f"with: aspired unpublish {base_path} {reservation.version}"
        )
    return f"What was written of version {reservation.version} has been removed."
