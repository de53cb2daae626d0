"""What the manager needs from whoever deploys; the composition root gives it the real ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from cluster.actors.replica_board import ReplicaBoard
from cluster.core.instructions import Load
from cluster.core.loader import Loader
from cluster.core.resources import Node
from cluster.core.servable_id import CopyId


class LoaderFactory(Protocol):
    """Makes the loaders of one server. Picklable: it travels to the manager actor, and again when Ray restarts it."""

    def loader(self, load: Load, board: ReplicaBoard) -> Loader:
        """A loader for one copy of a version; adopts what runs under its name."""

    def application_name(self, copy_id: CopyId) -> str:
        """The name that the copy runs under in the cluster."""

    async def running(self) -> Collection[CopyId]:
        """The copies of this server's versions that have an application now, whatever its state."""

    async def remove(self, copy_id: CopyId) -> None:
        """Stops a copy that nobody can account for."""


class FrontendFleet(Protocol):
    """The frontends of one server, on every node."""

    async def follow(self, node_ids: Collection[str]) -> None:
        """Makes the fleet match the nodes: frontends start on new ones, and are forgotten on lost ones."""

    async def remove(self) -> None:
        """Stops all frontends."""


class NodeWatch(Protocol):
    """The nodes of the cluster, and the GPUs that we have taken from Ray on them."""

    async def nodes(self) -> Sequence[Node]:
        """The nodes that live now. Takes hold of GPUs that it finds free."""

    async def release(self) -> None:
        """Gives all GPUs back to Ray."""
