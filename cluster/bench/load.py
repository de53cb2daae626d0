"""How requests are sent: by so many callers that each wait for their answer, or at given times whatever the answers do."""

from __future__ import annotations

import enum
import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """`concurrency` requests are under way at any time: each answer is followed by the next request."""

    concurrency: int

    @property
    def value(self) -> float:
        return self.concurrency

    def __str__(self) -> str:
        return f"concurrency {self.concurrency}"

    def share(self, index: int, processes: int) -> int:
        """How many of them process `index` of so many has under way."""
        return self.concurrency // processes + (index < self.concurrency % processes)


class Arrivals(enum.Enum):
    CONSTANT = "constant"
    POISSON = "poisson"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoop:
    """`rate` requests a second, sent when their time has come; a latency counts from that time.

    What comes while `max_in_flight` requests are under way waits here, and that waiting is part of its latency.
    """

    rate: float
    arrivals: Arrivals = Arrivals.POISSON
    max_in_flight: int = 512
    seed: int = 0

    @property
    def value(self) -> float:
        return self.rate

    def __str__(self) -> str:
        return f"rate {self.rate:g}/s"

    def share(self, index: int, processes: int) -> int:
        """How many requests process `index` of so many may have under way."""
        return max(1, ClosedLoop(self.max_in_flight).share(index, processes))

    def send_times(self, index: int, processes: int) -> Iterator[float]:
        """When process `index` of so many sends, in seconds from the beginning, without end.

        Constant arrivals of all processes are evenly spaced together; Poisson processes add up to one.
        """
        if self.arrivals is Arrivals.CONSTANT:
            return (number / self.rate for number in itertools.count(index, processes))
        return _poisson(self.rate / processes, random.Random(f"{self.seed}/{index}"))


Load: TypeAlias = ClosedLoop | OpenLoop


def _poisson(rate: float, source: random.Random) -> Iterator[float]:
    time = 0.0
    while True:
        time -= math.log(1.0 - source.random()) / rate
        yield time
