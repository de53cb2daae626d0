"""What a version replica and the manager tell each other."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from cluster.core.aspired_version import AspiredVersion
from cluster.core.errors import Status
from cluster.core.fetch_progress import FetchProgress
from cluster.core.resources import ReplicaResources, Slot
from cluster.core.serving_map import Lane


class ReplicaPhase(enum.Enum):
    """Where a replica's process is in its life."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    QUIESCED = "quiesced"


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """A replica's account of itself, complete each time: the manager can be rebuilt from these alone.

    `replica_id` is Serve's id, new for each process; `pid` is that process on node `node_id`.
    `signatures`, `deterministic` and `lane` are set from READY on (see `ServableEntry`), as is `caller_thread_signatures`
    (see `Servable`); `status` is the error while FAILED; `fetch` is set while the version is fetched to the replica's node.
    """

    application: str
    deployment: str
    replica_id: str
    node_id: str
    pid: int
    instruction_id: str
    version: AspiredVersion
    slot: Slot
    resources: ReplicaResources
    phase: ReplicaPhase
    status: Status = Status()
    signatures: bytes = b""
    deterministic: bool = False
    lane: Lane | None = None
    caller_thread_signatures: frozenset[str] = frozenset()
    fetch: FetchProgress | None = None


@dataclass(frozen=True, slots=True)
class ReplicaDirective:
    """What the manager wants of all replicas of a version.

    `quiesce`: take no new work and report QUIESCED once nothing is in flight. `established`: the version has been
    available, so a replica that fails to load keeps trying instead of waiting for its end.
    """

    quiesce: bool = False
    established: bool = False
