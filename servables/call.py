"""The unit of work between a frontend and a replica, and the frame that carries many of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cluster.core.errors import Status

_NO_OUTPUTS: Mapping[str, NDArray[np.generic]] = MappingProxyType({})


class Call(NamedTuple):
    """Run one signature of one version on one request's tensors. Transport-neutral; classify and regress are calls too.

    `call_id` is unique within the frontend that made it. `inputs` and `outputs` are by alias, outputs never empty.
    `timeout_s` is the time that is left, a duration since clocks differ; None waits for ever.
    """

    call_id: int
    signature_name: str
    inputs: Mapping[str, NDArray[np.generic]]
    outputs: tuple[str, ...]
    timeout_s: float | None = None


class Reply(NamedTuple):
    """The end of one call: its outputs by alias, or the error. Exactly one reply comes for each call."""

    call_id: int
    outputs: Mapping[str, NDArray[np.generic]] = _NO_OUTPUTS
    status: Status = Status()
