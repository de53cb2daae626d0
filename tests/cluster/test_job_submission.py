"""A server that a Ray job starts, on a running cluster with Ray's token authentication as it is by default."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.sample_models import export_hashmap
from tests.cluster.aspired_server import ROOT, command, free_port, rest, wait_until

pytestmark = pytest.mark.timeout(600)

RAY = str(Path(sys.executable).with_name("ray"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home directory with a token of its own."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HOME", str(home))
        environment.delenv("RAY_AUTH_MODE")
        environment.delenv("RAY_AUTH_TOKEN")
        subprocess.run([RAY, "get-auth-token", "--generate"], check=True, capture_output=True)
        yield home


def start_node(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [RAY, "start", "--block", "--disable-usage-stats", "--object-store-memory=100000000", *arguments],
        env={**os.environ, "RAY_AUTH_MODE": "token"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def cluster(home: Path) -> Iterator[tuple[str, str]]:
    """A head and a worker node, as people start them; the GCS's address and the dashboard's."""
    gcs, dashboard = f"127.0.0.1:{free_port()}", free_port()
    nodes = [
        start_node(
            "--head",
            "--node-ip-address=127.0.0.1",
            f"--port={gcs.partition(':')[2]}",
            f"--dashboard-port={dashboard}",
            "--dashboard-host=127.0.0.1",
            "--num-cpus=2",
        )
    ]
    try:
        wait_until(lambda: is_listening(dashboard), 60, "the dashboard")
        # Nodes of one machine that share Ray's folder delete each other's unpacked code while it is being used.
        with tempfile.TemporaryDirectory(prefix="ray-") as directory:
            worker = start_node(f"--address={gcs}", "--node-ip-address=127.0.0.1", "--num-cpus=1", f"--temp-dir={directory}")
            nodes.append(worker)
            yield gcs, f"http://127.0.0.1:{dashboard}"
            worker.terminate()
            worker.wait(60)
    finally:
        for node in reversed(nodes):
            node.terminate()
        for node in nodes:
            node.wait(60)


def is_listening(port: int) -> bool:
    try:
        return rest(port, "GET", "/")[0] > 0
    except ValueError:  # an answer, if not JSON
        return True
    except OSError:
        return False


def test_a_job_leaves_a_server_whose_code_reaches_every_node(
    cluster: tuple[str, str], home: Path, tmp_path: Path, state: Path
) -> None:
    gcs, dashboard = cluster
    export_hashmap(tmp_path / "table", 1, {"who": "a job"})
    port = free_port()
    flags = [
        f"--ray_address={gcs}",
        "--detach",
        "--server_name=job",
        "--model_name=table",
        f"--model_config_file={config(tmp_path)}",
        f"--rest_api_port={port}",
        f"--port={free_port()}",
        "--host=127.0.0.1",
    ]
    submission = [RAY, "job", "submit", f"--address={dashboard}", f"--working-dir={working_directory(tmp_path)}", "--"]
    submitted = submit([*submission, sys.executable, "-m", "cluster.main", "serve", *flags])
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert rest(port, "POST", "/v1/models/table:predict", '{"instances": ["who"]}') == (200, {"predictions": ["a job"]})
    wait_until(lambda: len(directories_of("ray::ServeReplica:job.frontend")) == 2, what="a frontend on each node")
    replicas = directories_of("ray::ServeReplica:job.")
    assert len(replicas) == 3
    assert all("working_dir_files" in directory for directory in replicas)
    stopped = command("shutdown", f"--ray_address={gcs}", state=state)
    assert stopped.returncode == 0, stopped.stderr
    with pytest.raises(OSError, match="refused"):
        rest(port, "GET", "/v1/models/table")


def submit(command_line: list[str]) -> subprocess.CompletedProcess[str]:
    """Submits a job and waits for its end; again while the cluster is too young to have anything that takes jobs."""
    submitted: list[subprocess.CompletedProcess[str]] = []

    def taken() -> bool:
        submitted.append(
            subprocess.run(
                command_line,
                env={**os.environ, "RAY_AUTH_MODE": "token"},
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
        )
        return "No available agent" not in submitted[-1].stderr + submitted[-1].stdout

    wait_until(taken, 180, "an agent that takes jobs")
    return submitted[-1]


def config(directory: Path) -> Path:
    path = directory / "models.config"
    path.write_text(
        f'model_config_list {{ config {{ name: "table" base_path: "{directory / "table"}" model_platform: "hashmap" }} }}'
    )
    return path


def working_directory(directory: Path) -> Path:
    """The code alone, as a job would bring it to a cluster where Aspired is not installed."""
    code = directory / "code"
    code.mkdir()
    for package in ("cluster", "servables"):
        (code / package).symlink_to(ROOT / package)
    return code


def directories_of(title: str) -> list[str]:
    """The working directories of the processes with this title."""
    found = subprocess.run(["pgrep", "-f", f"^{title}"], capture_output=True, text=True, check=False).stdout.split()
    return [os.readlink(f"/proc/{pid}/cwd") for pid in found]
