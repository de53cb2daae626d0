"""Never without an available version while one is aspired."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.core.aspired_version_policy import (
    Action,
    AspiredVersionPolicy,
    ServableAction,
    VersionSnapshot,
    highest_new_aspired,
)
from cluster.core.loader_harness import HarnessState


class AvailabilityPreservingPolicy(AspiredVersionPolicy):
    """The server's default (TF Serving: `core/availability_preserving_policy.cc`).

    An old version goes once a new one is ready, or another old one remains, or nothing is aspired; so a stream holds two
    versions while it changes, and a new one that fails never takes the old one down. A version whose files have been
    overwritten is treated alike: it serves until a copy of the newer files is ready.
    """

    def next_action(self, versions: Sequence[VersionSnapshot]) -> ServableAction | None:
        unwanted = [version.id for version in versions if version.state is HarnessState.READY and not version.aspired]
        any_aspired = any(version.aspired for version in versions)
        aspired_ready = any(version.aspired and version.state is HarnessState.READY for version in versions)
        if unwanted and (not any_aspired or aspired_ready or len(unwanted) > 1):
            return ServableAction(Action.UNLOAD, min(unwanted))
        action = highest_new_aspired(versions)
        if action is None and (outdated := [version.id for version in versions if version.outdated]):
            action = ServableAction(Action.REPLACE, max(outdated))
        return action
