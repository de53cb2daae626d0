from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from cluster.actors import source_actor
from cluster.actors.model_config_store import ModelConfigStore
from cluster.actors.source_actor import SourceActor, WatchedModels
from cluster.config import server_config
from cluster.config.batching_parameters import BatchingParameters
from cluster.config.model_config import ModelConfig, ModelServerConfig
from cluster.config.server_config import ModelConfigFile, read_model_server_config
from cluster.core.errors import Code, Status
from cluster.core.events import Event, VersionsAspired
from cluster.sources.file_system_storage_path_source import FileSystemStoragePathSource
from cluster.sources.model_repository import ModelRepository
from cluster.storage.local_storage import LocalStorage
from tests.fakes.fake_actors import InMemoryCheckpointStore, LocalLink, started

PATIENCE_S = 30.0


class ListeningController:
    def __init__(self) -> None:
        self.lists: asyncio.Queue[tuple[str, list[int]]] = asyncio.Queue()
        self.configs: asyncio.Queue[ModelServerConfig] = asyncio.Queue()
        self.errors: asyncio.Queue[str] = asyncio.Queue()
        self.refusal = Status()

    async def handle(self, event: Event) -> None:
        assert isinstance(event, VersionsAspired)
        self.lists.put_nowait((event.stream, [version.id.version for version in event.versions]))

    async def report_source(self, stream: str, error: str) -> None:
        pass

    async def report_models(self, error: str) -> None:
        self.errors.put_nowait(error)

    async def reload(self, models: ModelServerConfig) -> Status:
        self.configs.put_nowait(models)
        return self.refusal

    async def list(self) -> tuple[str, list[int]]:
        return await asyncio.wait_for(self.lists.get(), PATIENCE_S)


def with_versions(directory: Path, name: str, versions: Sequence[int]) -> ModelConfig:
    for version in versions:
        (directory / name / str(version)).mkdir(parents=True)
        (directory / name / str(version) / "saved_model.pb").write_bytes(b"graph")
    return ModelConfig(name, str(directory / name))


def watched(file: Path, first: ModelServerConfig, poll_interval_s: float | None = 0.01) -> WatchedModels:
    return WatchedModels(
        ModelConfigFile(str(file)), poll_interval_s, ModelConfigStore(InMemoryCheckpointStore(), "last", first)
    )


async def source_of(
    controller: ListeningController,
    models: ModelServerConfig,
    watched: WatchedModels | None = None,
    poll_interval_s: float = 0.01,
    settle_s: float = 0.0,
) -> SourceActor:
    make_source = functools.partial(FileSystemStoragePathSource, storage=LocalStorage(), settle_s=settle_s)
    store = ModelConfigStore(InMemoryCheckpointStore(), "models", models)
    actor: SourceActor = await started(SourceActor, make_source, store, LocalLink(controller), poll_interval_s, watched)
    return actor


async def test_a_stream_that_is_added_is_emitted_and_one_that_has_not_changed_is_not_said_again(tmp_path: Path) -> None:
    controller = ListeningController()
    a, b = with_versions(tmp_path, "a", [1]), with_versions(tmp_path, "b", [1, 2])
    source = await source_of(controller, ModelServerConfig((a,)))
    assert await controller.list() == ("a", [1])
    await source.configure(ModelServerConfig((a, b)))
    assert await controller.list() == ("b", [2])
    with_versions(tmp_path, "a", [2])
    assert await controller.list() == ("a", [2])


async def test_with_an_interval_of_0_a_base_path_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_actor, "RESEND_INTERVAL_S", 0.01)
    controller = ListeningController()
    await source_of(controller, ModelServerConfig((with_versions(tmp_path, "a", [1]),)), poll_interval_s=0.0)
    assert await controller.list() == ("a", [1])
    with_versions(tmp_path, "a", [2])
    for _ in range(3):  # the list is said again, and not looked at again
        assert await controller.list() == ("a", [1])


async def test_a_version_that_comes_to_rest_does_not_wait_for_the_next_poll(tmp_path: Path) -> None:
    controller = ListeningController()
    models = ModelServerConfig((with_versions(tmp_path, "a", [1]),))
    await source_of(controller, models, poll_interval_s=3600.0, settle_s=0.5)
    assert await controller.list() == ("a", [1])


