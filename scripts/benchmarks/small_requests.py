"""Small requests at 1, 32 and 128 connections, against pytriton and the usual Ray Serve application; TensorFlow alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from scripts.benchmarks.figure import Figure, Target
from scripts.benchmarks.in_process import CALLABLE, CALLABLE_IN_THREAD, SIGNATURE
from scripts.benchmarks.payload import Payload, half_plus_two, mlp
from scripts.benchmarks.scenario import Scenario
from scripts.benchmarks.workbench import ASPIRED, ASPIRED_BATCHING, IN_PROCESS, PYTRITON, TUTORIAL, Measured, Workbench

_CONNECTIONS = (1, 32, 128)
Targets = Mapping[tuple[str, str, int], Target]
"""By protocol, model and connections."""

_THROUGHPUT: Targets = {
    ("REST", "half_plus_two", 32): Target(at_least=3.0),
    ("REST", "half_plus_two", 128): Target(at_least=6.0),
    ("REST", "mlp", 32): Target(at_least=2.0),
    ("gRPC", "half_plus_two", 32): Target(at_least=1.3),
    ("gRPC", "mlp", 32): Target(at_least=1.3),
}
_P50: Targets = {("REST", "half_plus_two", 1): Target(at_most=0.4), ("gRPC", "half_plus_two", 1): Target(at_most=0.4)}
_P99: Targets = {("REST", "half_plus_two", 32): Target(at_most=1.0)}


def scenarios() -> list[Scenario]:
    found = [
        _against_pytriton(protocol, payload, connections)
        for protocol in ("REST", "gRPC")
        for payload in (half_plus_two, mlp)
        for connections in _CONNECTIONS
    ]
    found += [_against_pytriton(protocol, mlp, 32, batching=True) for protocol in ("REST", "gRPC")]
    tutorial = "rest-half_plus_two-32-tutorial"
    found.append(
        Scenario(
            tutorial,
            "REST half_plus_two, 32 connections, against the application of Ray Serve's tutorials",
            (ASPIRED, TUTORIAL, IN_PROCESS),
            lambda bench: _compare(bench, tutorial, "REST", half_plus_two(), 32, TUTORIAL),
        )
    )
    found += [_in_process(payload) for payload in (half_plus_two, mlp)]
    return found


def _against_pytriton(protocol: str, payload: Callable[[], Payload], connections: int, *, batching: bool = False) -> Scenario:
    """pytriton always batches; Aspired does with `--enable_batching`."""
    server, suffix, flag = (ASPIRED_BATCHING, "-batching", ", --enable_batching") if batching else (ASPIRED, "", "")
    name = f"{protocol.lower()}-{payload.__name__}-{connections}{suffix}"
    return Scenario(
        name,
        f"{protocol} {payload.__name__}, {connections} connections{flag}, against pytriton",
        (server, PYTRITON, IN_PROCESS),
        lambda bench: _compare(bench, name, protocol, payload(), connections, PYTRITON, server),
    )


def _compare(
    bench: Workbench, name: str, protocol: str, payload: Payload, connections: int, peer: str, server: str = ASPIRED
) -> list[Figure]:
    drive = (bench.rest if protocol == "REST" else bench.grpc)(payload, connections)
    ours, theirs = bench.alternate((server, peer), payload, drive, protocol)
    key = (protocol, payload.model, connections) if peer == PYTRITON else None

    def figure(quantity: str, unit: str, value: Callable[[Measured], float], targets: Targets) -> Figure:
        return Figure(
            scenario=name,
            quantity=quantity,
            unit=unit,
            aspired=tuple(map(value, ours)),
            peer=tuple(map(value, theirs)),
            peer_name=peer,
            target=targets.get(key) if key else None,
        )

    return [
        figure("throughput", "requests/s", lambda measured: measured.load.requests_per_s, _THROUGHPUT),
        figure("p50", "ms", lambda measured: measured.load.p50_ms, _P50),
        figure("p99", "ms", lambda measured: measured.load.p99_ms, _P99),
        figure("processor", "us/request", lambda measured: measured.cpu_micros_per_request, {}),
    ]


def _in_process(payload: Callable[[], Payload]) -> Scenario:
    name = f"in-process-{payload.__name__}"

    def measure(bench: Workbench) -> list[Figure]:
        one = payload()
        model = bench.saved_model(one.model)
        return [
            Figure(
                scenario=name,
                quantity=way,
                unit="calls/s",
                aspired=tuple(bench.in_process.call(model, one.values, way, 1.0).calls_per_s for _ in range(bench.rounds)),
            )
            for way in (SIGNATURE, CALLABLE, CALLABLE_IN_THREAD)
        ]

    return Scenario(name, f"TensorFlow in process, {payload.__name__}, one thread: the limit", (IN_PROCESS,), measure)
