"""Versions come, go and break under load; the control plane and replicas are killed; clients notice nothing they should not."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.cluster.aspired_server import AspiredServer, Load, pid_of, processes_of, wait_until

pytestmark = pytest.mark.timeout(300)


def drop(exports: Path, models: Path, version: int) -> None:
    """A version appears as users make it appear: copied file by file into its final place."""
    shutil.copytree(exports / str(version), models / "half_plus_two" / str(version))


def test_versions_are_swapped_under_load_without_a_failed_request(server: AspiredServer, exports: Path, models: Path) -> None:
    with Load().running(server) as load:
        load.wait_for_answers(1.0)
        for version in (2, 3):
            drop(exports, models, version)
            server.wait_state("half_plus_two", version, "AVAILABLE")
            server.wait_state("half_plus_two", version - 1, "END")
            load.wait_for_answers(float(version))
            # Nothing older answers once the old version has ended.
            older = load.answers[version - 1.0]
            load.wait_for_answers(float(version))
            assert load.answers[version - 1.0] == older
    assert load.failures == []
    assert set(load.answers) == {1.0, 2.0, 3.0}


def test_a_corrupt_version_leaves_the_served_one_and_shows_its_error(
    server: AspiredServer, exports: Path, models: Path
) -> None:
    with Load().running(server, 2, 2) as load:
        corrupt = models / "half_plus_two" / "4"
        shutil.copytree(exports / "4", corrupt)
        (corrupt / "saved_model.pb").write_bytes(b"this is not a SavedModel")
        server.wait_state("half_plus_two", 4, "END")
        status, body = server.get("/v1/models/half_plus_two/versions/4")
        assert status == 200
        assert body["model_version_status"][0]["status"]["error_code"] != "OK"
        assert body["model_version_status"][0]["status"]["error_message"]
        load.wait_for_answers(3.0)
        shutil.rmtree(corrupt)
        drop(exports, models, 5)
        server.wait_state("half_plus_two", 5, "AVAILABLE")
        load.wait_for_answers(5.0)
    assert load.failures == []
    assert set(load.answers) == {3.0, 5.0}


def test_a_version_copied_slowly_is_served_once_it_is_whole(server: AspiredServer, exports: Path, models: Path) -> None:
    target = models / "half_plus_two" / "6"
    with Load().running(server, 2, 0) as load:
        target.mkdir()  # at first empty: its load fails, which must not matter later
        server.wait_state("half_plus_two", 6, "END")
        for source in sorted((exports / "6").rglob("*"), key=lambda path: path.name == "saved_model.pb"):
            if source.is_file():
                (target / source.relative_to(exports / "6")).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target / source.relative_to(exports / "6"))
        server.wait_state("half_plus_two", 6, "AVAILABLE", timeout_s=20)
        load.wait_for_answers(6.0)
    assert load.failures == []


@pytest.mark.parametrize(
    ("title", "version"),
    [("ControllerActor", 7), ("ManagerActor", 8), ("SourceActor", 9)],
    ids=["controller", "manager", "source"],
)
def test_a_killed_control_actor_costs_no_request_and_new_versions_still_go_live(
    server: AspiredServer, exports: Path, models: Path, title: str, version: int
) -> None:
    with Load().running(server, 4, 4) as load:
        load.wait_for_answers(version - 1.0)
        killed = pid_of(title)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{killed}").exists(), what=f"end of {title}")
        drop(exports, models, version)
        server.wait_state("half_plus_two", version, "AVAILABLE")
        load.wait_for_answers(float(version))
    assert load.failures == []
    assert set(load.answers) <= {version - 1.0, float(version)}


def test_a_killed_replica_loses_only_what_it_was_running(server: AspiredServer) -> None:
    with Load().running(server, 4, 4) as load:
        load.wait_for_answers(9.0)
        killed_at = time.monotonic()
        os.kill(pid_of("ServeReplica:default.half_plus_two.9"), signal.SIGKILL)
        load.wait_for_answers(9.0, count=500)
    # half_plus_two keeps no state, so what was running has been run again elsewhere; at most it may fail, once a client.
    assert len(load.failures) <= 8
    assert [what for sent, what in load.failures if sent > killed_at + 0.1] == []


def test_status_tells_of_models_versions_and_nodes(server: AspiredServer) -> None:
    status = server.status()
    (model,) = status["models"]
    versions = {version["version"]: version for version in model["versions"]}
    assert status["ready"]
    assert versions[9]["state"] == "AVAILABLE"
    assert (versions[9]["replicas_ready"], versions[9]["replicas_wanted"]) == (1, 1)
    assert versions[1]["state"] == "END"
    assert [node["frontends"] for node in status["nodes"]] == [1]


def test_sigterm_under_load_drains_and_leaves_nothing_behind(server: AspiredServer) -> None:
    hosts = [path.name for path in (server.state / "aspired" / "servers").glob("*.json")]
    assert len(hosts) == 1
    with Load().running(server, 4, 0) as load:
        load.wait_for_answers(9.0)
        took_s = server.stop()
    refused = [what for _, what in load.failures if "refused" not in what.lower() and "reset" not in what.lower()]
    assert [what for what in refused if "RemoteDisconnected" not in what and "BrokenPipe" not in what] == []
    assert server.process.returncode == 0, server.output
    assert took_s < 60
    assert list((server.state / "aspired" / "servers").glob("*.json")) == []
    wait_until(lambda: processes_of(server.state) == [], 10, "end of all processes")
