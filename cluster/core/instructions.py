"""What is to be done: the only output of the aspired-versions state machine. Imperative, frozen, idempotent.

The manager carries instructions out. Repeating one is harmless: `instruction_id` names the intent, and the event that
reports its end carries it back, so that a late answer to an older intent is recognised and ignored. An instruction is for one
copy of a version (`CopyId`): the others are left as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.core.aspired_version import AspiredVersion
from cluster.core.request_logging import RequestLogging
from cluster.core.resources import ReplicaResources, Slot
from cluster.core.servable_id import ServableId
from cluster.core.servable_state import ServableState


@dataclass(frozen=True, slots=True)
class Load:
    """Start one replica in each slot. Answered by Loaded or LoadFailed."""

    instruction_id: str
    version: AspiredVersion
    slots: tuple[Slot, ...]
    resources: ReplicaResources
    copy: int = 0


@dataclass(frozen=True, slots=True)
class CancelLoad:
    """Give up a load under way, at once. Answered by LoadFailed with code CANCELLED, bearing the Load's own instruction id."""

    id: ServableId
    copy: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Move a ready version to these slots: add what is missing, then take away what is too much. Not answered."""

    id: ServableId
    slots: tuple[Slot, ...]
    resources: ReplicaResources
    copy: int = 0


@dataclass(frozen=True, slots=True)
class Quiesce:
    """Take the version off every frontend and let it finish what it holds; give up its load. Answered by Quiesced."""

    instruction_id: str
    id: ServableId
    copy: int = 0


@dataclass(frozen=True, slots=True)
class Unload:
    """Stop the version's replicas. Answered by Unloaded."""

    instruction_id: str
    id: ServableId
    copy: int = 0


@dataclass(frozen=True, slots=True)
class PublishStates:
    """The public states of all versions, the streams, their labels or whose requests are logged have changed to these.

    `labels`: stream -> label -> version, of every configured stream. `request_logging`: of those that log.
    """

    states: tuple[ServableState, ...]
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    request_logging: Mapping[str, RequestLogging] = field(default_factory=dict)


Instruction = Load | CancelLoad | Place | Quiesce | Unload | PublishStates
