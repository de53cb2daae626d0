"""The loop that retrains and publishes, beside a server that has the model from a directory and from a bucket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from cluster.client import Client, VersionState, publish, versions
from scripts import export_measurements
from scripts.measurements import generate_measurements
from scripts.retrain import ask
from scripts.sample_models import export_chopsticks
from scripts.validation import score
from tests.cluster.aspired_server import ROOT, AspiredServer, command, environment
from tests.fakes.s3_server import S3Server

pytestmark = pytest.mark.timeout(300)

NOTEBOOK = ROOT / "docs" / "notebooks" / "retraining.ipynb"
# What a kernel does, as far as this notebook needs it.
RUN_NOTEBOOK = """
import json, sys
names = {"__name__": "__main__"}
for number, cell in enumerate(json.load(open(sys.argv[1]))["cells"], start=1):
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
"""
CONFIG = """
model_config_list {{
  config {{ name: "chopsticks" base_path: "{chopsticks}" model_platform: "tensorflow" }}
  config {{ name: "chopsticks_in_s3" base_path: "{chopsticks_in_s3}" model_platform: "tensorflow" }}
}}
"""


@dataclass(frozen=True)
class Loop:
    """Where one model's data and versions lie."""

    model: str
    data: str
    base_path: str


@pytest.fixture(scope="module")
def loops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Loop]]:
    """Two months of data and a version that knows the first, in a directory and in a bucket that every process can reach."""
    home = tmp_path_factory.mktemp("loop")
    export = export_chopsticks(home / "exports")
    with S3Server() as s3, pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment.items():
            patch.setenv(name, value)
        s3.client().create_bucket(Bucket="lab")
        loops = {
            "directory": Loop("chopsticks", f"{home}/measurements", f"{home}/models/chopsticks"),
            "bucket": Loop("chopsticks_in_s3", "s3://lab/measurements", "s3://lab/models/chopsticks"),
        }
        for loop in loops.values():
            write_months(loop.data, 1, 2)
            publish(export, loop.base_path)
        yield loops


@pytest.fixture(scope="module")
def server(loops: dict[str, Loop], state: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AspiredServer]:
    directory = tmp_path_factory.mktemp("server")
    config = directory / "models.config"
    config.write_text(CONFIG.format(**{loop.model: loop.base_path for loop in loops.values()}))
    server = AspiredServer(state, f"--model_config_file={config}", f"--model_cache_dir={directory / 'cache'}")
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


def write_months(data: str, *months: int) -> None:
    arguments = ["--out", data, "--months", ",".join(map(str, months))]
    assert CliRunner().invoke(export_measurements.main, arguments, catch_exceptions=False).exit_code == 0


def retrain(loop: Loop, server: AspiredServer, *flags: str) -> subprocess.CompletedProcess[str]:
    arguments = [loop.data, loop.base_path, f"--server=http://127.0.0.1:{server.rest_port}", f"--model={loop.model}", *flags]
    return run_python(ROOT, "scripts/retrain.py", *arguments, state=server.state)


def servers_own_ray(server: AspiredServer) -> str:
    """Tasks go there as well as to a Ray that has to be started first."""
    return f"--ray-address={server.status()['ray_address']}"


