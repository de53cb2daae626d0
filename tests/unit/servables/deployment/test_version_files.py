"""Where a replica finds its files, and what it counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.config.model_cache_options import ModelCacheOptions
from cluster.core import metric_catalog as catalog
from cluster.core.aspired_version import AspiredVersion
from cluster.core.errors import Aborted, Code, FailedPrecondition, Status
from cluster.core.fetch_progress import FetchProgress
from cluster.core.metrics import MetricCells
from cluster.core.servable_id import ServableId
from cluster.storage.local_storage import LocalStorage
from servables.deployment.version_files import VersionFiles
from tests.fakes.remote_storage import RemoteStorage, fingerprint_in


@pytest.fixture
def path(tmp_path: Path) -> str:
    stored = tmp_path / "store" / "1"
    stored.mkdir(parents=True)
    (stored / "saved_model.pb").write_bytes(os.urandom(1000))
    return str(stored)


def version(path: str, fingerprint: str) -> AspiredVersion:
    return AspiredVersion(ServableId("m", 1), path, fingerprint)


def content(directory: str) -> bytes:
    return Path(directory, "saved_model.pb").read_bytes()


def unheard(progress: FetchProgress) -> None:
    pass


async def test_files_that_this_node_can_open_stay_where_they_are(path: str, tmp_path: Path) -> None:
    options = ModelCacheOptions(str(tmp_path / "cache"))
    files = VersionFiles(version(path, "any"), LocalStorage(), options, MetricCells())
    assert await files.find(unheard) == path
    assert not (tmp_path / "cache").exists()


async def test_other_files_are_fetched_once_and_counted(path: str, tmp_path: Path) -> None:
    storage, cells = RemoteStorage(), MetricCells()
    fetched = version(path, fingerprint_in(storage, path))
    options = ModelCacheOptions(str(tmp_path / "cache"))
    heard: list[FetchProgress] = []
    first = await VersionFiles(fetched, storage, options, cells).find(heard.append)
    assert await VersionFiles(fetched, storage, options, cells).find(unheard) == first
    assert content(first) == content(path)
    assert heard[0].bytes_total == 1000
    assert cells.counter(catalog.FETCHED_BYTES, "m").total == 1000
    assert cells.counter(catalog.MODEL_CACHE_LOOKUPS, "m", "fetch").total == 1
    assert cells.counter(catalog.MODEL_CACHE_LOOKUPS, "m", "hit").total == 1


async def test_a_version_that_cannot_be_fetched_is_counted_and_told(path: str, tmp_path: Path) -> None:
    cells = MetricCells()
    options = ModelCacheOptions(str(tmp_path / "cache"))
    with pytest.raises(Aborted):
        await VersionFiles(version(path, "older"), RemoteStorage(), options, cells).find(unheard)
    assert cells.counter(catalog.MODEL_CACHE_LOOKUPS, "m", "error").total == 1


async def test_errors_of_the_version_name_its_own_path(path: str, tmp_path: Path) -> None:
    storage = RemoteStorage()
    files = VersionFiles(
        version(path, fingerprint_in(storage, path)), storage, ModelCacheOptions(str(tmp_path / "cache")), MetricCells()
    )
    directory = await files.find(unheard)
    refused = files.named(Status(Code.NOT_FOUND, f"no variables in {directory}/variables"))
    assert refused == Status(Code.NOT_FOUND, f"no variables in {path}/variables")


async def test_without_a_flag_the_users_own_cache_is_used(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = RemoteStorage()
    fetched = version(path, fingerprint_in(storage, path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    directory = await VersionFiles(fetched, storage, ModelCacheOptions(), MetricCells()).find(unheard)
    assert Path(directory).is_relative_to(tmp_path / "caches" / "aspired" / "models")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    with pytest.raises(FailedPrecondition, match="set --model_cache_dir"):
        await VersionFiles(fetched, storage, ModelCacheOptions(), MetricCells()).find(unheard)
