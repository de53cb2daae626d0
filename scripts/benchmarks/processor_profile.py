"""Whose processor time a piece of work takes: by kind of process, in its own code and in the kernel."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import TypeVar

from scripts.benchmarks.figure import Figure
from scripts.benchmarks.process_tree import ProcessorTime, processor_time_by_kind
from scripts.benchmarks.servers import RunningServer

LOAD_GENERATOR = "load generator"
SERVING = ("frontend", "version replica")

Found = TypeVar("Found")


class ProcessorProfile:
    """Collects one measurement a round. `unit` is what the time is for: a request, a row."""

    def __init__(self, scenario: str, unit: str, *, at: str = "", kinds: tuple[str, ...] = (*SERVING, LOAD_GENERATOR)) -> None:
        self._scenario = scenario
        self._unit = f"us/{unit}"
        self._at = at
        self._kinds = kinds
        self._rounds: list[dict[str, ProcessorTime]] = []

    def round(self, server: RunningServer, drive: Callable[[], Found], units: Callable[[Found], float]) -> Found:
        """Drives the server; `units` says of what `drive` returned how much work it was."""
        before = _times(server)
        found = drive()
        spent = _times(server)
        done = max(units(found), 1.0)
        nothing = ProcessorTime(0.0, 0.0)
        self._rounds.append({kind: (spent.get(kind, nothing) - before.get(kind, nothing)) / done for kind in self._kinds})
        return found

    def figures(self) -> list[Figure]:
        """For each kind of process its time, and the part of it in the kernel."""
        return [
            self._figure(f"processor, {kind}{where}{self._at}", [part(each[kind]) for each in self._rounds])
            for kind in self._kinds
            for where, part in (("", _all), (", in the kernel", _kernel))
        ]

    def _figure(self, quantity: str, seconds: list[float]) -> Figure:
        values = tuple(each * 1e6 for each in seconds)
        return Figure(scenario=self._scenario, quantity=quantity, unit=self._unit, aspired=values)


def _all(time: ProcessorTime) -> float:
    return time.user_s + time.kernel_s


def _kernel(time: ProcessorTime) -> float:
    return time.kernel_s


def _times(server: RunningServer) -> dict[str, ProcessorTime]:
    # wrk and h2load have ended when this is asked: they count among the children that were waited for.
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {**processor_time_by_kind(server.pid), LOAD_GENERATOR: ProcessorTime(ended.ru_utime, ended.ru_stime)}
