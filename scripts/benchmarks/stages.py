"""Where a request's microseconds go: the server's own stages, and the processor time of its processes."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from cluster.bench.server_metrics import METRICS_PATH, Series, breakdown, read_series
from cluster.core.errors import Internal
from scripts.benchmarks.figure import Figure
from scripts.benchmarks.payload import Payload, half_plus_two, mlp
from scripts.benchmarks.processor_profile import SERVING, ProcessorProfile
from scripts.benchmarks.scenario import Scenario
from scripts.benchmarks.servers import RunningServer
from scripts.benchmarks.workbench import ASPIRED_MONITORED, IN_PROCESS, WARM_UP_S, Workbench

_CONNECTIONS = 32


def scenarios() -> list[Scenario]:
    return [
        _scenario(protocol, payload, connections)
        for protocol in ("REST", "gRPC")
        for payload in (half_plus_two, mlp)
        for connections in (1, _CONNECTIONS)
    ]


def _scenario(protocol: str, payload: Callable[[], Payload], connections: int) -> Scenario:
    name = f"stages-{protocol.lower()}-{payload.__name__}-{connections}"
    return Scenario(
        name,
        f"{protocol} {payload.__name__}, {connections} connections: microseconds by stage, and of processor time by process",
        (ASPIRED_MONITORED, IN_PROCESS),
        lambda bench: _measure(bench, name, protocol, payload(), connections),
    )


def _measure(bench: Workbench, name: str, protocol: str, payload: Payload, connections: int) -> list[Figure]:
    server = bench.server(ASPIRED_MONITORED)
    bench.check(server, payload, protocol)
    drive = (bench.rest if protocol == "REST" else bench.grpc)(payload, connections)
    drive(server, WARM_UP_S)
    figures: dict[str, list[float]] = {}
    processor = ProcessorProfile(name, "request", kinds=SERVING)
    for _ in range(bench.rounds):
        before = _series(server)
        processor.round(
            server, lambda: drive(server, bench.seconds).checked(name), lambda load: load.requests_per_s * bench.seconds
        )
        spent = breakdown(before, _series(server), payload.model)
        if spent is None:
            raise Internal(f"{name}: the server has counted no request")
        figures.setdefault("in the server", []).append(spent.request_us)
        for stage in spent.stages:
            figures.setdefault(f"in {stage.name}", []).append(stage.mean_us)
    stages = [
        Figure(scenario=name, quantity=quantity, unit="us", aspired=tuple(values))
        for quantity, values in figures.items()
        if len(values) == bench.rounds
    ]
    return [*stages, *processor.figures()]


def _series(server: RunningServer) -> Series:
    try:
        return read_series(httpx.get(server.rest_url(METRICS_PATH)).raise_for_status().text)
    except httpx.HTTPError as error:
        raise Internal(f"the server's metrics cannot be read: {error!r}") from None
