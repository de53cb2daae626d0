"""The values that a model is sent, the same for every server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Payload:
    """A request's tensor, for a model of one input and one output.

    `flat` writes rows of one value without their brackets, as TF Serving's example for half_plus_two does.
    """

    model: str
    input_alias: str
    output_alias: str
    values: NDArray[np.float32]
    flat: bool = False

    @property
    def rows(self) -> int:
        return len(self.values)

    @property
    def json(self) -> bytes:
        """The rows as a JSON list, every number with the digits that its float32 needs."""
        return orjson.dumps(self.values.ravel() if self.flat else self.values, option=orjson.OPT_SERIALIZE_NUMPY)


def half_plus_two() -> Payload:
    return Payload("half_plus_two", "x", "y", np.array([[1.0], [2.0], [5.0]], np.float32), flat=True)


def half_plus_two_tensor(megabytes: float) -> Payload:
    """As many rows as make a tensor of that size; the answer is as large."""
    return Payload("half_plus_two", "x", "y", _random((round(megabytes * 1e6 / 4), 1)))


def mlp() -> Payload:
    return Payload("mlp", "image", "probabilities", _random((1, 784)))


def images(model: str, rows: int, side: int) -> Payload:
    return Payload(model, "image", "probabilities", _random((rows, side, side, 3)))


def _random(shape: tuple[int, ...]) -> NDArray[np.float32]:
    values: NDArray[Any] = np.random.default_rng(len(shape)).random(shape, np.float32)
    return values
