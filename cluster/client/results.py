"""What the inference methods return."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cluster.core.errors import InvalidArgument

Array = NDArray[Any]
"""A tensor, possibly read-only (a view of the reply). DT_STRING is an array of dtype object that holds `bytes`."""


class Prediction(Mapping[str, Array]):
    """A predict reply: output name -> array. With a single output it is also that array, for `np.asarray` and `.array`.

    `model_version` is the version that answered; None on REST, whose replies do not tell.
    """

    __slots__ = ("_outputs", "model_version")

    def __init__(self, outputs: Mapping[str, Array], model_version: int | None = None) -> None:
        self._outputs = dict(outputs)
        self.model_version = model_version

    def __getitem__(self, name: str) -> Array:
        return self._outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)

    def __repr__(self) -> str:
        return f"Prediction({self._outputs!r}, model_version={self.model_version})"

    @property
    def array(self) -> Array:
        """The only output. Raises InvalidArgument when there are several."""
        if len(self._outputs) != 1:
            raise InvalidArgument(f"The prediction has {len(self._outputs)} outputs: {', '.join(sorted(self._outputs))}")
        (array,) = self._outputs.values()
        return array

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.array(self.array, dtype=dtype, copy=True) if copy else np.asarray(self.array, dtype=dtype)


@dataclass(frozen=True, slots=True)
class Class:
    """One class of one example (TF Serving's `Class`). A model without labels gives "", without scores 0."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Classifications(Sequence[tuple[Class, ...]]):
    """A classify reply: for each example its classes, in the model's order."""

    results: tuple[tuple[Class, ...], ...]
    model_version: int | None = None

    @overload
    def __getitem__(self, index: int) -> tuple[Class, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[tuple[Class, ...], ...]: ...
    def __getitem__(self, index: int | slice) -> tuple[Class, ...] | tuple[tuple[Class, ...], ...]:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)


@dataclass(frozen=True, slots=True)
class Regressions(Sequence[float]):
    """A regress reply: one value for each example."""

    results: tuple[float, ...]
    model_version: int | None = None

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[float, ...]: ...
    def __getitem__(self, index: int | slice) -> float | tuple[float, ...]:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    @property
    def array(self) -> NDArray[np.float32]:
        return np.array(self.results, dtype=np.float32)
