"""The public life of a servable version, as GetModelStatus shows it (TF Serving: `core/servable_state.h`)."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from cluster.core.errors import Status
from cluster.core.servable_id import ServableId


class PublicState(enum.IntEnum):
    """TF Serving's `ModelVersionStatus.State`; the numbers are the wire's."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True, slots=True)
class ServableState:
    """What everybody may know of one version.

    `status` is OK unless the last load failed: at END the version's final error, while LOADING
    the error of the attempt before (shown to operators; GetModelStatus shows it too).
    """

    id: ServableId
    state: PublicState
    status: Status = Status()
