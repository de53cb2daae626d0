"""What scenarios work with: models, running servers, and how long and how often to measure."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cluster.core.errors import Internal
from cluster.terminal import Terminal
from scripts.benchmarks import servers
from scripts.benchmarks.in_process import EXPORTS, InProcess
from scripts.benchmarks.inference_api import GRPC_HEADERS, framed
from scripts.benchmarks.load_generator import Load, h2load, wrk
from scripts.benchmarks.payload import Payload
from scripts.benchmarks.process_tree import cpu_s
from scripts.benchmarks.servers import RunningServer

WARM_UP_S = 1
_TOLERANCE = 1e-3

ASPIRED = "aspired"
ASPIRED_IMAGES = "aspired-images"
ASPIRED_BATCHING = "aspired-batching"
ASPIRED_MONITORED = "aspired-monitored"
ASPIRED_REPOSITORY = "aspired-repository"
PYTRITON = "pytriton"
TUTORIAL = "tutorial"
SERVE_GRPC = "serve-grpc"
IN_PROCESS = "in-process"

Drive = Callable[[RunningServer, int], Load]


@dataclass(frozen=True, slots=True)
class Measured:
    """A load and what it cost: processor time of the server's processes, without the load generator's."""

    load: Load
    cpu_micros_per_request: float


class Workbench:
    """Servers are started when a scenario first asks for them, and stopped by `release`, or at the end of `opened`."""

    def __init__(self, work: Path, terminal: Terminal, seconds: int, rounds: int, pytriton_python: Path | None) -> None:
        self.work = work
        self.terminal = terminal
        self.seconds = seconds
        self.rounds = rounds
        self._pytriton_python = pytriton_python
        self._running: dict[str, tuple[RunningServer, contextlib.ExitStack]] = {}
        self._in_process: InProcess | None = None

    @contextlib.contextmanager
    def opened(self) -> Iterator[Workbench]:
        try:
            yield self
        finally:
            self.release(())

    # -- models

    @cached_property
    def models(self) -> dict[str, Path]:
        """Base paths by name; each has version 1."""
        with self.terminal.step("exporting models"):
            return {name: self.in_process.export(name, self.work / name) for name in EXPORTS}

    def saved_model(self, name: str) -> Path:
        return self.models[name] / "1"

    @property
    def repository(self) -> Path:
        """Where the server with a model repository looks for models; it begins with half_plus_two."""
        return self.work / "repository"

    # -- servers

    def server(self, name: str) -> RunningServer:
        if name not in self._running:
            starts: dict[str, Callable[[], contextlib.AbstractContextManager[RunningServer]]] = {
                ASPIRED: lambda: self._aspired(name, ("half_plus_two", "mlp")),
                ASPIRED_IMAGES: lambda: self._aspired(name, ("cnn", "image")),
                ASPIRED_BATCHING: lambda: self._aspired(name, ("cnn", "mlp"), "--enable_batching"),
                ASPIRED_MONITORED: lambda: self._aspired(
                    name, ("half_plus_two", "mlp"), f"--monitoring_config_file={self._monitoring_config()}"
                ),
                ASPIRED_REPOSITORY: self._aspired_repository,
                PYTRITON: self._pytriton,
                TUTORIAL: lambda: servers.tutorial(self.saved_model("half_plus_two")),
                SERVE_GRPC: lambda: servers.serve_grpc(self.saved_model("half_plus_two")),
            }
            self.models  # noqa: B018 -- exported before the step that the start is
            with contextlib.ExitStack() as stack, self.terminal.step(f"starting {name}"):
                running = stack.enter_context(starts[name]())
                self._running[name] = running, stack.pop_all()
        return self._running[name][0]

    @property
    def in_process(self) -> InProcess:
        """TensorFlow without a server, in a process of its own."""
        if self._in_process is None:
            self._in_process = InProcess.start()
        return self._in_process

    def prepare(self, names: Collection[str]) -> None:
        """Starts the servers of these names that do not run."""
        for name in names:
            if name == IN_PROCESS:
                self.in_process  # noqa: B018
            else:
                self.server(name)

    def release(self, needed: Collection[str]) -> None:
        """Stops the servers that are not among those `needed`."""
        for name in [name for name in self._running if name not in needed]:
            _, stack = self._running.pop(name)
            with self.terminal.step(f"stopping {name}"):
                stack.close()
        if self._in_process is not None and IN_PROCESS not in needed:
            self._in_process.stop()
            self._in_process = None

    def _aspired(self, name: str, models: Sequence[str], *flags: str) -> contextlib.AbstractContextManager[RunningServer]:
        work = self.work / name
        config = servers.model_config_flag(work, {model: self.models[model] for model in models})
        return servers.aspired(work, *config, *flags)

    def _monitoring_config(self) -> Path:
        config = self.work / "monitoring.config"
        config.write_text("prometheus_config { enable: true }\n")
        return config

    def _aspired_repository(self) -> contextlib.AbstractContextManager[RunningServer]:
        shutil.copytree(self.models["half_plus_two"], self.repository / "half_plus_two")
        return servers.aspired(self.work / ASPIRED_REPOSITORY, f"--model_repository={self.repository}")

    def _pytriton(self) -> contextlib.AbstractContextManager[RunningServer]:
        if self._pytriton_python is None:
            raise Internal("pytriton is not installed")
        return servers.pytriton(self._pytriton_python, {name: self.saved_model(name) for name in ("half_plus_two", "mlp")})

    # -- measuring

    def rest(self, payload: Payload, connections: int) -> Drive:
        """Drives a server over REST."""

        def drive(server: RunningServer, seconds: int) -> Load:
            url = server.rest_url(server.api.rest_path(payload))
            return wrk(url, server.api.rest_body(payload), connections, seconds, self.work)

        return drive

    def grpc(self, payload: Payload, connections: int) -> Drive:
        """Drives a server over gRPC, with one request in flight on each connection."""

        def drive(server: RunningServer, seconds: int) -> Load:
            body = self.work / "request.bin"
            body.write_bytes(framed(server.api.grpc_message(payload)))
            _, answer_bytes = server.api.ask_grpc(server.grpc_port, payload)
            url = server.grpc_url(server.api.grpc_path)
            return h2load(url, body, GRPC_HEADERS, connections, seconds, self.work, answer_bytes=answer_bytes)[0]

        return drive

    def alternate(self, server_names: tuple[str, ...], payload: Payload, drive: Drive, protocol: str) -> list[list[Measured]]:
        """Drives the servers in turn, `rounds` times: the measurements of each server, by round.

        Each is asked before and after whether it answers as TensorFlow does, and no request may fail in between.
        """
        running = [self.server(name) for name in server_names]
        for server in running:
            self.check(server, payload, protocol)
        found: list[list[Measured]] = [[] for _ in running]
        for _ in range(self.rounds):
            for server, of_server in zip(running, found, strict=True):
                of_server.append(self.measure(server, drive, f"{protocol} {payload.model}"))
        for server in running:
            self.check(server, payload, protocol)
        return found

    def measure(self, server: RunningServer, drive: Drive, what: str) -> Measured:
        """Warms a server up and drives it. Raises Internal when a request fails."""
        drive(server, WARM_UP_S)
        cpu_before = cpu_s(server.pid)
        load = drive(server, self.seconds).checked(f"{server.name}, {what}")
        requests = load.requests_per_s * self.seconds
        return Measured(load, (cpu_s(server.pid) - cpu_before) * 1e6 / requests)

    def check(self, server: RunningServer, payload: Payload, protocol: str) -> None:
        """Asks a server once. Raises Internal unless it answers as TensorFlow does in process."""
        if protocol == "REST":
            answer = server.api.ask_rest(server.rest_port, payload)
        else:
            answer, _ = server.api.ask_grpc(server.grpc_port, payload)
        expected: Any = self.in_process.answer(self.saved_model(payload.model), payload.values)
        if answer.size != expected.size or not np.allclose(answer.ravel(), expected.ravel(), rtol=_TOLERANCE, atol=_TOLERANCE):
            raise Internal(f"{server.name} answers {payload.model} over {protocol} wrongly: {answer.ravel()[:8]}")
