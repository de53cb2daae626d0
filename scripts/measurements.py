"""The chopstick data set: which chopsticks are best to eat with?

The question comes from a study of 1991 in which 31 people pinched food with chopsticks of six lengths. These data are not
that study's: they are drawn from a model of our own with the same design, so that they have something to learn (a best
length, and skilful and clumsy people) and may be given to anyone. Needs no TensorFlow.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.core.errors import InvalidArgument

LENGTHS_MM = (180, 210, 240, 270, 300, 330)
PERSONS = 31
TRIALS = 8
CLASSES = ("low", "medium", "high")
MAX_PERSON = 99_999
BEST_LENGTH_MM = 240.0
SEED = 1991

_COLUMNS = ("length_mm", "person", "efficiency", "class")
_HELD_BACK = 0.2


@dataclass(frozen=True, slots=True)
class Measurements:
    """One row a trial: `person` counts from 1, `efficiency` is the score of food pinched, `label` indexes `CLASSES`."""

    length_mm: NDArray[np.float32]
    person: NDArray[np.int64]
    efficiency: NDArray[np.float32]
    label: NDArray[np.int64]

    def __len__(self) -> int:
        return self.label.size

    def rows(self, chosen: NDArray[np.bool_] | slice) -> Measurements:
        return Measurements(self.length_mm[chosen], self.person[chosen], self.efficiency[chosen], self.label[chosen])

    def held_back(self) -> NDArray[np.bool_]:
        """Which rows, a fifth, no model is trained on. A row stays on its side for ever, also when more rows follow it."""
        return np.random.default_rng(SEED).random(len(self)) < _HELD_BACK

    def to_csv(self) -> str:
        columns = zip(self.length_mm, self.person, self.efficiency, self.label, strict=True)
        lines = [f"{length:.0f},{person},{efficiency:.2f},{CLASSES[label]}" for length, person, efficiency, label in columns]
        return "\n".join([",".join(_COLUMNS), *lines, ""])


def generate_measurements(month: int = 1) -> Measurements:
    """What was measured in a month, counted from 1; the same every time.

    The first month is the data set of the sample model, a third of its rows in each class. Every later month has as many
    people who were never there before, with a skill and a best length of their own: a model has to be trained to know them.
    """
    person, length_mm, efficiency = _pinch(month)
    bounds = np.quantile(_pinch(1)[2], [1 / 3, 2 / 3])
    label = np.digitize(efficiency, bounds)
    return Measurements(length_mm.astype(np.float32), person.astype(np.int64), efficiency.astype(np.float32), label)


def concatenate(parts: Sequence[Measurements]) -> Measurements:
    """All rows of one or more sets."""
    return Measurements(
        np.concatenate([part.length_mm for part in parts]),
        np.concatenate([part.person for part in parts]),
        np.concatenate([part.efficiency for part in parts]),
        np.concatenate([part.label for part in parts]),
    )


def parse_csv(text: str, path: str) -> Measurements:
    """What `to_csv` writes; columns may be in any order. Raises InvalidArgument that names `path`, the line and the fix."""
    reader = csv.DictReader(io.StringIO(text))
    missing = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise InvalidArgument(f"{path}: no column {', '.join(missing)}; the first line must be {','.join(_COLUMNS)}")
    rows = []
    for row in reader:
        try:
            rows.append(_parse_row(row))
        except ValueError as error:
            raise InvalidArgument(f"{path}, line {reader.line_num}: {error}") from error
    if not rows:
        raise InvalidArgument(f"{path}: no row after the first line; delete the file, or put measurements into it")
    length_mm, person, efficiency, label = zip(*rows, strict=True)
    return Measurements(
        np.array(length_mm, np.float32), np.array(person, np.int64), np.array(efficiency, np.float32), np.array(label, np.int64)
    )


def _parse_row(row: dict[str, Any]) -> tuple[float, int, float, int]:
    length_mm, person, efficiency = (_number(row, column) for column in _COLUMNS[:3])
    if not 0 < length_mm < 10_000:
        raise ValueError(f"length_mm is {row['length_mm']}; expected millimetres, like 240")
    if not (person.is_integer() and 1 <= person <= MAX_PERSON):
        raise ValueError(f"person is {row['person']}; expected a number from 1 to {MAX_PERSON}")
    if row["class"] not in CLASSES:
        raise ValueError(f"class is {row['class']!r}; expected one of {', '.join(CLASSES)}")
    return length_mm, int(person), efficiency, CLASSES.index(row["class"])


def _number(row: dict[str, Any], column: str) -> float:
    try:
        number = float(row[column])
    except (TypeError, ValueError):
        raise ValueError(f"{column} is {row[column]!r}; expected a number") from None
    if not np.isfinite(number):
        raise ValueError(f"{column} is {row[column]}; expected a finite number")
    return number


def _pinch(month: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Person, length and efficiency of every trial of a month."""
    rng = np.random.default_rng(SEED + month - 1)
    skill = rng.normal(0.0, 4.0, PERSONS + 1)
    best_length_mm = rng.normal(BEST_LENGTH_MM, 12.0, PERSONS + 1)
    person, length_mm = (
        column.reshape(-1).repeat(TRIALS) for column in np.meshgrid(np.arange(1, PERSONS + 1), LENGTHS_MM, indexing="ij")
    )
    off_mm = length_mm - best_length_mm[person]
    efficiency = 26.0 + skill[person] - (off_mm / 30.0) ** 2 + rng.normal(0.0, 1.2, person.size)
    return person + PERSONS * (month - 1), length_mm, efficiency