async def test_with_a_negative_interval_nothing_is_read(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    models = ModelServerConfig((with_versions(tmp_path, "a", [1]),))
    source = await source_of(ListeningController(), models, poll_interval_s=-1.0)
    assert await source.streams() == ("a",)
    assert asyncio.all_tasks() == before


async def test_a_stream_whose_base_path_changes_is_read_there(tmp_path: Path) -> None:
    controller = ListeningController()
    source = await source_of(controller, ModelServerConfig((with_versions(tmp_path, "a", [1]),)))
    assert await controller.list() == ("a", [1])
    moved = with_versions(tmp_path / "elsewhere", "a", [7])
    await source.configure(ModelServerConfig((moved,)))
    assert await controller.list() == ("a", [7])


async def test_a_stream_that_is_taken_out_is_emitted_no_more(tmp_path: Path) -> None:
    controller = ListeningController()
    a, b = with_versions(tmp_path, "a", [1]), with_versions(tmp_path, "b", [1])
    source = await source_of(controller, ModelServerConfig((a, b)))
    assert {(await controller.list())[0], (await controller.list())[0]} == {"a", "b"}
    await source.configure(ModelServerConfig((b,)))
    with_versions(tmp_path, "a", [2])
    with_versions(tmp_path, "b", [2])
    assert await controller.list() == ("b", [2])


async def test_a_config_file_that_says_something_else_is_taken_on_and_a_bad_one_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "models.config"

    def write(text: str) -> None:
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").replace(file)

    def config(name: str) -> str:
        return f'model_config_list {{ config {{ name: "{name}" base_path: "{tmp_path}" model_platform: "tensorflow" }} }}'

    write(config("a"))
    first = read_model_server_config(str(file))
    controller = ListeningController()
    source = await source_of(controller, first, watched(file, first))
    with caplog.at_level(logging.ERROR):
        write("model_config_list { config { nme: 'a' } }")
        while "nme" not in caplog.text:
            await asyncio.sleep(0)
    assert controller.configs.empty()
    write(config("b"))
    assert await asyncio.wait_for(controller.configs.get(), PATIENCE_S) == ModelServerConfig((ModelConfig("b", str(tmp_path)),))
    assert await source.streams() == ("a",)


async def test_a_native_config_file_is_followed_too_down_to_a_models_settings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "models.yaml"

    def write(fields: str) -> None:
        (tmp_path / "new").write_text(f"models:\n- {{name: a, base_path: {tmp_path}{fields}}}")
        (tmp_path / "new").replace(file)

    write("")
    first = read_model_server_config(str(file))
    controller = ListeningController()
    await source_of(controller, first, watched(file, first))
    with caplog.at_level(logging.ERROR):
        write(", replicas: 0")
        while f"{file}:2: models[0].replicas: expected 1 or more" not in caplog.text:
            await asyncio.sleep(0)
    assert controller.configs.empty()
    write(", batching: {max_batch_size: 4}")
    (model,) = (await asyncio.wait_for(controller.configs.get(), PATIENCE_S)).models
    assert model.settings.serving.batching == BatchingParameters(max_batch_size=4)


async def test_a_config_file_that_says_nothing_changes_nothing_but_an_empty_list_is_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is being rewritten may be empty for a moment."""
    read = asyncio.Event()
    loop = asyncio.get_running_loop()

    def observed(path: str) -> ModelServerConfig:
        models = read_model_server_config(path)
        loop.call_soon_threadsafe(read.set)
        return models

    monkeypatch.setattr(server_config, "read_model_server_config", observed)
    file = tmp_path / "models.config"
    first = ModelServerConfig((ModelConfig("a", str(tmp_path)),))
    controller = ListeningController()
    file.write_text("# nothing yet")
    await source_of(controller, first, watched(file, first))
    await asyncio.wait_for(read.wait(), PATIENCE_S)
    (tmp_path / "new").write_text("model_config_list { }")
    (tmp_path / "new").replace(file)
    assert await asyncio.wait_for(controller.configs.get(), PATIENCE_S) == ModelServerConfig()


async def test_what_is_wrong_with_a_config_file_is_told_until_it_is_right(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    first = ModelServerConfig((ModelConfig("a", str(tmp_path)),))
    controller = ListeningController()
    controller.refusal = Status(Code.FAILED_PRECONDITION, "no such version")
    file.write_text("models: [")
    await source_of(controller, first, watched(file, first))
    broken = await asyncio.wait_for(controller.errors.get(), PATIENCE_S)
    assert broken.startswith(f"model config: {file}:2: not valid YAML: ")

    def write(text: str) -> None:
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").replace(file)

    write(f"models: [{{name: b, base_path: {tmp_path}}}]")
    assert await asyncio.wait_for(controller.errors.get(), PATIENCE_S) == "model config: no such version"
    controller.refusal = Status()
    write(f"models: [{{name: c, base_path: {tmp_path}}}]")
    assert await asyncio.wait_for(controller.errors.get(), PATIENCE_S) == ""


async def test_a_reload_takes_a_file_on_again_that_is_not_polled_or_has_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(f"models: [{{name: a, base_path: {tmp_path}}}]")
    first = read_model_server_config(str(file))
    controller = ListeningController()
    source = await source_of(controller, first, watched(file, first, poll_interval_s=None))
    assert await source.reload_models() == Status()
    assert controller.configs.get_nowait() == first
    file.write_text("models: 3")
    assert (await source.reload_models()).code is Code.INVALID_ARGUMENT
    assert controller.configs.empty()


async def test_without_a_file_or_a_repository_there_is_nothing_to_read_again(tmp_path: Path) -> None:
    source = await source_of(ListeningController(), ModelServerConfig((ModelConfig("a", str(tmp_path)),)))
    status = await source.reload_models()
    assert (status.code, status.message.split(":")[0]) == (
        Code.FAILED_PRECONDITION,
        "The server was started without --model_config_file and --model_repository",
    )


async def test_models_of_a_repository_come_and_go(tmp_path: Path) -> None:
    controller = ListeningController()
    unseen = ModelServerConfig(unset=True)
    last = ModelConfigStore(InMemoryCheckpointStore(), "last", unseen)
    await source_of(controller, unseen, WatchedModels(ModelRepository(str(tmp_path), LocalStorage()), 0.01, last))
    assert await asyncio.wait_for(controller.configs.get(), PATIENCE_S) == ModelServerConfig()
    with_versions(tmp_path, "a", [1])
    assert await asyncio.wait_for(controller.configs.get(), PATIENCE_S) == ModelServerConfig(
        (ModelConfig("a", str(tmp_path / "a")),)
    )
    (tmp_path / "a").rename(tmp_path / ".a")
    assert await asyncio.wait_for(controller.configs.get(), PATIENCE_S) == ModelServerConfig()