def run_python(directory: Path, *arguments: str, state: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env={**environment(state), "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=270,
        check=False,
    )


def version_numbers(loop: Loop) -> list[int]:
    return [version.version for version in versions(loop.base_path)]


@pytest.mark.parametrize("where", ["directory", "bucket"])
def test_new_data_make_a_version_that_answers_and_the_same_data_no_other(
    server: AspiredServer, loops: dict[str, Loop], where: str
) -> None:
    loop = loops[where]
    first = retrain(loop, server, *([servers_own_ray(server)] if where == "bucket" else []))
    assert first.returncode == 0, first.stderr
    told = [line.partition(":")[0] for line in first.stdout.splitlines()]
    assert told[0] == "data"
    assert told[1].startswith("training as a Ray task on ")
    assert told[2:] == ["candidate", "served", "better", "published", "served", "ask it"]
    newest = versions(loop.base_path)[0]
    assert (newest.version, newest.state) == (2, VersionState.PUBLISHED)
    assert newest.annotations["compared_with"].startswith("version 1: accuracy ")
    newcomers = generate_measurements(2)
    newcomers = newcomers.rows(newcomers.held_back())
    with Client(f"grpc://127.0.0.1:{server.grpc_port}") as client:
        assert score(ask(client, loop.model, newcomers), newcomers.label).accuracy > 0.8

    second = retrain(loop, server)
    assert second.returncode == 0, second.stderr
    assert second.stdout.splitlines()[-1] == (
        "not better: version 2 has been trained on these very data (version 2 is AVAILABLE); nothing is published"
    )
    assert version_numbers(loop) == [2, 1]


def test_the_same_rows_in_other_files_make_no_better_model(server: AspiredServer, loops: dict[str, Loop]) -> None:
    loop = loops["directory"]
    before = version_numbers(loop)
    data = Path(loop.data)
    (data / "month_002.csv").rename(data / "newcomers.csv")
    told = retrain(loop, server, servers_own_ray(server))
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[-1].startswith("not better: accuracy ")
    assert told.stdout.splitlines()[-1].endswith("; nothing is published")
    assert version_numbers(loop) == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param(["--model=chopstick"], "it does not know chopstick, is --model right?", id="another model"),
        pytest.param(["--server=http://127.0.0.1:1"], "Cannot connect to http://127.0.0.1:1", id="no server"),
        pytest.param(["--ray-address=127.0.0.1:1"], "Error: Ray at 127.0.0.1:1: [Errno 111]", id="no cluster"),
        pytest.param(["--ray-address=http://127.0.0.1:1"], "expected host:port", id="the dashboard's address"),
        pytest.param(["--timeout=0.01"], "training has not ended after 0.01 s", id="no time"),
    ],
)
def test_a_failure_is_one_line_and_publishes_nothing(
    server: AspiredServer, loops: dict[str, Loop], flags: list[str], message: str
) -> None:
    loop = loops["bucket"]
    before = version_numbers(loop)
    write_months(loop.data, 3)  # something to train on
    told = retrain(loop, server, servers_own_ray(server), *flags)
    assert told.returncode == 1
    assert message in told.stderr
    assert len(told.stderr.splitlines()) == 1
    assert version_numbers(loop) == before


def test_a_base_path_that_the_server_does_not_read_gets_no_version(
    server: AspiredServer, loops: dict[str, Loop], tmp_path: Path
) -> None:
    told = retrain(replace(loops["directory"], base_path=str(tmp_path / "elsewhere")), server)
    assert told.returncode == 1
    assert told.stderr.endswith(f", which {tmp_path}/elsewhere does not hold: is that its base path?\n")
    assert not (tmp_path / "elsewhere").exists()


def test_the_notebook_runs_from_its_own_directory_to_its_end(state: Path) -> None:
    try:
        told = run_python(NOTEBOOK.parent, "-c", RUN_NOTEBOOK, str(NOTEBOOK), state=state)
    finally:
        left = command("shutdown", "--server_name=notebook", state=state)
    assert told.returncode == 0, told.stdout + told.stderr
    for line in (
        "version 1 is AVAILABLE at http://127.0.0.1:",
        "better: accuracy +",
        "Version 2 answers now",
        "served: version 3 is AVAILABLE and answers as the candidate does",
        "not better: version 3 has been trained on these very data (version 3 is AVAILABLE); nothing is published",
        "version 2 is AVAILABLE\n",
    ):
        assert line in told.stdout
    workspace = told.stdout.splitlines()[0].removeprefix("Everything goes to ")
    assert not os.path.exists(workspace)
    assert left.returncode != 0, "the notebook's last cell has not stopped its server"


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
