"""Fork servers and start commands as processes, without Ray: a worker is a script that says what it is."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servables.fork_server import start_command
from servables.fork_server.code_version import ROOT, code_version
from servables.fork_server.start_command import FORKS, NAME_VARIABLE
from servables.fork_server.start_request import HEADER, READY, StartRequest

pytestmark = pytest.mark.skipif(not FORKS, reason="fork servers need Linux")

WORKER = """
import json, os, random, sys
import numpy
print(json.dumps({
    "pid": os.getpid(), "parent": os.getppid(), "group": os.getpgid(0), "arguments": sys.argv, "name": __name__,
    "directory": os.getcwd(), "variable": os.environ.get("RAY_VARIABLE"), "path": sys.path[0],
    "drawn": [random.random(), numpy.random.random()], "files": sorted(os.listdir("/proc/self/fd")),
    "oom_score_adj": int(open("/proc/self/oom_score_adj").read()), "niceness": os.getpriority(os.PRIO_PROCESS, 0),
}))
print("an error", file=sys.stderr)
"""


class Node:
    """A fork server, its owner, and what makes start commands for it."""

    def __init__(self, directory: Path) -> None:
        self.name = secrets.token_hex(16)
        self.directory = directory
        self.script = directory / "worker.py"
        self.script.write_text(WORKER)
        self.environment = {**os.environ, NAME_VARIABLE: self.name, "PYTHONPATH": ROOT, "OPENBLAS_NUM_THREADS": "1"}
        self.owner = subprocess.Popen(["sleep", "600"])
        self.server = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.fork_server_process", str(self.owner.pid)],
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.connect().close()

    def connect(self) -> socket.socket:
        deadline = time.monotonic() + 30
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(30)
            try:
                connection.connect(start_command.address(self.name))
            except ConnectionRefusedError:
                connection.close()
                assert self.server.poll() is None, self.server.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            else:
                return connection

    def send(self, connection: socket.socket, data: bytes) -> None:
        with open(os.devnull) as null:
            socket.send_fds(connection, [HEADER.pack(len(data)), data], [null.fileno()] * 3)

    def request(self, code: str) -> StartRequest:
        return StartRequest(code, (str(self.script),), self.environment, str(self.directory), 0, 0)

    def start(self, *arguments: str, **variables: str) -> dict[str, Any]:
        """What a worker says that is started as Ray starts one."""
        done = subprocess.Popen(
            ["bash", "-c", f"echo $$; exec nice -n 3 {start_command.start_command()} {self.script} {' '.join(arguments)}"],
            env={**self.environment, **variables},
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        out, error = done.communicate(timeout=60)
        command, told = out.split("\n", 1)
        assert error == "an error\n"
        return {**json.loads(told), "command": int(command)}

    def end(self) -> None:
        for process in (self.server, self.owner):
            process.kill()
            process.communicate()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    node.end()


def test_a_fork_is_the_process_that_was_asked_for(node: Node) -> None:
    worker = node.start("--one", "'two words'", RAY_VARIABLE="3")
    assert worker["parent"] == node.server.pid
    assert worker["group"] == worker["pid"]
    assert worker["name"] == "__main__"
    assert worker["arguments"] == [str(node.script), "--one", "two words"]
    assert worker["path"] == str(node.script.parent)
    assert worker["directory"] == str(node.directory)
    assert worker["variable"] == "3"
    assert worker["niceness"] == min(os.getpriority(os.PRIO_PROCESS, 0) + 3, 19)
    assert worker["files"] == ["0", "1", "2", "3"]  # 3 is the listing's own


def test_no_two_forks_draw_the_same_numbers(node: Node) -> None:
    first, second = (node.start()["drawn"] for _ in range(2))
    assert set(first).isdisjoint(second)


def test_a_worker_in_another_environment_starts_by_itself(node: Node) -> None:
    node.start(RAY_VARIABLE="3")
    worker = node.start(RAY_VARIABLE="4")
    assert worker["pid"] == worker["command"]
    assert worker["variable"] == "4"
    assert node.start(RAY_VARIABLE="3")["parent"] == node.server.pid


def test_a_fork_server_that_has_other_code_ends(node: Node) -> None:
    with node.connect() as connection:
        node.send(connection, node.request("another").encode())
        assert connection.recv(1) == b""
    assert node.server.wait(30) == 0


def test_a_fork_whose_command_goes_away_ends(node: Node) -> None:
    with node.connect() as connection:
        node.send(connection, node.request(code_version()).encode())
        assert connection.recv(1) == READY
        (child,) = Path(f"/proc/{node.server.pid}/task/{node.server.pid}/children").read_text().split()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{child}").exists():  # reaped, too
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("data", [b"", b"{}", b"not a request"])
def test_a_fork_server_outlives_what_it_does_not_understand(node: Node, data: bytes) -> None:
    with node.connect() as connection:
        node.send(connection, data)
        assert connection.recv(1) == b""
    assert node.start()["parent"] == node.server.pid


def test_a_fork_server_ends_with_its_owner(node: Node) -> None:
    node.owner.kill()
    node.owner.wait()
    assert node.server.wait(30) == 0


def test_a_second_of_the_same_name_ends_at_once(node: Node) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "tests.fakes.fork_server_process", str(node.owner.pid)],
        env=node.environment,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == 0
    assert node.start()["parent"] == node.server.pid


def test_workers_outlive_the_fork_server(node: Node) -> None:
    node.script.write_text("import sys; print(sys.stdin.readline(), end='')")
    with subprocess.Popen(
        ["bash", "-c", f"exec {start_command.start_command()} {node.script}"],
        env=node.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.wait(60) == 0  # the fork has taken over
        os.kill(node.server.pid, signal.SIGKILL)
        node.server.wait()
        assert command.communicate("still here\n")[0] == "still here\n"


def test_a_command_does_not_wait_for_ever_for_a_fork_server_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_command, "FORK_TIMEOUT_S", 0.01)
    name = secrets.token_hex(16)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(start_command.address(name))
        listening.listen()
        with pytest.raises(TimeoutError):
            start_command._forked(name, ["worker.py"])


def test_forks_that_would_draw_alike_are_told_from_those_that_would_not() -> None:
    script = """
import sys
from servables.fork_server.imports import Imports
imports = Imports()
imports.ray()
assert "servables.deployment.version_replica" in sys.modules
assert not imports.forks_draw_alike()
from ray import WorkerID
WorkerID.from_random()
assert imports.forks_draw_alike()
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
