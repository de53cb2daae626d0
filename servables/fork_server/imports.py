"""What a fork server imports, so that its forks need not."""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
from collections.abc import Iterable, Iterator

# What a replica has imported when its version is loaded. A module that is missing here is imported in each fork instead.
TENSORFLOW_MODULES = (
    "tensorflow",
    "numpy.random",
    "servables.saved_model.platform",
    "servables.saved_model.saved_model_servable",
    "servables.tflite.platform",
    "servables.direct_runner",
    "servables.batching.batcher",
)
RAY_MODULES = (
    "ray.serve._private.replica",
    "ray.serve._private.controller",  # replicas ask for its actor
    "ray._common.pydantic_compat",
    "ray._private.arrow_serialization",
    "servables.deployment.version_replica",
    "cluster.actors.manager_actor",
    "cluster.config.model_settings",
)

logger = logging.getLogger(__name__)


class Imports:
    """The imports of one fork server, in two steps, each when its environment is known."""

    def tensorflow(self) -> None:
        _import(TENSORFLOW_MODULES)

    def ray(self) -> None:
        """Ray's library takes its settings, and the raylet's process id among them, from the environment as it is now."""
        with _actor_class_ids_from_the_system():
            _import(RAY_MODULES)

    def forks_draw_alike(self) -> bool:
        """Whether the ids that Ray draws at random would be the same in every fork of this process."""
        from ray import WorkerID

        drawn = set()
        for _ in range(2):
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.write(writer, WorkerID.from_random().binary())
                os._exit(0)
            os.close(writer)
            with open(reader, "rb") as file:
                drawn.add(file.read())
            os.waitpid(pid, 0)
        return len(drawn) < 2


def _import(names: Iterable[str]) -> None:
    """A replica that needs what cannot be imported here reports that itself."""
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # another's code: anything may go wrong in it
            logger.warning("%s cannot be imported: %s: %s", name, type(error).__name__, error)
    gc.collect()
    gc.freeze()  # the forks' collections leave the pages alone that they share


@contextlib.contextmanager
def _actor_class_ids_from_the_system() -> Iterator[None]:
    """Modules that declare actors draw an id for each, which would seed Ray's generator of random ids for all forks alike."""
    import ray.actor
    from ray import ActorClassID

    class FromTheSystem:
        @staticmethod
        def from_random() -> ActorClassID:
            return ActorClassID(os.urandom(ActorClassID.size()))

    ray.actor.ActorClassID = FromTheSystem
    try:
        yield
    finally:
        ray.actor.ActorClassID = ActorClassID
