"""The latency of model A while B to F load, are swapped and unload, and how long each of these takes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path

import httpx

from cluster.core.errors import DeadlineExceeded, Internal
from scripts.benchmarks.figure import Figure, Target
from scripts.benchmarks.load_generator import h2load, percentile
from scripts.benchmarks.payload import half_plus_two
from scripts.benchmarks.scenario import Scenario
from scripts.benchmarks.servers import RunningServer
from scripts.benchmarks.workbench import ASPIRED_REPOSITORY, IN_PROCESS, Workbench

_NAME = "neighbours"
_NEIGHBOURS = tuple("bcdef")
_CONNECTIONS = 8
_RATE_PER_CONNECTION = 25.0
_CHANGE_TIMEOUT_S = 300.0
_POLL_S = 0.1


def scenarios() -> list[Scenario]:
    return [
        Scenario(
            _NAME,
            f"p99 of model A ({_CONNECTIONS * _RATE_PER_CONNECTION:g} REST requests/s) while five others come and go",
            (ASPIRED_REPOSITORY, IN_PROCESS),
            _measure,
        ),
        Scenario("start-one", "a small model, from its last file to AVAILABLE, and a swap", (ASPIRED_REPOSITORY,), _start_one),
    ]


def _measure(bench: Workbench) -> list[Figure]:
    server = bench.server(ASPIRED_REPOSITORY)
    bench.check(server, half_plus_two(), "REST")
    changes: tuple[tuple[str, Callable[[], None]], ...] = (
        ("load", lambda: _put(bench, server, _NEIGHBOURS, 1)),
        ("are swapped", lambda: _put(bench, server, _NEIGHBOURS, 2)),
        ("unload", lambda: _remove(bench, server, _NEIGHBOURS)),
    )
    figures = []
    _latencies(bench, server, lambda: time.sleep(bench.seconds))
    for verb, change in changes:
        alone = _latencies(bench, server, lambda: time.sleep(2 * bench.seconds))
        begun = time.monotonic()
        meanwhile = _latencies(bench, server, change)
        took = time.monotonic() - begun
        figures += [
            Figure(
                scenario=_NAME,
                quantity=f"{quantity} while B to F {verb}",
                unit="ms",
                aspired=(percentile(meanwhile, percent),),
                peer=(percentile(alone, percent),),
                peer_name="A alone",
                target=Target(at_most=1.5) if percent == 99 else None,
            )
            for quantity, percent in (("p50", 50), ("p99", 99))
        ]
        figures.append(Figure(scenario=_NAME, quantity=f"B to F {verb}", unit="s", aspired=(took,)))
    bench.check(server, half_plus_two(), "REST")
    return figures


def _latencies(bench: Workbench, server: RunningServer, change: Callable[[], None]) -> list[float]:
    """Of A's requests while `change` runs, in order."""
    payload = half_plus_two()
    body = bench.work / "request.json"
    body.write_bytes(server.api.rest_body(payload))
    url = server.rest_url(server.api.rest_path(payload))
    took: list[float] = []
    with ThreadPoolExecutor(1) as executor:
        done: Future[None] = executor.submit(change)
        while not done.done():
            load, requests = h2load(
                url,
                body,
                ("content-type: application/json",),
                _CONNECTIONS,
                1,
                bench.work,
                http1=True,
                rate_per_connection=_RATE_PER_CONNECTION,
            )
            load.checked("model A")
            took += [request.took_micros / 1e3 for request in requests]
        done.result()
    return sorted(took)


def _start_one(bench: Workbench) -> list[Figure]:
    server = bench.server(ASPIRED_REPOSITORY)
    loads: list[float] = []
    swaps: list[float] = []
    for number in range(bench.rounds):
        names = (f"small{number}",)
        for version, found in ((1, loads), (2, swaps)):
            begun = time.monotonic()
            _put(bench, server, names, version)
            found.append(time.monotonic() - begun)
        _remove(bench, server, names)
    return [
        Figure(scenario="start-one", quantity="load", unit="s", aspired=tuple(loads), target=Target(at_most=3.0, unit="s")),
        Figure(scenario="start-one", quantity="swap", unit="s", aspired=tuple(swaps)),
    ]


def _put(bench: Workbench, server: RunningServer, names: tuple[str, ...], version: int) -> None:
    """Puts a version of half_plus_two in place, whole at once, and waits until it is the only one that is AVAILABLE."""
    for name in names:
        base_path = bench.repository / name
        base_path.mkdir(exist_ok=True)
        fresh = bench.work / f"{name}-{version}"
        shutil.copytree(bench.saved_model("half_plus_two"), fresh)
        fresh.rename(base_path / str(version))
    for name in names:
        _wait(lambda name=name: _available(server, name) == [str(version)], f"{name} {version} is AVAILABLE")  # type: ignore[misc]


def _remove(bench: Workbench, server: RunningServer, names: tuple[str, ...]) -> None:
    for name in names:
        base_path: Path = bench.repository / name
        base_path.rename(bench.work / f"removed-{name}-{time.monotonic_ns()}")
    for name in names:
        _wait(lambda name=name: not _available(server, name), f"{name} is gone")  # type: ignore[misc]


def _available(server: RunningServer, name: str) -> list[str]:
    """The versions of a model that are AVAILABLE, or still on their way out."""
    try:
        answer = _client().get(server.rest_url(f"/v1/models/{name}"))
    except httpx.HTTPError as error:
        raise Internal(f"the status of {name} cannot be read: {error!r}") from None
    if answer.status_code == httpx.codes.NOT_FOUND:
        return []
    statuses = answer.json()["model_version_status"]
    if any(status["status"]["error_code"] != "OK" for status in statuses):
        raise Internal(f"a neighbour cannot be loaded: {statuses}")
    return [status["version"] for status in statuses if status["state"] in ("AVAILABLE", "UNLOADING")]


@cache
def _client() -> httpx.Client:
    """One for all: making a client costs more processor time than many requests, on cores that are measured."""
    return httpx.Client(timeout=_CHANGE_TIMEOUT_S)


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _CHANGE_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise DeadlineExceeded(f"not within {_CHANGE_TIMEOUT_S:.0f} s: {what}")
        time.sleep(_POLL_S)
