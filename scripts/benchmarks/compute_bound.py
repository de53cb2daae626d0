"""A model that takes all processors: Aspired against TensorFlow in process with batches, by its best call path."""

from __future__ import annotations

import os

from scripts.benchmarks.figure import Figure, Target
from scripts.benchmarks.in_process import CALLABLE, CALLABLE_IN_THREAD
from scripts.benchmarks.payload import images
from scripts.benchmarks.processor_profile import ProcessorProfile
from scripts.benchmarks.scenario import Scenario
from scripts.benchmarks.workbench import ASPIRED_BATCHING, ASPIRED_IMAGES, IN_PROCESS, WARM_UP_S, Workbench

_BATCH_ROWS = 32
_SIDE = 32
_CORES = len(os.sched_getaffinity(0))
# The best of these is the limit, in each round.
_WAYS = tuple((way, threads) for way in (CALLABLE, CALLABLE_IN_THREAD) for threads in sorted({1, 2, _CORES}))


def scenarios() -> list[Scenario]:
    return [
        _against_in_process(
            "compute-batches", f"gRPC batches of {_BATCH_ROWS} rows, 4 in flight", ASPIRED_IMAGES, _BATCH_ROWS, 4
        ),
        _against_in_process("compute-rows", "gRPC rows, 64 in flight, --enable_batching", ASPIRED_BATCHING, 1, 64),
    ]


def _against_in_process(name: str, what: str, server_name: str, rows: int, connections: int) -> Scenario:
    def measure(bench: Workbench) -> list[Figure]:
        payload = images("cnn", rows, _SIDE)
        batch = images("cnn", _BATCH_ROWS, _SIDE)
        server = bench.server(server_name)
        model = bench.saved_model("cnn")
        drive = bench.grpc(payload, connections)
        bench.check(server, payload, "gRPC")
        ours, theirs, alone = [], [], []
        processor = ProcessorProfile(name, "row")
        for _ in range(bench.rounds):
            drive(server, WARM_UP_S)
            load = processor.round(
                server,
                lambda: drive(server, bench.seconds).checked(name),
                lambda load: load.requests_per_s * bench.seconds * rows,
            )
            ours.append(load.requests_per_s * rows)
            calls = [bench.in_process.call(model, batch.values, way, bench.seconds / 2, threads) for way, threads in _WAYS]
            best = max(calls, key=lambda each: each.calls_per_s)
            theirs.append(best.calls_per_s * _BATCH_ROWS)
            alone.append(best.processor_s * 1e6 / _BATCH_ROWS)
        bench.check(server, payload, "gRPC")
        return [
            Figure(
                scenario=name,
                quantity="throughput",
                unit="rows/s",
                aspired=tuple(ours),
                peer=tuple(theirs),
                peer_name="in process",
                target=Target(at_least=0.95),
            ),
            *processor.figures(),
            Figure(scenario=name, quantity="processor, in process", unit="us/row", aspired=tuple(alone)),
        ]

    return Scenario(
        name, f"CNN of 0.5 GFLOP a row: {what}, against batches of {_BATCH_ROWS} in process", (server_name, IN_PROCESS), measure
    )
