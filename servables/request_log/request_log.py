"""What a frontend sees of a model's request log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from cluster.core.servable_id import ServableId

MakeLog = Callable[[], Any]
"""Makes the PredictionLog of a request and its answer, without metadata. Called at most once, later, on another thread."""


class RequestLog(Protocol):
    """The log of one model. A frontend looks it up for each answer; for a model that logs nothing there is none."""

    def offer(self, servable: ServableId, signature_name: str, make_log: MakeLog, size_bytes: int) -> None:
        """A request has been answered, by this signature of this version: logs it if chance or the log's bounds let it.

        `size_bytes` is about what `make_log` holds on to. Returns at once and raises nothing.
        """


def is_sampled(sampling_rate: float, chance: float) -> bool:
    """Whether a request is logged, `chance` being drawn evenly from [0, 1)."""
    return chance < sampling_rate
