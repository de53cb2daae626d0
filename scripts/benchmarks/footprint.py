"""How long a server of many small models takes to start, and the memory of its processes."""

from __future__ import annotations

import time
from collections import defaultdict
from statistics import mean

from scripts.benchmarks import servers
from scripts.benchmarks.figure import Figure, Target
from scripts.benchmarks.process_tree import memory
from scripts.benchmarks.scenario import Scenario
from scripts.benchmarks.workbench import ASPIRED, Workbench

_MODELS = 30
_MEGABYTE = 1e6


def scenarios() -> list[Scenario]:
    return [
        Scenario("memory", "memory (PSS) of each process of a server of two models", (ASPIRED,), _memory),
        Scenario(
            "start-thirty", f"a server of {_MODELS} small models: from its command to ready, and memory", (), _start_thirty
        ),
    ]


def _memory(bench: Workbench) -> list[Figure]:
    by_kind: dict[str, list[float]] = defaultdict(list)
    for process in memory(bench.server(ASPIRED).pid):
        by_kind[process.kind].append(process.pss_bytes / _MEGABYTE)
    figures = [
        Figure(scenario="memory", quantity=f"{len(sizes)} x {kind}", unit="MB each", aspired=(mean(sizes),))
        for kind, sizes in sorted(by_kind.items(), key=lambda item: -sum(item[1]))
    ]
    total = sum(sum(sizes) for sizes in by_kind.values())
    return [Figure(scenario="memory", quantity="all", unit="MB", aspired=(total,)), *figures]


def _start_thirty(bench: Workbench) -> list[Figure]:
    base_path = bench.models["half_plus_two"]
    models = {f"small{number}": base_path for number in range(_MODELS)}
    begun = time.monotonic()
    with servers.aspired(bench.work / "thirty", *servers.model_config_flag(bench.work / "thirty", models)) as server:
        took = time.monotonic() - begun
        megabytes = sum(process.pss_bytes for process in memory(server.pid)) / _MEGABYTE
    return [
        Figure(scenario="start-thirty", quantity="ready", unit="s", aspired=(took,), target=Target(at_most=60.0, unit="s")),
        Figure(
            scenario="start-thirty", quantity="memory", unit="MB", aspired=(megabytes,), target=Target(at_most=4000, unit="MB")
        ),
    ]
