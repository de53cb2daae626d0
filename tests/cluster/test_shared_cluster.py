"""A server on a Ray cluster that was there before, with GPUs, beside other people's work."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.sample_models import export_hashmap
from tests.cluster.aspired_server import AspiredServer, command, free_port, rest

pytestmark = pytest.mark.timeout(300)

NEIGHBOUR = """
import ray
from ray import serve

@serve.deployment(ray_actor_options={{"num_cpus": 0}})
class Neighbour:
    def __call__(self) -> str:
        return "still here"

ray.init(address="{address}", log_to_driver=False, logging_level="ERROR")
if "{what}" == "deploy":
    serve.start(proxy_location="Disabled")
    serve.run(Neighbour.bind(), name="neighbour", route_prefix=None)
print(serve.get_app_handle("neighbour").remote().result(timeout_s=60))
"""


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    """Two nodes with two logical GPUs each, and a head without."""
    from ray.cluster_utils import Cluster

    small: dict[str, Any] = {"object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False, **small})
    with contextlib.ExitStack() as folders:
        for _ in range(2):
            # Nodes of one machine that share Ray's folder delete each other's unpacked code while it is being used.
            folder = folders.enter_context(tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True))
            cluster.add_node(num_cpus=1, num_gpus=2, temp_dir=folder, **small)
        try:
            yield cluster.address
        finally:
            cluster.shutdown()


def neighbour(address: str, what: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", NEIGHBOUR.format(address=address, what=what)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip().splitlines()[-1]


def config_file(directory: Path, *names: str) -> Path:
    configs = "".join(
        f'config {{ name: "{name}" base_path: "{directory / name}" model_platform: "hashmap" }}\n' for name in names
    )
    path = directory / "models.config"
    path.write_text(f"model_config_list {{ {configs} }}")
    return path


def look_up(server: AspiredServer, model: str) -> Any:
    status, body = server.predict_body(model, '{"instances": ["version"]}')
    assert status == 200, body
    return body["predictions"][0]


@pytest.fixture(scope="module")
def two_models(ray_address: str, models: Path, state: Path) -> Iterator[AspiredServer]:
    for name in ("a", "b"):
        export_hashmap(models / name, 1, {"version": f"{name}1"})
    assert neighbour(ray_address, "deploy") == "still here"
    server = AspiredServer(
        state, f"--model_config_file={config_file(models, 'a', 'b')}", f"--ray_address={ray_address}", "--server_name=shared"
    )
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


def placements(server: AspiredServer, model: str) -> dict[int, tuple[int, int]]:
    (found,) = [each for each in server.status()["models"] if each["name"] == model]
    return {
        version["version"]: (version["replicas_ready"], len(version["nodes"]))
        for version in found["versions"]
        if version["state"] == "AVAILABLE"
    }


def test_every_loaded_version_has_a_replica_on_every_gpu_and_models_share_them(two_models: AspiredServer) -> None:
    assert placements(two_models, "a") == {1: (4, 2)}
    assert placements(two_models, "b") == {1: (4, 2)}
    status = two_models.status()
    assert (status["capacity"]["gpus"], status["reserved"]["gpus"]) == (4, 4)
    assert [node["frontends"] for node in status["nodes"]] == [1, 1, 1]
    assert (look_up(two_models, "a"), look_up(two_models, "b")) == ("a1", "b1")


def test_a_version_is_swapped_on_the_same_gpus(two_models: AspiredServer, models: Path) -> None:
    export_hashmap(models / "a", 2, {"version": "a2"})
    two_models.wait_state("a", 2, "AVAILABLE", 90)
    two_models.wait_state("a", 1, "END", 90)
    assert placements(two_models, "a") == {2: (4, 2)}
    assert look_up(two_models, "a") == "a2"


def test_a_second_server_shares_the_cluster_under_another_name(
    two_models: AspiredServer, ray_address: str, models: Path, state: Path
) -> None:
    flags = (f"--model_base_path={models / 'a'}", "--model_name=a", f"--ray_address={ray_address}")
    taken = command("serve", *flags, "--server_name=shared", f"--port={free_port()}", state=state)
    assert taken.returncode == 1
    assert "already" in taken.stderr
    assert look_up(two_models, "a") == "a2"


def test_stopping_leaves_the_neighbour_alone(two_models: AspiredServer, ray_address: str) -> None:
    two_models.stop()
    assert two_models.process.returncode == 0, two_models.output
    assert neighbour(ray_address, "ask") == "still here"


def test_a_detached_server_is_found_asked_and_shut_down(ray_address: str, models: Path, state: Path) -> None:
    config = config_file(models, "b")
    port = free_port()
    started = command(
        "serve",
        f"--model_config_file={config}",
        f"--ray_address={ray_address}",
        "--server_name=left",
        "--detach",
        "--host=127.0.0.1",
        f"--port={free_port()}",
        f"--rest_api_port={port}",
        state=state,
    )
    assert started.returncode == 0, started.stderr
    try:
        status, body = rest(port, "POST", "/v1/models/b:predict", '{"instances": ["version"]}')
        assert (status, body) == (200, {"predictions": ["b1"]})
    finally:
        stopped = command("shutdown", "--server_name=left", state=state)
    assert stopped.returncode == 0, stopped.stderr
    assert "left" in stopped.stdout
    with pytest.raises(OSError, match="refused"):
        rest(port, "GET", "/v1/models/b")
    assert neighbour(ray_address, "ask") == "still here"
