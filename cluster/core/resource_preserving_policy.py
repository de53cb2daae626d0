"""Never two versions at a time."""

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

_GONE = (HarnessState.DISABLED, HarnessState.ERROR)


class ResourcePreservingPolicy(AspiredVersionPolicy):
    """Unloads first, loads when the old version is gone (TF Serving: `core/resource_preserving_policy.cc`).

    For models of which two do not fit; the stream is without an available version meanwhile. So it is with a version whose
    files have been overwritten: it is unloaded, and loaded anew.
    """

    def next_action(self, versions: Sequence[VersionSnapshot]) -> ServableAction | None:
        ready = [version for version in versions if version.state is HarnessState.READY]
        unwanted = [version.id for version in ready if version.outdated or not version.aspired]
        if unwanted:
            return ServableAction(Action.UNLOAD, min(unwanted))
        if any(not version.aspired and version.state not in _GONE for version in versions):
            return None
        return highest_new_aspired(versions)
