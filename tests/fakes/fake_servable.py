"""A servable whose answers, delays and failures a test decides."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from servables.servable import Array, Servable
from servables.signatures import DEFAULT_SIGNATURE_NAME, PREDICT_METHOD_NAME, Signature

Function = Callable[[Mapping[str, Array]], dict[str, Array]]


class Gate:
    """Holds runs until the test opens it. Closed at first."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        self._reached = threading.Semaphore(0)

    def open(self) -> None:
        self._opened.set()

    def wait_until_reached(self, times: int = 1) -> None:
        """Blocks the test until so many more runs stand at the gate."""
        for _ in range(times):
            if not self._reached.acquire(timeout=30):
                raise TimeoutError("no run has come to the gate")

    def pass_through(self) -> None:
        self._reached.release()
        if not self._opened.wait(timeout=30):
            raise TimeoutError("the gate was not opened")


class FakeServable(Servable):
    """Computes `function(inputs)`, by default `y = x / 2 + 2`, for every signature that it has.

    `fails` gets the inputs of a run and returns the error to raise, if any. A run whose inputs make `held` true waits at
    `gate`. `runs` are the rows of each run, in the order they began.
    """

    def __init__(
        self,
        function: Function | None = None,
        *,
        signatures: Mapping[str, Signature] | None = None,
        deterministic: bool = True,
        gate: Gate | None = None,
        held: Callable[[Mapping[str, Array]], bool] = lambda _: True,
        fails: Callable[[Mapping[str, Array]], BaseException | None] = lambda _: None,
    ) -> None:
        self._function = function or half_plus_two
        self._signatures = signatures or {DEFAULT_SIGNATURE_NAME: Signature(PREDICT_METHOD_NAME, {}, {})}
        self._deterministic = deterministic
        self._gate = gate
        self._held = held
        self._fails = fails
        self.runs: list[int] = []
        self.timeouts_s: list[float | None] = []
        self.closed = False

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._signatures

    @property
    def deterministic(self) -> bool:
        return self._deterministic

    def run(
        self, signature_name: str, inputs: Mapping[str, Array], outputs: Sequence[str], timeout_s: float | None
    ) -> dict[str, Array]:
        self.runs.append(len(np.atleast_1d(next(iter(inputs.values()), []))))
        self.timeouts_s.append(timeout_s)
        if self._gate is not None and self._held(inputs):
            self._gate.pass_through()
        error = self._fails(inputs)
        if error is not None:
            raise error
        computed = self._function(inputs)
        return {alias: computed[alias] for alias in outputs}

    def close(self) -> None:
        self.closed = True


def half_plus_two(inputs: Mapping[str, Array]) -> dict[str, Array]:
    x: Any = inputs["x"]
    return {"y": np.asarray(x / 2 + 2)}
