"""How far the fetching of a version's files to a node is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_MEBIBYTE = 1 << 20
_HALF_LIFE_S = 3.0


@dataclass(frozen=True, slots=True)
class FetchProgress:
    """`bytes_done` of `bytes_total` are there, `bytes_per_s` come at present. `trouble`: why none come; empty while they do."""

    bytes_done: int
    bytes_total: int
    bytes_per_s: float = 0.0
    trouble: str = ""

    def __str__(self) -> str:
        done, total = self.bytes_done / _MEBIBYTE, self.bytes_total / _MEBIBYTE
        places = 0 if total >= 10 else 1
        told = f"{done:.{places}f} of {total:.{places}f} MiB, {self.bytes_per_s / _MEBIBYTE:.{places}f} MiB/s"
        return f"{told}: {self.trouble}" if self.trouble else told


class ProgressMeter:
    """Makes FetchProgress of counts of bytes, with a speed that forgets the past by half every few seconds."""

    def __init__(self, now: float) -> None:
        self._at = now
        self._done: int | None = None
        self._bytes_per_s: float | None = None

    def read(self, done: int, total: int, now: float, trouble: str = "") -> FetchProgress:
        elapsed = now - self._at
        if self._done is not None and elapsed > 0:
            speed = max(0, done - self._done) / elapsed
            weight = 0.5 ** (elapsed / _HALF_LIFE_S)
            before = speed if self._bytes_per_s is None else self._bytes_per_s
            self._bytes_per_s = before * weight + speed * (1 - weight)
        self._done, self._at = done, now
        return FetchProgress(done, total, self._bytes_per_s or 0.0, trouble)


def total_progress(parts: Sequence[FetchProgress]) -> FetchProgress:
    """What several nodes fetch, as one."""
    return FetchProgress(
        sum(part.bytes_done for part in parts),
        sum(part.bytes_total for part in parts),
        sum(part.bytes_per_s for part in parts),
        next((part.trouble for part in parts if part.trouble), ""),
    )
