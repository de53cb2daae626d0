"""The unit of work between a frontend and a replica, and the frame that carries many of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cluster.core.errors import Status


@dataclass(frozen=True, slots=True)
class Call:
    """Run one signature of one version on one request's tensors. Transport-neutral; classify and regress are calls too.

    `call_id` is unique within the frontend that made it. `inputs` and `outputs` are by alias, outputs never empty.
    `timeout_s` is the time that is left, a duration since clocks differ; None waits for ever.
    """

    call_id: int
    signature_name: str
    inputs: Mapping[str, NDArray[np.generic]]
    outputs: tuple[str, ...]
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """The end of one call: its outputs by alias, or the error. Exactly one reply comes for each call."""

    call_id: int
    outputs: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    status: Status = Status()
