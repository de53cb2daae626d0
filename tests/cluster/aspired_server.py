"""A real server for tests: the `aspired` command in a process of its own, and clients that count what goes wrong."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 120.0
CHANGE_TIMEOUT_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], timeout_s: float = CHANGE_TIMEOUT_S, what: str = "") -> None:
    """Looks until `condition` holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:.0f} s: {what or condition}")
        time.sleep(0.1)


def command(*arguments: str, state: Path, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
    """Runs an `aspired` command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "cluster.main", *arguments],
        cwd=ROOT,
        env=environment(state),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def environment(state: Path) -> dict[str, str]:
    return {**os.environ, "XDG_STATE_HOME": str(state), "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}


def pid_of(title: str) -> int:
    """The youngest process of this name; Ray names its workers after their actors, and writes the names anew now and then."""
    found: list[str] = []

    def find() -> bool:
        found[:] = subprocess.run(["pgrep", "-n", "-f", f"^ray::{title}"], capture_output=True, text=True).stdout.split()
        return bool(found)

    wait_until(find, 10, f"a process {title}")
    return int(found[0])


def processes_of(state: Path) -> list[str]:
    """The processes that were started with this state directory in their environment: the server's, Ray's and all workers."""
    return list(pids_of(state).values())


def pids_of(state: Path, title: str = "") -> dict[int, str]:
    """The command lines of those processes, by id, that begin with `title`."""
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if f"XDG_STATE_HOME={state}".encode() in (directory / "environ").read_bytes():
                command_line = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if command_line.startswith(title):
                    found[int(directory.name)] = command_line
        except OSError:
            pass  # gone meanwhile, or another user's
    return found


class AspiredServer:
    """`aspired serve` with a Ray of its own, or on the cluster of `--ray_address` if that is among the flags."""

    def __init__(self, state: Path, *flags: str) -> None:
        self.state = state
        self.rest_port, self.grpc_port = free_port(), free_port()
        self._lines: list[str] = []
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "cluster.main",
                "serve",
                f"--port={self.grpc_port}",
                f"--rest_api_port={self.rest_port}",
                "--host=127.0.0.1",
                *flags,
            ],
            cwd=ROOT,
            env=environment(state),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line)

    @property
    def output(self) -> str:
        return "".join(self._lines)

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        wait_until(lambda: " is ready: " in self.output or self.process.poll() is not None, timeout_s, self.output)
        assert " is ready: " in self.output, self.output

    def status(self) -> dict[str, Any]:
        told = command("status", "--json", state=self.state)
        assert told.returncode == 0, told.stderr
        (server,) = json.loads(told.stdout)
        return dict(server)

    def get(self, path: str) -> tuple[int, Any]:
        return rest(self.rest_port, "GET", path)

    def predict(self, model: str, x: Sequence[float], version: int | None = None) -> tuple[int, Any]:
        return self.predict_body(model, json.dumps({"instances": list(x)}), version)

    def post(self, path: str, body: str) -> tuple[int, Any]:
        return rest(self.rest_port, "POST", path, body)

    def predict_body(self, model: str, body: str, version: int | None = None) -> tuple[int, Any]:
        path = f"/v1/models/{model}" + (f"/versions/{version}" if version is not None else "") + ":predict"
        return self.post(path, body)

    def states(self, model: str) -> dict[int, str]:
        status, body = self.get(f"/v1/models/{model}")
        return {int(row["version"]): row["state"] for row in body["model_version_status"]} if status == 200 else {}

    def wait_state(self, model: str, version: int, state: str, timeout_s: float = CHANGE_TIMEOUT_S) -> None:
        wait_until(
            lambda: self.states(model).get(version) == state, timeout_s, f"{model} {version} {state}; is {self.states(model)}"
        )

    def stop(self, timeout_s: float = 90.0) -> float:
        """SIGTERM; how long the end took, in seconds."""
        begun = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout_s)
        self._reader.join(10)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return time.monotonic() - begun


def rest(port: int, method: str, path: str, body: str | None = None, timeout_s: float = 30.0) -> tuple[int, Any]:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text else None
    finally:
        connection.close()


@dataclass
class Load:
    """Closed-loop clients against half_plus_two exported with `offset = version`: each answer tells the version it came from.

    `answers` counts by version, `failures` holds what went wrong, with the time it was sent. `first_answered` and `last_sent`
    are by version too: when its first answer came, and when the last request was sent that it answered. `named`: the version
    that every gRPC answer must name, where files of others have been put in its place.
    """

    named: float | None = None
    answers: Counter[float] = field(default_factory=Counter)
    first_answered: dict[float, float] = field(default_factory=dict)
    last_sent: dict[float, float] = field(default_factory=dict)
    failures: list[tuple[float, str]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def running(self, server: AspiredServer, rest_clients: int = 8, grpc_clients: int = 8) -> Iterator[Load]:
        threads = [threading.Thread(target=self._rest, args=(server.rest_port,)) for _ in range(rest_clients)]
        threads += [threading.Thread(target=self._grpc, args=(server.grpc_port,)) for _ in range(grpc_clients)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(60)

    def wait_for_answers(self, version: float, count: int = 50) -> None:
        target = self.answers[version] + count
        wait_until(lambda: self.answers[version] >= target, what=f"{count} answers of version {version}: {self.answers}")

    def _rest(self, port: int) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            while not self._stop.is_set():
                self._ask(connection)

    def _ask(self, connection: http.client.HTTPConnection) -> None:
        sent = time.monotonic()
        try:
            connection.request("POST", "/v1/models/half_plus_two:predict", '{"instances": [2.0]}')
            response = connection.getresponse()
            text = response.read()
            if response.status == 200:
                self._answered(sent, json.loads(text)["predictions"][0])
            else:
                self._failed(sent, f"REST {response.status} {text.decode()}")
        except OSError as error:
            self._failed(sent, f"REST {error!r}")
            connection.close()
        except http.client.HTTPException as error:
            self._failed(sent, f"REST {error!r}")
            connection.close()

    def _grpc(self, port: int) -> None:
        import grpc
        from tensorflow.core.framework import types_pb2
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

        request = predict_pb2.PredictRequest()
        request.model_spec.name = "half_plus_two"
        request.inputs["x"].dtype = types_pb2.DT_FLOAT
        request.inputs["x"].tensor_shape.dim.add(size=1)
        request.inputs["x"].float_val.append(2.0)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            while not self._stop.is_set():
                sent = time.monotonic()
                try:
                    response = stub.Predict(request, timeout=60)
                    value = response.outputs["y"].float_val[0]
                    if response.model_spec.version.value != (self.named or value - 1.0):
                        self._failed(sent, f"gRPC says version {response.model_spec.version.value}, but the answer is {value}")
                    self._answered(sent, value)
                except grpc.RpcError as error:
                    self._failed(sent, f"gRPC {error.code()} {error.details()}")

    def _answered(self, sent: float, value: float) -> None:
        version = value - 1.0  # x/2 + version, for x = 2
        with self._lock:
            self.answers[version] += 1
            self.first_answered.setdefault(version, time.monotonic())
            self.last_sent[version] = max(sent, self.last_sent.get(version, sent))

    def _failed(self, sent: float, what: str) -> None:
        with self._lock:
            self.failures.append((sent, what))
