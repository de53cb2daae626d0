"""Which version of a stream to load or unload next."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.core.loader_harness import HarnessState
from cluster.core.servable_id import ServableId


@dataclass(frozen=True, slots=True)
class VersionSnapshot:
    """One version as a policy sees it (TF Serving: `AspiredServableStateSnapshot`).

    `outdated`: it is ready, its files have changed since it was loaded, and nothing has been begun about that.
    """

    id: ServableId
    state: HarnessState
    aspired: bool
    outdated: bool = False


class Action(enum.Enum):
    """REPLACE loads a ready version once more, from its newer files, beside the copy that serves."""

    LOAD = "load"
    REPLACE = "replace"
    UNLOAD = "unload"


@dataclass(frozen=True, slots=True)
class ServableAction:
    """What to do with one version."""

    action: Action
    id: ServableId


class AspiredVersionPolicy(ABC):
    """Orders the loads and unloads of one stream (TF Serving: `core/aspired_version_policy.h`).

    Stateless: the same snapshot gives the same answer, so asking again is harmless. The controller asks after every event,
    carries the action out, and asks again until there is none.
    """

    @abstractmethod
    def next_action(self, versions: Sequence[VersionSnapshot]) -> ServableAction | None:
        """At most one action for the stream, given all its versions, in any order."""


def highest_new_aspired(versions: Sequence[VersionSnapshot]) -> ServableAction | None:
    """Loads the aspired version with the largest number among those that have not been begun."""
    new = [version.id for version in versions if version.aspired and version.state is HarnessState.NEW]
    return ServableAction(Action.LOAD, max(new)) if new else None
