"""A real frontend over `client_models`, with its replicas in the same process: Aspired without Ray."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cluster.core.metrics import CellKey, MetricCells, Value
from cluster.core.serving_map import Endpoint, ServableEntry, ServingMap
from servables.direct_runner import DirectRunner
from servables.frontend.frontend import Frontend, FrontendOptions
from servables.frontend.local_channel import LocalChannel
from servables.profile import ProfileOptions
from servables.servable import Array, Servable
from servables.signatures import Signature, encode_signatures
from tests.fakes.client_models import LABELS, ClientModels, Run
from tests.fakes.fake_server_control import FakeServerControl


@dataclass(frozen=True, slots=True)
class LocalFrontend:
    grpc_port: int
    rest_port: int


class _ModelServable(Servable):
    def __init__(self, signatures: Mapping[str, tuple[Signature, Run]]) -> None:
        self._signatures = {name: signature for name, (signature, _) in signatures.items()}
        self._runs = {name: run for name, (_, run) in signatures.items()}

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._signatures

    @property
    def deterministic(self) -> bool:
        return True

    def run(
        self, signature_name: str, inputs: Mapping[str, Array], outputs: Sequence[str], timeout_s: float | None
    ) -> dict[str, Array]:
        computed = self._runs[signature_name](inputs)
        return {alias: computed[alias] for alias in outputs}

    def close(self) -> None:
        """There is nothing to give back."""


class _Channel(LocalChannel):
    """Its versions' traces are empty, and done at once."""

    async def profile(self, options: ProfileOptions) -> bytes:
        return b""


class _Control(FakeServerControl):
    """Its metrics are those of the frontend alone."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = MetricCells()

    async def metrics(self) -> Mapping[CellKey, Value]:
        self.cells.forget_reports()
        return self.cells.changes()


@contextmanager
def local_frontend(**options: Any) -> Iterator[LocalFrontend]:
    """Serves on free ports of 127.0.0.1, from an event loop in a thread. `options` are those of `FrontendOptions`."""
    ports = LocalFrontend(_free_port(), _free_port())
    started, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(ports, options, started, done)))
    thread.start()
    try:
        if not started.wait(30):
            raise TimeoutError("the frontend did not start")
        yield ports
    finally:
        done.set()
        thread.join()


async def _serve(
    ports: LocalFrontend, more_options: Mapping[str, Any], started: threading.Event, done: threading.Event
) -> None:
    models = ClientModels()
    servables = {id: _ModelServable(signatures) for id, signatures in models.versions().items()}
    runners = {id: DirectRunner(servable, num_threads=4) for id, servable in servables.items()}
    endpoint = Endpoint("in this process", "replica", node_id="", replicas=1)
    entries = {
        id: ServableEntry(id, (endpoint,), encode_signatures(servable.signatures), deterministic=True)
        for id, servable in servables.items()
    }
    options = FrontendOptions(host="127.0.0.1", grpc_port=ports.grpc_port, rest_api_port=ports.rest_port, **more_options)
    control = _Control()
    frontend = Frontend(options, lambda entry: _Channel(runners[entry.id]), control)
    control.cells = frontend.cells
    frontend.bind()
    await frontend.apply(ServingMap(entries=entries, states=models.states(), labels=LABELS, accepting=True))
    await frontend.start()
    started.set()
    await asyncio.to_thread(done.wait)
    models.released.set()
    await frontend.drain(1.0)
    await frontend.close()
    await asyncio.gather(*(runner.close() for runner in runners.values()))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
