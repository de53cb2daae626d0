"""A directory of models, which come and go while the server runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.sample_models import export_half_plus_two
from tests.cluster.aspired_server import AspiredServer, command, wait_until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("repository")
    export_half_plus_two(directory / "first", 1)
    (directory / "notes").mkdir()
    return directory


@pytest.fixture(scope="module")
def server(repository: Path, state: Path) -> Iterator[AspiredServer]:
    server = AspiredServer(state, f"--model_repository={repository}")
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


def models(server: AspiredServer) -> list[str]:
    return [model["name"] for model in server.get("/v1/models")[1]["models"]]


def test_the_ports_open_when_the_models_that_are_there_are_available(server: AspiredServer) -> None:
    assert server.predict("first", [1.0]) == (200, {"predictions": [2.5]})
    assert models(server) == ["first"]
    assert [model["name"] for model in server.get("/v1/config")[1]["models"]] == ["first"]


def test_a_model_that_is_added_is_served_and_one_that_is_removed_goes(server: AspiredServer, repository: Path) -> None:
    export_half_plus_two(repository / "second", 1)
    wait_until(lambda: server.predict("second", [1.0])[0] == 200, what="the second model")
    shutil.rmtree(repository / "first")
    wait_until(lambda: server.predict("first", [1.0])[0] == 404, what="the first model is gone")
    assert server.predict("second", [1.0])[0] == 200


def test_a_repository_that_is_away_takes_nothing_with_it(server: AspiredServer, repository: Path, state: Path) -> None:
    away = repository.with_name("away")
    repository.rename(away)
    try:
        wait_until(lambda: bool(server.status()["models_error"]), what="the status says what is wrong")
        assert server.status()["models_error"].startswith(f"model repository: {repository}: ")
        assert "model repository: " in command("status", state=state).stdout
        assert server.predict("second", [1.0])[0] == 200
    finally:
        away.rename(repository)
    wait_until(lambda: not server.status()["models_error"], what="the repository is there again")
