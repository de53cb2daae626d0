"""What has happened: the only input of the aspired-versions state machine. Past tense, frozen, safe to repeat."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from cluster.core.aspired_version import AspiredVersion
from cluster.core.errors import Status
from cluster.core.request_logging import RequestLogging
from cluster.core.resources import Node, ReplicaResources, ResourceRequest, Slot
from cluster.core.servable_id import ServableId


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How one stream is to be served; comes from its model config.

    `replicas` None: one for each GPU of the cluster, or one in all where there is none.
    `resources` are asked for each replica.
    `labels` are names for versions (TF Serving: `version_labels`), in any order.
    `request_logging` None: no request is logged.
    `resource_preserving`: unload the old version before the new one loads (TF Serving's ResourcePreservingPolicy).
    """

    replicas: int | None = None
    resources: ResourceRequest = ResourceRequest()
    resource_preserving: bool = False
    node_labels: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, int], ...] = ()
    request_logging: RequestLogging | None = None


@dataclass(frozen=True, slots=True)
class StreamsConfigured:
    """The configured streams, all of them, changed. A stream that is missing here is aspired no longer."""

    streams: Mapping[str, StreamOptions]


@dataclass(frozen=True, slots=True)
class VersionsAspired:
    """A source emitted the FULL list of aspired versions of one stream; a version that is omitted is to be unloaded."""

    stream: str
    versions: tuple[AspiredVersion, ...]


@dataclass(frozen=True, slots=True)
class CapacityChanged:
    """The cluster's nodes, all of them, as they are now."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Every replica of this copy of the version is ready and every live frontend routes to it."""

    id: ServableId
    instruction_id: str
    copy: int = 0


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """One attempt to load has failed, or was cancelled (code CANCELLED). Nothing of the version runs any more."""

    id: ServableId
    instruction_id: str
    status: Status
    copy: int = 0


@dataclass(frozen=True, slots=True)
class Quiesced:
    """No frontend routes to the version, and nothing is in flight in it."""

    id: ServableId
    instruction_id: str
    copy: int = 0


@dataclass(frozen=True, slots=True)
class Unloaded:
    """Nothing of the version runs any more."""

    id: ServableId
    instruction_id: str
    copy: int = 0


class ObservedPhase(enum.Enum):
    """What the manager sees of a version that runs."""

    LOADING = "loading"
    READY = "ready"
    QUIESCING = "quiescing"


@dataclass(frozen=True, slots=True)
class ObservedServable:
    """One copy of a version that the manager found running, with what it was loaded from and where.

    `resources` are those of its Load; None where they are not known, then the stream's options say.
    """

    version: AspiredVersion
    phase: ObservedPhase
    slots: tuple[Slot, ...]
    instruction_id: str
    resources: ReplicaResources | None = None
    copy: int = 0


@dataclass(frozen=True, slots=True)
class ClusterObserved:
    """Everything that runs, after the manager or the controller has (re)started. What is not in it does not run."""

    servables: tuple[ObservedServable, ...]


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The server drains: nothing is aspired any more, and nothing will be."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Nothing happened but time; retries and deadlines are looked at."""


Event = (
    StreamsConfigured
    | VersionsAspired
    | CapacityChanged
    | Loaded
    | LoadFailed
    | Quiesced
    | Unloaded
    | ClusterObserved
    | StopRequested
    | TimePassed
)
