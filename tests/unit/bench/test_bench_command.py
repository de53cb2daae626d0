"""`aspired bench` against a real frontend, by both protocols."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.main import main
from cluster.terminal import Terminal
from tests.fakes.local_frontend import LocalFrontend, local_frontend

ROOT = Path(__file__).parents[3]
METRICS_PATH = "/monitoring/prometheus/metrics"
SHORT = ("--warmup_s=0.1", "--duration_s=0.4")


@pytest.fixture(scope="module")
def frontend() -> Iterator[LocalFrontend]:
    with local_frontend(metrics_path=METRICS_PATH) as frontend:
        yield frontend


@pytest.fixture(params=["REST", "gRPC"])
def address(request: pytest.FixtureRequest, frontend: LocalFrontend) -> str:
    return rest(frontend) if request.param == "REST" else f"grpc://127.0.0.1:{frontend.grpc_port}"


def rest(frontend: LocalFrontend) -> str:
    return f"http://127.0.0.1:{frontend.rest_port}"


@dataclass
class Outcome:
    status: int
    out: str
    err: str

    @property
    def points(self) -> list[dict[str, Any]]:
        points: list[dict[str, Any]] = json.loads(self.out)["points"]
        return points


def bench(*arguments: str) -> Outcome:
    out, err = io.StringIO(), io.StringIO()
    status = main(["bench", *arguments], terminal=Terminal(out, err))
    return Outcome(status, out.getvalue(), err.getvalue())


def test_measures_each_concurrency_of_a_sweep(address: str) -> None:
    outcome = bench(address, "--model=half_plus_two", "--concurrency=1,4", "--batch_size=3", "--json", *SHORT)
    assert outcome.status == 0
    for point, concurrency in zip(outcome.points, (1, 4), strict=True):
        assert (point["mode"], point["load"], point["failed"]) == ("concurrency", concurrency, 0)
        assert point["requests"] > 0
        assert point["rows_per_s"] == pytest.approx(3 * point["requests_per_s"], rel=1e-3)
        assert 0 < point["latency_ms"]["p50"] <= point["latency_ms"]["p99"] <= point["latency_ms"]["max"]
        assert point["client_cpu"] > [0]


@pytest.mark.parametrize("arrivals", ["poisson", "constant"])
def test_sends_at_a_rate_and_no_faster(address: str, arrivals: str) -> None:
    outcome = bench(address, "--model=half_plus_two", "--request_rate=200", f"--arrivals={arrivals}", "--json", *SHORT)
    (point,) = outcome.points
    assert (point["mode"], point["load"]) == ("request_rate", 200)
    assert 0 < point["requests"] <= 200


def test_several_processes_share_a_load(address: str) -> None:
    outcome = bench(address, "--model=half_plus_two", "--concurrency=3", "--processes=2", "--json", *SHORT)
    (point,) = outcome.points
    assert len(point["client_cpu"]) == 2
    assert point["requests"] > 0


def test_measures_until_the_figures_are_stable(address: str) -> None:
    outcome = bench(
        *(address, "--model=half_plus_two", "--concurrency=1", "--warmup_s=0", "--window_s=0.1"),
        *("--stability_percent=1000", "--max_windows=3", "--json"),
    )
    (point,) = outcome.points
    assert point["stable"] is True


def test_tells_the_servers_view_where_its_metrics_are(frontend: LocalFrontend, address: str) -> None:
    flags = ["--metrics_url", f"{rest(frontend)}{METRICS_PATH}"] if address.startswith("grpc") else []
    outcome = bench(address, "--model=half_plus_two", "--concurrency=1", "--json", *flags, *SHORT)
    (point,) = outcome.points
    assert point["server"]["request_us"] > 0
    assert list(point["server"]["stages_us"]) == ["decode", "gather", "replica", "encode"]  # there is no replica to tell more


def test_people_get_progress_and_tables_and_a_file_if_they_want(address: str, tmp_path: Path) -> None:
    outcome = bench(address, "--model=half_plus_two", "--concurrency=1", "--csv", str(tmp_path / "a.csv"), *SHORT)
    assert outcome.out.startswith(f"half_plus_two version 1 at {address}: 16 requests of random data, 1 row each\n")
    assert "REQUESTS/S" in outcome.out
    assert "warming up" in outcome.err
    assert (tmp_path / "a.csv").read_text().startswith("mode,load,seconds,")


def test_a_budget_that_no_load_holds_fails_the_command(address: str) -> None:
    arguments = (address, "--model=half_plus_two", "--concurrency=1", *SHORT)
    assert bench(*arguments, "--latency_budget_ms=60000").status == 0
    assert bench(*arguments, "--latency_budget_ms=0.0001").status == 1


def test_asks_the_version_or_the_label_that_is_named(address: str) -> None:
    for flag, version in (("--version=2", 2), ("--label=canary", 3)):
        document = json.loads(bench(address, "--model=offset", flag, "--concurrency=1", "--json", *SHORT).out)
        assert document["version"] == version


def test_sends_what_a_file_holds(address: str, tmp_path: Path) -> None:
    file = tmp_path / "bodies.jsonl"
    file.write_text('{"inputs": {"a": [1, 2], "b": [3, 4]}}\n' * 3)
    document = json.loads(bench(address, "--model=sum", "--input", str(file), "--concurrency=2", "--json", *SHORT).out)
    assert document["input"] == f"3 requests from {file}, 2 rows each"
    assert document["points"][0]["failed"] == 0


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--model=nobody"], 1, "does not serve model nobody (Servable not found for request: Latest(nobody))"),
        (["--model=half_plus_two", "--version=9"], 1, "does not serve model half_plus_two version 9"),
        (["--model=half_plus_two", "--signature_name=no"], 1, 'Serving signature name: "no" not found in signature def'),
        (["--model=echo", "--signature_name=int32"], 2, "give one with --shape x:SIZE,SIZE,..."),
        (["--model=half_plus_two", "--shape=z:1"], 2, "--shape=z: the signature has no such input; its inputs are x"),
        (["--model=failing", "--data=zero"], 1, "The first request failed with"),
        (["--model=hanging", "--timeout_s=2"], 1, "The first request failed with DEADLINE_EXCEEDED"),
        (["--model=half_plus_two", "--input=/no.json"], 2, "--input=/no.json: cannot be read: No such file or directory"),
        (["--model=half_plus_two", "--metrics_url=http://127.0.0.1:1"], 2, "--metrics_url: http://127.0.0.1:1"),
    ],
)
def test_what_cannot_be_measured_is_told_in_a_line(address: str, arguments: list[str], status: int, message: str) -> None:
    outcome = bench(address, *arguments)
    assert (outcome.status, outcome.out) == (status, "")
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["http://h"], "Missing option '--model'."),
        (["ftp://h", "--model=m"], "Target 'ftp://h' has an unknown scheme; expected one of http, https, grpc, grpcs"),
        (["http://h", "--model=m", "--concurrency=many"], "--concurrency=many: expected a number, a list"),
        (["http://h", "--model=m", "--concurrency=20000"], "--concurrency=20000: expected at most 10000"),
        (
            ["http://h", "--model=m", "--concurrency=1", "--request_rate=1"],
            "--concurrency and --request_rate exclude each other",
        ),
        (
            ["http://h", "--model=m", "--duration_s=5", "--window_s=1"],
            "--window_s looks for stability, which --duration_s does not",
        ),
        (["http://h", "--model=m", "--version=1", "--label=l"], "Model m: give a version or a label, not both"),
        (["http://h", "--model=m", "--shape=x"], "--shape=x: expected NAME:SIZE,SIZE,..."),
        (["http://h", "--model=m", "--shape=x:1", "--input=f.json"], "--shape is for generated input"),
        (["http://h", "--model=m", "--ca_file=/none.pem"], "--ca_file=/none.pem: there is no such file"),
        (["http://h", "--model=m", "--header=secret"], "--header: expected NAME:VALUE"),
        (["http://h", "--model=m", "--metrics_url=grpc://h"], "--metrics_url=grpc://h: expected http:// or https://"),
        (["http://h", "--model=m", "--arrivals=all"], "Invalid value for '--arrivals'"),
    ],
)
def test_a_wrong_command_line_is_told_in_a_line(arguments: list[str], message: str) -> None:
    outcome = bench(*arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith(f"aspired: error: {message}")
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    ("address", "other"), [("http://127.0.0.1:1", "grpc://HOST:8500"), ("grpc://127.0.0.1:1", "http://HOST:8501")]
)
def test_a_server_that_is_not_there_is_told_with_what_may_be_wrong(address: str, other: str) -> None:
    outcome = bench(address, "--model=m")
    assert outcome.status == 1
    assert outcome.err.startswith(f"aspired: error: Cannot connect to {address}: ")
    assert outcome.err.endswith(
        f"; is the server running, and is this not its {'gRPC' if 'grpc' in other else 'REST'} port: {other}?\n"
    )


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
def test_a_ca_file_that_is_none_is_told_in_a_line(scheme: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none")
    outcome = bench(f"{scheme}://127.0.0.1:1", "--model=m", "--ca_file", str(tmp_path / "ca.pem"))
    assert outcome.status in (1, 2)
    assert outcome.err.startswith(
        ("aspired: error: the TLS files cannot be used: ", "aspired: error: Cannot connect to grpcs://")
    )
    assert outcome.err.count("\n") == 1


def test_ctrl_c_shows_what_was_measured_and_leaves_no_process(address: str) -> None:
    command = [sys.executable, "-m", "cluster.main", "bench", address, "--model=half_plus_two"]
    with subprocess.Popen(
        [*command, "--concurrency=2", "--warmup_s=0", "--duration_s=600"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        while (line := process.stderr.readline()) and ("requests/s" not in line or "warming up" in line):
            pass
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the generators too
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in out
    assert "Traceback" not in err
    deadline = time.monotonic() + 30
    while left := subprocess.run(["pgrep", "-g", str(process.pid), "-r", "R,S,D"], capture_output=True, text=True).stdout:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
