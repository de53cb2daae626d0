"""Replicas are forked from a process that has TensorFlow imported; whatever dies, versions are served and nothing is left."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from cluster.server_record import ServerRecords
from tests.cluster.aspired_server import AspiredServer, pid_of, processes_of, wait_until

pytestmark = pytest.mark.timeout(240)


def replica(version: int) -> int:
    return pid_of(f"ServeReplica:default.half_plus_two.{version}")


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def host_of(server: AspiredServer) -> int:
    (record,) = ServerRecords(server.state / "aspired").load()
    return record.host_pid


def test_a_replica_is_a_fork_and_logs_as_any_worker_does(server: AspiredServer) -> None:
    fork_server = parent_of(replica(1))
    assert "fork_server" in command_of(fork_server)
    assert parent_of(fork_server) == host_of(server)
    files = [os.readlink(f"/proc/{replica(1)}/fd/{number}") for number in (1, 2)]
    assert [Path(file).name.startswith("worker-") for file in files] == [True, True]


def test_a_killed_fork_is_replaced_by_another(server: AspiredServer) -> None:
    killed = replica(1)
    fork_server = parent_of(killed)
    os.kill(killed, signal.SIGKILL)
    assert server.predict("half_plus_two", [2.0]) == (200, {"predictions": [2.0]})
    assert parent_of(replica(1)) == fork_server
    wait_until(lambda: not Path(f"/proc/{killed}").exists(), what="the dead fork is reaped")


def test_without_the_fork_server_replicas_go_on_and_the_next_version_has_another(
    server: AspiredServer, exports: Path, models: Path
) -> None:
    survivor = replica(1)
    fork_server = parent_of(survivor)
    os.kill(fork_server, signal.SIGKILL)
    assert server.predict("half_plus_two", [2.0]) == (200, {"predictions": [2.0]})
    shutil.copytree(exports / "2", models / "half_plus_two" / "2")
    server.wait_state("half_plus_two", 2, "AVAILABLE")
    assert server.predict("half_plus_two", [2.0]) == (200, {"predictions": [3.0]})
    another = parent_of(replica(2))
    assert "fork_server" in command_of(another)
    assert another != fork_server


def test_nothing_is_left_when_the_host_is_killed(server: AspiredServer) -> None:
    os.kill(host_of(server), signal.SIGKILL)
    wait_until(lambda: processes_of(server.state) == [], 60, "end of all processes")
