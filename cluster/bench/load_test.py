"""One test: every load of a sweep, one after the other, each measured until enough is known."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.bench.generator_process import Destination, GeneratorProcesses
from cluster.bench.load import Load
from cluster.bench.load_request import LoadRequest
from cluster.bench.measurement import Measurement, Schedule
from cluster.bench.point import Point
from cluster.bench.sample import Sample
from cluster.bench.server_metrics import Series, breakdown

Scrape = Callable[[], Series | None]
"""Reads the server's metrics; None where there are none to be had."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A second, about, of a load. `elapsed_s` counts from its beginning; `tick` is that second alone."""

    load: Load
    elapsed_s: float
    tick: Sample
    warming_up: bool


class LoadTest:
    """`points` are what has been measured so far; an exception that ends `run`, KeyboardInterrupt too, leaves them.

    The load under which it comes is then the last one, as far as it was measured.
    """

    def __init__(
        self, model: str, schedule: Schedule, scrape: Scrape, progress: Callable[[Progress], None] = lambda _: None
    ) -> None:
        self._model = model
        self._schedule = schedule
        self._scrape = scrape
        self._progress = progress
        self.points: list[Point] = []

    def run(self, loads: Sequence[Load], destination: Destination, requests: Sequence[LoadRequest], processes: int) -> None:
        """Raises Internal when a generator dies. What requests are answered with is a figure, never an error."""
        with GeneratorProcesses(processes, destination, requests) as generators:
            for load in loads:
                self._measure(load, generators)

    def _measure(self, load: Load, generators: GeneratorProcesses) -> None:
        measurement = Measurement(self._schedule)
        try:
            before = self._watch(load, measurement, generators)
            after = self._scrape()
        except BaseException:
            if measurement.begun:
                self.points.append(Point(load=load, sample=measurement.sample(), interrupted=True))
            raise
        self.points.append(
            Point(
                load=load,
                sample=measurement.sample(),
                stable=measurement.stable,
                breakdown=None if before is None or after is None else breakdown(before, after, self._model),
            )
        )

    def _watch(self, load: Load, measurement: Measurement, generators: GeneratorProcesses) -> Series | None:
        """Keeps the load up until the measurement is done; returns the server's metrics as they were after the warm-up."""
        schedule = self._schedule
        with contextlib.closing(generators.run(load, warmup_s=schedule.warmup_s, tick_s=schedule.tick_s)) as ticks:
            warmup = next(ticks)
            elapsed_s = warmup.elapsed_s
            self._progress(Progress(load, elapsed_s, warmup, warming_up=True))
            before = self._scrape()
            for tick in ticks:
                measurement.add(tick)
                elapsed_s += tick.elapsed_s
                self._progress(Progress(load, elapsed_s, tick, warming_up=False))
                if measurement.done:
                    break
        return before
