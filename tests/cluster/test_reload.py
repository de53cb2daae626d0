"""Another model config for a running server: by its file, by RPC, and what of it survives."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc

from scripts.sample_models import export_hashmap
from tests.cluster.aspired_server import AspiredServer, pid_of, wait_until

pytestmark = pytest.mark.timeout(300)

RELOAD_WITHIN_S = 10.0


class Models:
    """A directory with hashmap models `a` and `b`, versions 1 and 2, and the config file that lists some of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "models.config"
        for name in ("a", "b"):
            for version in (1, 2):
                export_hashmap(directory / name, version, {"version": f"{name}{version}"})

    def config(self, *models: str, **labels: int) -> str:
        """`labels` are those of model a."""
        named = " ".join(f'version_labels {{ key: "{label}" value: {version} }}' for label, version in labels.items())
        configs = " ".join(
            f'config {{ name: "{model}" base_path: "{self.directory / model}" model_platform: "hashmap" '
            f"model_version_policy {{ all {{ }} }} {named if model == 'a' else ''} }}"
            for model in models
        )
        return f"model_config_list {{ {configs} }}"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(models: Models, state: Path) -> Iterator[AspiredServer]:
    models.file.write_text(models.config("a", stable=1))
    server = AspiredServer(
        state, f"--model_config_file={models.file}", "--model_config_file_poll_wait_seconds=1", "--max_num_load_retries=0"
    )
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


@pytest.fixture
def reload(server: AspiredServer, models: Models) -> Iterator[Callable[[str], model_management_pb2.ReloadConfigResponse]]:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)

        def reload(config: str) -> model_management_pb2.ReloadConfigResponse:
            request = model_management_pb2.ReloadConfigRequest()
            text_format.Parse(config, request.config)
            return stub.HandleReloadConfigRequest(request, timeout=60)

        yield reload


def look_up(server: AspiredServer, model: str, choice: str = "") -> str:
    """What the model says its version is, or why it cannot be asked."""
    status, body = server.post(f"/v1/models/{model}{choice}:predict", '{"instances": ["version"]}')
    return str(body["predictions"][0] if status == 200 else body["error"])


def test_labels_of_the_first_config_name_versions_as_they_become_available(server: AspiredServer) -> None:
    # Ports open with a model's first version; both versions load at once, and either may be it.
    wait_until(lambda: look_up(server, "a") == "a2", what="version 2 of model a")
    wait_until(lambda: look_up(server, "a", "/labels/stable") == "a1", what="version 1 of model a")
    assert look_up(server, "a", "/labels/canary") == "Unrecognized servable version label: canary"


def test_a_config_file_that_is_rewritten_is_taken_on(server: AspiredServer, models: Models) -> None:
    models.file.write_text(models.config("a", "b", stable=2, canary=1))
    wait_until(lambda: look_up(server, "b") == "b2", RELOAD_WITHIN_S, "model b answers")
    assert (look_up(server, "a", "/labels/stable"), look_up(server, "a", "/labels/canary")) == ("a2", "a1")


def test_a_reload_by_rpc_takes_models_out_and_waits_for_new_ones(
    server: AspiredServer, models: Models, reload: Callable[[str], model_management_pb2.ReloadConfigResponse]
) -> None:
    assert reload(models.config("a", stable=2)).status.error_code == 0
    wait_until(lambda: server.states("b") == {1: "END", 2: "END"}, what="model b is unloaded")
    assert look_up(server, "b") == "Servable not found for request: Latest(b)"
    reload(models.config("a", "b", stable=2))
    assert look_up(server, "b") in ("b1", "b2")  # no waiting: the answer came when the model had a version
    wait_until(lambda: look_up(server, "b") == "b2", what="version 2 of model b")


def test_a_reload_that_may_not_be_changes_nothing(
    server: AspiredServer, models: Models, reload: Callable[[str], model_management_pb2.ReloadConfigResponse]
) -> None:
    for config, code, message in (
        (models.config("b", "a", stable=7), "FAILED_PRECONDITION", "Request to assign label to version 7 of model a, "),
        (models.config("a").replace("hashmap", "tensorflow"), "INVALID_ARGUMENT", "Illegal to change a model's platform. "),
    ):
        with pytest.raises(grpc.RpcError) as raised:
            reload(config)
        assert raised.value.code().name == code
        assert raised.value.details().startswith(message)
    assert (look_up(server, "a", "/labels/stable"), look_up(server, "b")) == ("a2", "b2")


def test_a_new_model_that_cannot_be_served_is_told_and_stalls_nobody(
    server: AspiredServer, models: Models, reload: Callable[[str], model_management_pb2.ReloadConfigResponse]
) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        reload(models.config("a", "missing", "b", stable=2))
    assert raised.value.code() is grpc.StatusCode.UNKNOWN
    assert "1 model(s) did not become available" in raised.value.details()
    assert "Could not find base path" in raised.value.details()
    assert (look_up(server, "a", "/labels/stable"), look_up(server, "b")) == ("a2", "b2")


def test_the_config_in_force_survives_the_control_actors(
    server: AspiredServer, models: Models, reload: Callable[[str], model_management_pb2.ReloadConfigResponse]
) -> None:
    reload(models.config("a", stable=1))
    wait_until(lambda: look_up(server, "b").startswith("Servable not found"), what="model b is gone")
    for actor in ("ControllerActor", "ManagerActor", "SourceActor"):
        os.kill(pid_of(actor), signal.SIGKILL)
    export_hashmap(models.directory / "a", 3, {"version": "a3"})
    wait_until(lambda: look_up(server, "a") == "a3", what="version 3 of model a")
    assert look_up(server, "a", "/labels/stable") == "a1"
    assert [model["name"] for model in server.status()["models"] if model["base_path"]] == ["a"]
    assert look_up(server, "b").startswith("Servable not found")
