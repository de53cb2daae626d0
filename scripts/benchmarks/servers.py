"""Starts the servers that are measured, and stops them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cluster.core.errors import Unavailable
from scripts.benchmarks.inference_api import InferenceApi, TensorFlowServingApi, V2Api

_START_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 60.0
_READY = "ready\n"


@dataclass(frozen=True, slots=True)
class RunningServer:
    """Where a server listens on loopback, what it speaks, and the process that all of its others descend from."""

    name: str
    api: InferenceApi
    rest_port: int
    grpc_port: int
    pid: int

    def rest_url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.rest_port}{path}"

    def grpc_url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.grpc_port}{path}"


@contextlib.contextmanager
def aspired(work: Path, *flags: str) -> Iterator[RunningServer]:
    """Aspired with its default flags but for its ports and `flags`, which say what it serves; `work` is its own directory."""
    rest_port, grpc_port = free_port(), free_port()
    command = [sys.executable, "-m", "cluster.main", "serve", "--host=127.0.0.1"]
    command += [f"--rest_api_port={rest_port}", f"--port={grpc_port}", *flags]
    with _started(command, " is ready: ", {"XDG_STATE_HOME": str(work / "state")}, by_signal=True) as pid:
        yield RunningServer("aspired", TensorFlowServingApi(), rest_port, grpc_port, pid)


def model_config_flag(work: Path, models: Mapping[str, Path]) -> tuple[str]:
    """The flag that serves models, base paths by name, from a ModelServerConfig that this writes into `work`."""
    configs = "".join(
        f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" }}\n' for name, path in models.items()
    )
    work.mkdir(parents=True, exist_ok=True)
    config = work / "models.config"
    config.write_text(f"model_config_list {{\n{configs}}}\n")
    return (f"--model_config_file={config}",)


@contextlib.contextmanager
def pytriton(python: Path, models: Mapping[str, Path]) -> Iterator[RunningServer]:
    """pytriton in its own environment; `models` are SavedModels by name."""
    rest_port, grpc_port = free_port(), free_port()
    command = [str(python), "-m", "scripts.benchmarks.pytriton_application", str(rest_port), str(grpc_port)]
    with _started([*command, *(f"{name}={path}" for name, path in models.items())], _READY, {}) as pid:
        yield RunningServer("pytriton", V2Api(), rest_port, grpc_port, pid)


@contextlib.contextmanager
def tutorial(half_plus_two: Path) -> Iterator[RunningServer]:
    """The application that Ray Serve's tutorials teach; it has no gRPC."""
    port = free_port()
    command = [sys.executable, "-m", "scripts.benchmarks.tutorial_application", str(half_plus_two), str(port)]
    with _started(command, _READY, {}) as pid:
        yield RunningServer("tutorial", TensorFlowServingApi(), port, 0, pid)


@contextlib.contextmanager
def serve_grpc(saved_model: Path) -> Iterator[RunningServer]:
    """A plain Ray Serve gRPC deployment."""
    rest_port, grpc_port = free_port(), free_port()
    command = [
        sys.executable,
        "-m",
        "scripts.benchmarks.serve_grpc_application",
        str(saved_model),
        str(rest_port),
        str(grpc_port),
    ]
    with _started(command, _READY, {}) as pid:
        yield RunningServer("Ray Serve gRPC", TensorFlowServingApi(), rest_port, grpc_port, pid)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _started(command: Sequence[str], ready: str, environment: Mapping[str, str], *, by_signal: bool = False) -> Iterator[int]:
    """A process that has said `ready`, in a session of its own, so that Ctrl-C is the benchmark's alone.

    It is stopped by the end of its input, or `by_signal` SIGTERM.
    """
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": ".", **environment},
        )
        try:
            _wait_for(ready, process, output, command)
            yield process.pid
        finally:
            _stop(process, by_signal)


def _wait_for(ready: str, process: subprocess.Popen[bytes], output: IO[str], command: Sequence[str]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        output.seek(0)
        said = output.read()
        if ready in said:
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise Unavailable(f"{' '.join(command)} has not come up: {said[-2000:]}")
        time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes], by_signal: bool) -> None:
    if process.stdin is not None:
        process.stdin.close()
    if by_signal:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
