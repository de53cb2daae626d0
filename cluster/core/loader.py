"""How the manager brings one servable version up and down."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.core.resources import Slot
from cluster.core.serving_map import Endpoint


@dataclass(frozen=True, slots=True)
class LoadedServable:
    """What the frontends must know to route to a version that is up; fields as in `ServableEntry`."""

    endpoints: tuple[Endpoint, ...]
    signatures: bytes
    deterministic: bool


class Loader(ABC):
    """The life of one servable version (TF Serving: `core/loader.h`), for `ManagerActor` alone.

    Call order: `load` once; after it has returned, `place` any number of times; then `quiesce`; then `unload`. `unload` may
    come at any time, also while `load` runs (the load is cancelled and raises Cancelled) and after a load that failed. The
    manager makes one call at a time per loader, but for `changed`, and for `unload` while `load` runs. Every method may be
    called again after the manager has restarted with a new loader for the same version: a loader adopts what runs under
    its version's name.
    """

    @abstractmethod
    async def load(self, slots: Sequence[Slot]) -> LoadedServable:
        """Starts one replica in each slot; returns when all of them answer.

        Raises the AspiredError of the first replica that failed for good; then nothing of the version runs any more.
        """

    @abstractmethod
    async def place(self, slots: Sequence[Slot]) -> LoadedServable:
        """Makes the version's replicas match `slots` without disturbing those that stay.

        Returns as soon as one replica answers, with those that do; `changed` tells of the others.
        """

    @abstractmethod
    async def changed(self, known: LoadedServable) -> LoadedServable:
        """Waits until other replicas answer than `known` says: some come up after `place`, and in place of one that has died.

        Never tells of no replica at all. Raises Cancelled when `unload` comes first.
        """

    @abstractmethod
    async def quiesce(self, timeout_s: float) -> None:
        """Closes the replicas' gates and waits until nothing is in flight in them, `timeout_s` at most.

        Called after every frontend has acknowledged a map without the version.
        """

    @abstractmethod
    async def unload(self) -> None:
        """Stops every replica; returns when their memory is back with the operating system. Never raises."""
