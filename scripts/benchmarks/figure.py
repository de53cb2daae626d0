"""What a scenario found: values of Aspired and of its peer, round by round, and whether that meets a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, NamedTuple

Verdict = Literal["met", "not met", "-"]


class Spread(NamedTuple):
    """Values of several rounds as their median, least and greatest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A bound of a figure's ratio to its peer, or of its value where it has none. `unit` is "x" for a ratio."""

    at_least: float | None = None
    at_most: float | None = None
    unit: str = "x"

    def met_by(self, value: float) -> bool:
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        bounds = (("at least", self.at_least), ("at most", self.at_most))
        unit = self.unit if self.unit in ("", "x") else f" {self.unit}"
        return " and ".join(f"{word} {bound:g}{unit}" for word, bound in bounds if bound is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the report.

    `aspired` has a value for each round; so has `peer`, measured in the same rounds, or it is empty. A ratio is formed
    within a round, so that what slows the machine for a while slows both of its sides.
    """

    scenario: str
    quantity: str
    unit: str
    aspired: tuple[float, ...]
    peer: tuple[float, ...] = ()
    peer_name: str = ""
    target: Target | None = None

    def __post_init__(self) -> None:
        if not self.aspired or (self.peer and len(self.peer) != len(self.aspired)):
            raise ValueError(f"{self.scenario}, {self.quantity}: {len(self.aspired)} rounds against {len(self.peer)}")

    @property
    def ratios(self) -> tuple[float, ...]:
        """Aspired's value as a multiple of its peer's, by round; empty without a peer."""
        return tuple(ours / theirs for ours, theirs in zip(self.aspired, self.peer, strict=bool(self.peer)))

    @property
    def verdict(self) -> Verdict:
        """Of the median; the spread beside it says how sure that is."""
        if self.target is None:
            return "-"
        return "met" if self.target.met_by(median(self.ratios or self.aspired)) else "not met"
