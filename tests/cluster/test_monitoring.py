"""Metrics of a server with several processes, whichever of them is scraped and whichever dies."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from scripts.sample_models import export_half_plus_two
from tests.cluster.aspired_server import AspiredServer, command, pid_of, wait_until

pytestmark = pytest.mark.timeout(300)

METRICS_PATH = "/monitoring/prometheus/metrics"
# The parser names a counter's samples as newer formats do, with `_total`.
COUNT = (":tensorflow:serving:request_count_total", (("model_name", "m"), ("status", "OK")))
RUNS = (":tensorflow:core:graph_runs_total", ())
BY_LANE = ("aspired_frame_calls_count", (("channel", "lane"),))
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, state: Path) -> Iterator[AspiredServer]:
    directory = tmp_path_factory.mktemp("monitored")
    export_half_plus_two(directory / "m", 1)
    (directory / "monitoring.config").write_text("prometheus_config { enable: true }")
    server = AspiredServer(
        state,
        "--model_name=m",
        f"--model_base_path={directory / 'm'}",
        f"--monitoring_config_file={directory / 'monitoring.config'}",
        "--frontends_per_node=2",
    )
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


def scrape(server: AspiredServer) -> Series:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
    try:
        connection.request("GET", METRICS_PATH)
        answer = connection.getresponse()
        assert answer.status == 200
        families = text_string_to_metric_families(answer.read().decode())
        return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}
    finally:
        connection.close()


def predict(server: AspiredServer, times: int) -> None:
    for _ in range(times):
        assert server.predict("m", [1.0])[0] == 200


def kill(pid: int) -> None:
    """Until it is gone, connections to its share of the port are taken, and reset."""
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not Path("/proc", str(pid)).exists(), what=f"process {pid} is gone")


def counts(series: Series) -> Series:
    """What must never fall: counters, and the buckets, sums and counts of histograms."""
    return {key: value for key, value in series.items() if not key[0].startswith("aspired_") or "_total" in key[0]}


def test_any_frontend_knows_what_all_of_them_have_counted(server: AspiredServer) -> None:
    before = scrape(server).get(COUNT, 0)
    predict(server, 40)
    # Each scrape is a new connection, so one frontend or the other answers it.
    assert {scrape(server)[COUNT] for _ in range(10)} == {before + 40}


def test_metrics_describe_the_whole_server(server: AspiredServer) -> None:
    predict(server, 1)
    series = scrape(server)
    assert series["aspired_frontends", ()] == 2
    assert series["aspired_replicas", (("model_name", "m"), ("phase", "ready"), ("version", "1"))] == 1
    assert series["aspired_versions", (("model_name", "m"), ("state", "AVAILABLE"))] == 1
    assert series[RUNS] >= 1
    path = next(
        dict(labels)["model_path"] for name, labels in series if name == ":tensorflow:cc:saved_model:load_attempt_count_total"
    )
    assert path.endswith("/m/1")


def test_the_load_tester_tells_where_the_servers_time_goes(server: AspiredServer) -> None:
    done = command(
        *("bench", f"http://127.0.0.1:{server.rest_port}", "--model=m", "--concurrency=2"),
        *("--warmup_s=0.2", "--duration_s=1", "--json"),
        state=server.state,
    )
    assert done.returncode == 0, done.stderr
    (point,) = json.loads(done.stdout)["points"]
    assert point["failed"] == 0
    assert point["server"]["requests"] > 0
    stages_us = point["server"]["stages_us"]
    assert stages_us
    assert min(stages_us.values()) >= 0


def test_no_count_falls_when_a_process_is_killed(server: AspiredServer) -> None:
    predict(server, 20)
    seen = counts(scrape(server))
    for title in ("ServeReplica:default.frontend", "ServeReplica:default.m.1"):
        kill(pid_of(title))
        wait_until(lambda: _answers(server), what="the server answers again")
        now = counts(scrape(server))
        assert {key: (value, now.get(key)) for key, value in seen.items() if now.get(key, -1) < value} == {}
        seen = now
    predict(server, 20)
    assert scrape(server)[COUNT] >= seen[COUNT] + 20


def test_frames_take_lanes_again_when_a_replica_has_been_replaced(server: AspiredServer) -> None:
    """Until the successor has announced its lane, they go through Serve's handles."""
    before = scrape(server).get(BY_LANE, 0)
    kill(pid_of("ServeReplica:default.m.1"))

    def again() -> bool:
        return _answers(server) and scrape(server).get(BY_LANE, 0) > before

    wait_until(again, what="frames go by the new lane")


def _answers(server: AspiredServer) -> bool:
    try:
        return server.predict("m", [1.0])[0] == 200
    except OSError:
        return False
