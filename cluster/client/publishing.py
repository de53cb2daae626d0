"""Publishing for Python: what the `aspired publish`, `versions`, `pull` and `unpublish` commands do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from cluster.client.served_model import ServedModel
from cluster.core.errors import AspiredError
from cluster.publishing.catalog import list_versions
from cluster.publishing.export import read_export
from cluster.publishing.published_version import PublishedVersion
from cluster.publishing.publisher import (
    Publication,
    PublishProgress,
    Step,
    absolute,
    check_base_path,
    publish_export,
)
from cluster.publishing.puller import PulledVersion, pull_version
from cluster.publishing.remover import remove_versions
from cluster.publishing.retention import Removal, check_keep, plan_removal, plan_retention
from cluster.publishing.transfer import TransferProgress
from cluster.storage.storages import Storages


def publish(
    export_dir: str | Path,
    base_path: str | Path,
    *,
    version: int | None = None,
    annotations: Mapping[str, str] | None = None,
    keep: int | None = None,
    platform: str | None = None,
    server: str | Sequence[str] | None = None,
    model: str | None = None,
    timeout_s: float = 300.0,
    progress: Callable[[PublishProgress], None] | None = None,
) -> Publication:
    """Publishes what `export_dir` holds as a new version under `base_path`, a directory or `s3://bucket/prefix`.

        publication = publish("export", "s3://models/chopsticks", server="http://localhost:8501")
        publication.version, publication.signatures

    Nothing is written unless the export is whole. Readers see all of the version or nothing. Without `version` it gets the
    next number, which no other publisher gets. `annotations` are kept in its manifest. `platform` is for what is neither a
    SavedModel nor a TFLite model. `keep` deletes all but the newest so many whole versions afterwards, never one that `server`
    has; without a server it cannot know.

    With `server`, returns once `model` (by default the base path's last part) has the version AVAILABLE there. Raises
    FailedPrecondition with the server's own error if its load fails, DeadlineExceeded after `timeout_s` of waiting; the version
    stays published then. `progress` is called in this thread, several times a second.

    Raises AspiredError: InvalidArgument, FailedPrecondition, NotFound or PermissionDenied for an export that cannot be
    published, AlreadyExists for a `version` that is there, Aborted when the export changes meanwhile, and what the storage
    says. What was written is removed then, as after Ctrl-C; a note on the exception says so, or what is left.
    """
    check_keep(keep)
    storages = Storages()
    base_path = check_base_path(storages, str(base_path))
    export = read_export(export_dir, platform)
    report = progress or (lambda progress: None)
    with _served_model(server, model, base_path) as served:
        known = [status.version for status in served.statuses()] if served else []
        publication = publish_export(
            storages, export, base_path, version=version, known=known, annotations=annotations, progress=report
        )
        there = f"Version {publication.version} is published in {publication.path}"
        if served is not None:
            report(PublishProgress(Step.WAITING, publication.version, _whole(publication)))
            with _but(f"{there}, but {served.server} does not have it"):
                served.wait_until_available(publication.version, timeout_s)
        if keep is None:
            return publication
        with _but(f"{there}, but older ones could not be deleted"):
            return replace(publication, removed=_retain(storages, base_path, keep, served))


def versions(base_path: str | Path) -> tuple[PublishedVersion, ...]:
    """Every version under `base_path`, newest first: those that servers load, and those that are not whole.

    Raises NotFound when the base path is not there, and what the storage says.
    """
    return list_versions(Storages(), absolute(base_path))


def pull(
    base_path: str | Path,
    target_dir: str | Path,
    version: int | None = None,
    *,
    progress: Callable[[TransferProgress], None] | None = None,
) -> PulledVersion:
    """Copies the newest whole version, or `version`, to `target_dir`, with its manifest. All of it comes, or nothing.

    Raises AlreadyExists when `target_dir` holds something, NotFound, FailedPrecondition for a version that is not whole,
    DataLoss for a file that is not what was published, and what the storage says.
    """
    report = progress or (lambda progress: None)
    return pull_version(Storages(), absolute(base_path), Path(absolute(target_dir)), version=version, progress=report)


def unpublish(
    base_path: str | Path,
    versions: int | Iterable[int] = (),
    *,
    keep: int | None = None,
    server: str | Sequence[str] | None = None,
    model: str | None = None,
    force: bool = False,
    dry_run: bool = False,
) -> Removal:
    """Deletes `versions`, and with `keep` all whole ones but the newest so many that are not served. Tells what it deletes.

    What a publisher that died has left goes by its number too. Unless it is forced, FailedPrecondition is raised, and nothing
    deleted, for one of `versions` that `server` has, for the newest whole one when no server is named, and for one that is
    being published since less than an hour. Raises NotFound for a version that is not there. With `dry_run` nothing is deleted.
    """
    check_keep(keep)
    storages = Storages()
    base_path = absolute(base_path)
    storage = storages.writable(base_path)
    with _served_model(server, model, base_path) as served_model:
        found = list_versions(storage, base_path)
        served = served_model.served() if served_model else None
        wanted = [versions] if isinstance(versions, int) else versions
        removal = plan_removal(found, wanted, served, datetime.now(UTC), force=force)
        if keep is not None:
            rest = [version for version in found if version.version not in removal.versions]
            by_age = plan_retention(rest, keep, served)
            removal = replace(by_age, versions=(*removal.versions, *by_age.versions))
    if not dry_run:
        remove_versions(storage, base_path, _of(found, removal))
    return removal


def _retain(storages: Storages, base_path: str, keep: int, served: ServedModel | None) -> Removal:
    storage = storages.writable(base_path)
    found = list_versions(storage, base_path)
    removal = plan_retention(found, keep, served.served() if served else None)
    remove_versions(storage, base_path, _of(found, removal))
    return removal


def _whole(publication: Publication) -> TransferProgress:
    return TransferProgress(publication.files, publication.files, publication.size_bytes, publication.size_bytes)


def _of(found: Sequence[PublishedVersion], removal: Removal) -> list[PublishedVersion]:
    return [version for number in removal.versions for version in found if version.version == number]


@contextlib.contextmanager
def _served_model(server: str | Sequence[str] | None, model: str | None, base_path: str) -> Iterator[ServedModel | None]:
    if server is None:
        yield None
        return
    with ServedModel(server, model or base_path.rpartition("/")[2]) as served:
        yield served


@contextlib.contextmanager
def _but(what: str) -> Iterator[None]:
    """Says of an error what has been done before it."""
    try:
        yield
    except AspiredError as error:
        raise type(error)(f"{what}: {error.message}") from error
