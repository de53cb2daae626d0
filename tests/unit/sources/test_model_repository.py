from __future__ import annotations

from pathlib import Path

import pytest

from cluster.config.model_config import ModelConfig, ModelServerConfig
from cluster.core.errors import NotFound, PermissionDenied
from cluster.sources.model_repository import ModelRepository
from cluster.storage.local_storage import LocalStorage
from tests.fakes.fake_storage import FakeStorage

NOTHING = ModelServerConfig()


def names(models: ModelServerConfig) -> list[str]:
    return [model.name for model in models.models]


def test_every_directory_that_holds_versions_is_a_model(tmp_path: Path) -> None:
    for path in ("b/1", "a/3", "a/notes", "empty", "logs/today", ".hidden/1"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "README").write_text("not a directory")
    models = ModelRepository(str(tmp_path), LocalStorage()).read(NOTHING)
    assert models.models == (ModelConfig("a", str(tmp_path / "a")), ModelConfig("b", str(tmp_path / "b")))


def test_a_known_model_stays_without_versions_until_its_directory_goes(tmp_path: Path) -> None:
    repository = ModelRepository(str(tmp_path), LocalStorage())
    (tmp_path / "a" / "1").mkdir(parents=True)
    known = repository.read(NOTHING)
    (tmp_path / "a" / "1").rmdir()
    assert repository.read(known) == known
    assert repository.read(NOTHING) == NOTHING
    (tmp_path / "a").rmdir()
    assert repository.read(known) == NOTHING


def test_a_repository_that_cannot_be_read_tells_nothing_of_its_models(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        ModelRepository(str(tmp_path / "missing"), LocalStorage()).read(NOTHING)


def test_a_model_that_cannot_be_read_just_now_is_not_gone() -> None:
    storage = FakeStorage()
    for name in ("a", "b"):
        storage.put("/models", name)
        storage.put(f"/models/{name}", "1")
    repository = ModelRepository("/models", storage)
    known = repository.read(NOTHING)
    assert names(known) == ["a", "b"]
    storage.fail("/models/a", PermissionDenied("not now"))
    assert repository.read(known) == known
    assert names(repository.read(NOTHING)) == ["b"]
