"""A server of the files in TF Serving's configuration guide (`g3doc/serving_config.md`), as they stand there but for paths."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.sample_models import export_half_plus_two
from tests.cluster.aspired_server import AspiredServer, wait_until

pytestmark = pytest.mark.timeout(300)

MODELS = """
model_config_list {
  config {
    name: 'my_first_model'
    base_path: '/tmp/my_first_model/'
    model_platform: 'tensorflow'
    model_version_policy {
      specific {
        versions: 42
        versions: 43
      }
    }
    version_labels {
      key: 'stable'
      value: 42
    }
    version_labels {
      key: 'canary'
      value: 43
    }
  }
}
"""
MONITORING = """
prometheus_config {
  enable: true,
  path: "/monitoring/prometheus/metrics"
}
"""
BATCHING = """
max_batch_size { value: 128 }
batch_timeout_micros { value: 0 }
max_enqueued_batches { value: 1000000 }
num_batch_threads { value: 8 }
"""
ROWS = '{"instances": [1.0, 2.0, 5.0]}'


class Documented:
    """The guide's files, and the model that they are about; a version adds its number."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.models, self.monitoring, self.batching = (
            directory / name for name in ("models.config", "monitoring.config", "batching.config")
        )
        for version in (42, 43, 44):
            export_half_plus_two(directory / "my_first_model", version, offset=float(version))
        self.configure(MODELS)
        self.monitoring.write_text(MONITORING)
        self.batching.write_text(BATCHING)

    def configure(self, text: str) -> None:
        new = self.directory / "new.config"
        new.write_text(text.replace("/tmp/", f"{self.directory}/"))
        new.replace(self.models)


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Documented:
    return Documented(tmp_path_factory.mktemp("documented"))


@pytest.fixture(scope="module")
def server(documented: Documented, state: Path) -> Iterator[AspiredServer]:
    server = AspiredServer(
        state,
        f"--model_config_file={documented.models}",
        "--model_config_file_poll_wait_seconds=1",
        "--allow_version_labels_for_unavailable_models=true",
        f"--monitoring_config_file={documented.monitoring}",
        "--enable_batching",
        f"--batching_parameters_file={documented.batching}",
    )
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


def version_of(server: AspiredServer, label: str) -> float | str:
    """Which version answers, by what it adds; or why none does."""
    status, answer = server.post(f"/v1/models/my_first_model/labels/{label}:predict", ROWS)
    return float(answer["predictions"][0]) - 0.5 if status == 200 else str(answer["error"])


def test_specific_versions_are_served_and_no_other(server: AspiredServer) -> None:
    for version in (42, 43):
        server.wait_state("my_first_model", version, "AVAILABLE")
    assert server.states("my_first_model") == {43: "AVAILABLE", 42: "AVAILABLE"}
    assert server.post("/v1/models/my_first_model:predict", ROWS) == (200, {"predictions": [43.5, 44.0, 45.5]})


def test_a_label_is_promoted_and_rolled_back_by_its_file(server: AspiredServer, documented: Documented) -> None:
    wait_until(lambda: (version_of(server, "stable"), version_of(server, "canary")) == (42, 43), what="both labels")
    documented.configure(MODELS.replace("value: 42", "value: 43"))
    wait_until(lambda: version_of(server, "stable") == 43, what="stable is 43")
    documented.configure(MODELS)
    wait_until(lambda: version_of(server, "stable") == 42, what="stable is 42 again")
    assert version_of(server, "canary") == 43


def test_metrics_are_where_the_monitoring_file_says(server: AspiredServer) -> None:
    server.post("/v1/models/my_first_model:predict", ROWS)
    with urllib.request.urlopen(f"http://127.0.0.1:{server.rest_port}/monitoring/prometheus/metrics", timeout=30) as answer:
        text = answer.read().decode()
    assert ':tensorflow:serving:request_count{model_name="my_first_model",status="OK"} ' in text
    assert ":tensorflow:serving:batching_session:processed_batch_size_count{} " in text, "requests are batched"
