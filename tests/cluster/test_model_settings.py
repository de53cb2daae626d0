"""A server of a native config: what the file says of each model holds, and follows the file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.sample_models import export_hashmap
from servables.warmup.warmup_records import REQUESTS_FILE
from tests.cluster.aspired_server import AspiredServer, wait_until

pytestmark = pytest.mark.timeout(300)

THREE_ROWS = '{"instances": ["a", "a", "a"]}'
TOO_LARGE = "Task size 3 is larger than maximum input batch size 2"

CONFIG = """
models:
  - name: plain
    base_path: {directory}/plain
    platform: hashmap
  - name: batched
    base_path: {directory}/batched
    platform: hashmap
    version_policy: all
    replicas: {replicas}
    batching: {{max_batch_size: {max_batch_size}}}
    warmup: {{replay_records: false}}
  - name: elsewhere
    base_path: {directory}/elsewhere
    platform: hashmap
    node_labels: {node_labels}
"""


class Models:
    """The base paths of three hashmap models and the native config that lists them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "models.yaml"
        for name in ("plain", "batched", "elsewhere"):
            self.export(name, 1)

    def export(self, name: str, version: int) -> None:
        path = export_hashmap(self.directory / "new", version, {"a": name})
        if name == "batched":
            (path / REQUESTS_FILE).write_bytes(b"no records: a version that replays them cannot be loaded")
        (self.directory / name).mkdir(exist_ok=True)
        path.rename(self.directory / name / str(version))

    def configure(self, **fields: Any) -> None:
        new = self.directory / "new.yaml"
        new.write_text(CONFIG.format(directory=self.directory, **fields))
        new.replace(self.file)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(models: Models, state: Path) -> Iterator[AspiredServer]:
    models.configure(replicas=2, max_batch_size=2, node_labels="{pool: nowhere}")
    server = AspiredServer(state, f"--model_config_file={models.file}", "--model_config_file_poll_wait_seconds=1")
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


def replicas(server: AspiredServer, model: str) -> dict[int, int]:
    """How many replicas of each version are ready."""
    (found,) = (known for known in server.status()["models"] if known["name"] == model)
    return {version["version"]: version["replicas_ready"] for version in found["versions"]}


def answer(server: AspiredServer, model: str, version: int = 1) -> str:
    """What three rows are answered with: the value of the first, or the error."""
    status, body = server.post(f"/v1/models/{model}/versions/{version}:predict", THREE_ROWS)
    return str(body["predictions"][0] if status == 200 else body["error"])


def test_every_model_is_served_as_its_own_fields_say(server: AspiredServer) -> None:
    assert (replicas(server, "plain"), replicas(server, "batched")) == ({1: 1}, {1: 2})
    assert (answer(server, "plain"), answer(server, "batched")) == ("plain", TOO_LARGE)


def test_a_model_whose_labels_no_node_has_is_refused_and_holds_nobody_up(server: AspiredServer) -> None:
    (version,) = next(model for model in server.status()["models"] if model["name"] == "elsewhere")["versions"]
    assert (version["state"], version["code"]) == ("END", "RESOURCE_EXHAUSTED")
    assert "no node of the cluster is free to use and has the labels that it asks for" in version["message"]


def test_a_file_that_changes_moves_replicas_at_once_and_tells_the_rest_to_versions_to_come(
    server: AspiredServer, models: Models
) -> None:
    models.configure(replicas=1, max_batch_size=3, node_labels="{}")
    wait_until(lambda: replicas(server, "batched") == {1: 1}, what="one replica of batched")
    server.wait_state("elsewhere", 1, "AVAILABLE")
    assert answer(server, "elsewhere") == "elsewhere"
    assert answer(server, "batched") == TOO_LARGE, "it serves as it was loaded"
    models.export("batched", 2)
    server.wait_state("batched", 2, "AVAILABLE")
    assert (answer(server, "batched", 2), answer(server, "batched", 1)) == ("batched", TOO_LARGE)


def test_no_request_fails_while_replicas_come_and_go(server: AspiredServer, models: Models) -> None:
    answers: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            status, body = server.post("/v1/models/batched/versions/1:predict", '{"instances": ["a"]}')
            answers.append(str(body["predictions"][0] if status == 200 else body["error"]))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for count in (3, 1):
            models.configure(replicas=count, max_batch_size=3, node_labels="{}")
            wait_until(lambda count=count: replicas(server, "batched") == {1: count, 2: count}, what=f"{count} replicas")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert set(answers) == {"batched"}


def test_a_file_that_is_wrong_changes_nothing(server: AspiredServer, models: Models) -> None:
    models.configure(replicas=0, max_batch_size=3, node_labels="{}")
    models.export("plain", 2)
    server.wait_state("plain", 1, "END")  # the source works on
    assert replicas(server, "batched") == {1: 1, 2: 1}
