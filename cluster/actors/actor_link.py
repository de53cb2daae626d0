"""A call to a named actor that outlives the actor's restarts."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import ray
from ray.exceptions import RayActorError

from cluster.core.errors import Unavailable

RETRY_INTERVAL_S = 0.5

logger = logging.getLogger(__name__)


class ActorLink:
    """The way to one named, detached, restartable actor. Picklable; finds the actor when it is first called.

    Ray repeats a call that was cut off by the actor's death once the actor is back (`max_task_retries=-1`), so methods reached
    through a link must be safe to repeat.
    """

    def __init__(self, name: str, namespace: str) -> None:
        self.name = name
        self.namespace = namespace
        self._handle: Any = None

    def __reduce__(self) -> tuple[type[ActorLink], tuple[str, str]]:
        return (ActorLink, (self.name, self.namespace))

    def handle(self) -> Any:
        """The actor's handle. Raises Unavailable when no such actor lives."""
        if self._handle is None:
            try:
                self._handle = ray.get_actor(self.name, namespace=self.namespace)
            except ValueError as error:
                raise Unavailable(
                    f"there is no actor {self.name} in namespace {self.namespace}; if it was there, its log in Ray's session "
                    "directory says what has become of it"
                ) from error
        return self._handle

    async def call(self, method: str, *args: Any) -> Any:
        """The result of the actor's method; raises what it raised. Waits for an actor that is not there at the moment."""
        told = False
        while True:
            try:
                return await getattr(self.handle(), method).remote(*args)
            except (RayActorError, Unavailable) as error:
                self._handle = None
                if not told:
                    logger.warning("%s.%s: waiting for the actor: %s", self.name, method, error)
                    told = True
                await asyncio.sleep(RETRY_INTERVAL_S)
