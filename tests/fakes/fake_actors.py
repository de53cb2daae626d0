"""What the control actors hold, without a Ray cluster: links to objects of this process, and a store in memory."""

from __future__ import annotations

from typing import Any

from cluster.actors.actor_link import ActorLink
from cluster.actors.checkpoint_store import CheckpointStore


class LocalLink(ActorLink):
    """Calls the methods of `actor`, once there is one: a link waits for an actor that is not there yet."""

    def __init__(self, actor: Any) -> None:
        super().__init__("local", "local")
        self.actor = actor

    async def call(self, method: str, *args: Any) -> Any:
        return await getattr(self.actor, method)(*args)


class InMemoryCheckpointStore(CheckpointStore):
    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def load(self, key: str) -> bytes | None:
        return self.values.get(key)

    def save(self, key: str, value: bytes) -> None:
        self.values[key] = value

    def delete(self, key: str) -> None:
        self.values.pop(key, None)

    def keys(self, prefix: str) -> list[str]:
        return sorted(key for key in self.values if key.startswith(prefix))


async def started(actor_class: type[Any], *args: Any) -> Any:
    """An actor object as Ray makes it: the constructor is a coroutine."""
    actor = actor_class.__new__(actor_class)
    await actor_class.__init__(actor, *args)
    return actor
