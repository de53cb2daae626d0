"""How fast a version comes from an object store: Aspired's fetch beside boto3's own transfer manager."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager

from cluster.core.errors import Internal
from cluster.core.s3_uri import parse_s3_uri
from cluster.model_cache.model_cache import ModelCache
from cluster.storage.s3_storage import S3Storage
from cluster.storage.storage import Tree
from cluster.storage.version_manifest import MANIFEST_NAME, ManifestFile, VersionManifest
from scripts.benchmarks.figure import Figure, Target
from scripts.benchmarks.object_server import BUCKET, object_server
from scripts.benchmarks.scenario import Scenario
from scripts.benchmarks.workbench import Workbench

_MEGABYTE = 1_000_000
_MEMORY = Path("/dev/shm")
_VARIABLES = "variables/variables.data"

VERSIONS: Mapping[str, Mapping[str, int]] = {
    "one object of 512 MB": {_VARIABLES: 512 * _MEGABYTE},
    "one object of 512 MB, with checksums": {_VARIABLES: 512 * _MEGABYTE},
    "2 objects of 64 MB, 200 of 20 kB": {
        **{f"{_VARIABLES}-{number}": 64 * _MEGABYTE for number in range(2)},
        **{f"assets/{number}": 20_000 for number in range(200)},
    },
}
"""What is fetched: sizes by name. The one with checksums has a manifest, which Aspired holds the files to."""


class Fetched(NamedTuple):
    files: Path
    release: Callable[[], None]


Fetch = Callable[[S3Storage, Tree, str, Path], Fetched]


def scenarios() -> list[Scenario]:
    return [Scenario("storage", "fetching versions from a local S3 server, beside boto3's transfer manager", (), _measure)]


def _measure(bench: Workbench) -> list[Figure]:
    # In memory where there is such a directory, so that no disk is measured.
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else bench.work) as work:
        bucket = Path(work, "bucket")
        bucket.mkdir()
        with object_server(bucket) as url, _environment(url):
            return [_figure(bench, Path(work), bucket / str(number), quantity) for number, quantity in enumerate(VERSIONS)]


def _figure(bench: Workbench, work: Path, version: Path, quantity: str) -> Figure:
    with_manifest = quantity.endswith("checksums")
    checksums = _write(version, VERSIONS[quantity], with_manifest)
    found: dict[Fetch, list[float]] = {_by_cache: [], _by_transfer_manager: []}
    for _ in range(bench.rounds):
        for fetch, speeds in found.items():
            speeds.append(_speed(fetch, f"s3://{BUCKET}/{version.name}", work / "fetched", checksums))
    shutil.rmtree(version)
    return Figure(
        scenario="storage",
        quantity=quantity,
        unit="MB/s",
        aspired=tuple(found[_by_cache]),
        peer=tuple(found[_by_transfer_manager]),
        peer_name="boto3's transfer manager",
        target=Target(at_least=0.8),
    )


def _write(version: Path, sizes: Mapping[str, int], with_manifest: bool) -> dict[str, str]:
    """Writes the objects; their checksums by name."""
    checksums = {}
    for name, size_bytes in sizes.items():
        content = os.urandom(size_bytes)
        (version / name).parent.mkdir(parents=True, exist_ok=True)
        (version / name).write_bytes(content)
        checksums[name] = hashlib.sha256(content).hexdigest()
    if with_manifest:
        manifest = VersionManifest(tuple(ManifestFile(name, sizes[name], checksums[name]) for name in sizes))
        (version / MANIFEST_NAME).write_bytes(manifest.to_json())
    return checksums


def _speed(fetch: Fetch, path: str, target: Path, checksums: Mapping[str, str]) -> float:
    """Megabytes a second, of files that have arrived as they are stored."""
    storage = S3Storage()
    tree = storage.tree(path)  # which also has the client made
    begun = time.perf_counter()
    fetched = fetch(storage, tree, path, target)
    took_s = time.perf_counter() - begun
    fetched.release()
    for name, checksum in checksums.items():
        with open(fetched.files / name, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != checksum:
                raise Internal(f"{name} has been fetched wrongly")
    shutil.rmtree(target)
    return tree.size_bytes / _MEGABYTE / took_s


def _by_cache(storage: S3Storage, tree: Tree, path: str, target: Path) -> Fetched:
    cached = ModelCache(target, storage).acquire(path, tree.fingerprint, lambda _: None)
    return Fetched(cached.files, cached.release)


def _by_transfer_manager(storage: S3Storage, tree: Tree, path: str, target: Path) -> Fetched:
    """All objects at once, with what boto3 sets by itself."""
    for file in tree.files:
        (target / file.name).parent.mkdir(parents=True, exist_ok=True)
    with create_transfer_manager(boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT"]), TransferConfig()) as manager:
        transfers = [
            manager.download(BUCKET, f"{parse_s3_uri(path).folder}{file.name}", str(target / file.name)) for file in tree.files
        ]
        for transfer in transfers:
            transfer.result()
    return Fetched(target, lambda: None)


@contextlib.contextmanager
def _environment(url: str) -> Iterator[None]:
    """The server for the SDK in this process, and no credentials that anybody has."""
    ours = {
        "S3_ENDPOINT": url,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
