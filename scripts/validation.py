"""Whether a candidate is better than the served version: both are scored on the same held-back rows. No IO."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cluster.core.errors import InvalidArgument

# A model that is certain and wrong is punished as if it were this uncertain, not without end.
_LEAST_PROBABILITY = 1e-7
# What JSON and float32 may take from a sum of probabilities.
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Score:
    """How well probabilities fit labels: the share of rows whose likeliest class is right, and the mean of -ln p(label)."""

    rows: int
    accuracy: float
    log_loss: float

    def __str__(self) -> str:
        return f"accuracy {self.accuracy:.1%}, log loss {self.log_loss:.3f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """By how much a candidate has to be better, in both at once, and on how many rows at least that has to be seen."""

    accuracy: float = 0.01
    log_loss: float = 0.01
    rows: int = 100


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` is one line for people."""

    publish: bool
    reason: str


def score(probabilities: NDArray[np.floating], label: NDArray[np.int64]) -> Score:
    """Scores [rows, classes] against the class of each row. Raises InvalidArgument when a row is no probabilities."""
    if probabilities.ndim != 2 or len(probabilities) != len(label) or probabilities.shape[1] <= label.max(initial=0):
        raise InvalidArgument(
            f"probabilities have the shape {probabilities.shape} for {len(label)} rows: not one for each class"
        )
    wrong = ~(np.abs(probabilities.sum(axis=1) - 1.0) < _SUM_TOLERANCE) | ~(probabilities >= 0.0).all(axis=1)
    if wrong.any():
        raise InvalidArgument(f"{probabilities[wrong][0].tolist()} are no probabilities: they must add up to 1")
    right = probabilities.argmax(axis=1) == label
    of_label = probabilities[np.arange(len(label)), label].clip(_LEAST_PROBABILITY)
    return Score(len(label), float(right.mean()), float(-np.log(of_label).mean()))


def decide(candidate: Score, served: Score | None, margin: Margin) -> Verdict:
    """Whether the candidate is to be published. `served` is None where no version is served yet: then there is none to beat."""
    if candidate.rows < margin.rows:
        return Verdict(False, f"too little data: {candidate.rows} held-back rows, {margin.rows} are needed")
    if served is None:
        return Verdict(True, "no version is served yet")
    # Rounded, so that a gain of one hundredth is one, whatever the last bit of a difference says.
    more_accurate = round(candidate.accuracy - served.accuracy, 9)
    less_loss = round(served.log_loss - candidate.log_loss, 9)
    better = more_accurate >= margin.accuracy and less_loss >= margin.log_loss
    accuracy = f"accuracy {more_accurate * 100:+.2f} points ({margin.accuracy * 100:+.2f} or more wanted)"
    log_loss = f"log loss {-less_loss:+.3f} ({-margin.log_loss:+.3f} or less wanted)"
    return Verdict(better, f"{'better' if better else 'not better'}: {accuracy}, {log_loss}")
