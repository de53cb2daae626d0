"""Load up to saturation and ten times beyond: what is accepted, how long that takes, and how fast the rest is refused."""

from __future__ import annotations

from typing import NamedTuple

from scripts.benchmarks.figure import Figure, Target
from scripts.benchmarks.load_generator import Load, h2load, percentile
from scripts.benchmarks.payload import half_plus_two
from scripts.benchmarks.processor_profile import ProcessorProfile
from scripts.benchmarks.scenario import Scenario
from scripts.benchmarks.workbench import ASPIRED, IN_PROCESS, WARM_UP_S, Workbench

_SATURATING_CONNECTIONS = 128
_LEVELS = (1, 2, 5, 10)


class _Level(NamedTuple):
    load: Load
    refusal_p99_ms: float


def scenarios() -> list[Scenario]:
    return [
        Scenario(
            "overload",
            f"REST half_plus_two with {_SATURATING_CONNECTIONS} connections, and up to {_LEVELS[-1]} times as many",
            (ASPIRED, IN_PROCESS),
            _measure,
        )
    ]


def _measure(bench: Workbench) -> list[Figure]:
    bench.check(bench.server(ASPIRED), half_plus_two(), "REST")
    profiles = [ProcessorProfile("overload", "request", at=f" at {times}x") for times in _LEVELS]
    rounds = [
        [_level(bench, times, profile) for times, profile in zip(_LEVELS, profiles, strict=True)] for _ in range(bench.rounds)
    ]
    bench.check(bench.server(ASPIRED), half_plus_two(), "REST")
    peaks = tuple(max(level.load.requests_per_s for level in each) for each in rounds)
    figures = []
    for place, times in enumerate(_LEVELS):
        at_level = [each[place] for each in rounds]
        last = times == _LEVELS[-1]
        figures += [
            Figure(
                scenario="overload",
                quantity=f"accepted at {times}x",
                unit="requests/s",
                aspired=tuple(level.load.requests_per_s for level in at_level),
                peer=peaks,
                peer_name="peak",
                target=Target(at_least=0.9) if last else None,
            ),
            _figure(f"p99 of accepted at {times}x", "ms", [level.load.p99_ms for level in at_level]),
            *profiles[place].figures(),
            _figure(f"429 and 503 at {times}x", "requests", [level.load.refused for level in at_level]),
            _figure(f"without an answer at {times}x", "requests", [level.load.failed for level in at_level]),
        ]
        if any(level.load.refused for level in at_level):
            refusals = [level.refusal_p99_ms for level in at_level if level.load.refused]
            figures.append(_figure(f"p99 of a refusal at {times}x", "ms", refusals))
    return figures


def _figure(quantity: str, unit: str, values: list[float]) -> Figure:
    return Figure(scenario="overload", quantity=quantity, unit=unit, aspired=tuple(values))


def _level(bench: Workbench, times: int, profile: ProcessorProfile) -> _Level:
    server = bench.server(ASPIRED)
    payload = half_plus_two()
    body = bench.work / "request.json"
    body.write_bytes(server.api.rest_body(payload))
    url = server.rest_url(server.api.rest_path(payload))
    connections = times * _SATURATING_CONNECTIONS
    headers = ("content-type: application/json",)
    h2load(url, body, headers, connections, WARM_UP_S, bench.work, http1=True)
    load, requests = profile.round(
        server,
        lambda: h2load(url, body, headers, connections, bench.seconds, bench.work, http1=True),
        lambda found: len(found[1]),
    )
    refusals = sorted(request.took_micros / 1e3 for request in requests if request.status in (429, 503))
    return _Level(load, percentile(refusals, 99))
