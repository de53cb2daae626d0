"""A directory of models: each directory in it that holds versions is a model of that name."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.config.model_config import ModelConfig, ModelServerConfig
from cluster.core.errors import AspiredError, FailedPrecondition, NotFound
from cluster.storage.storage import Storage
from cluster.storage.version_name import is_version_name


@dataclass(frozen=True, slots=True)
class ModelRepository:
    """Finds the models under `path` (see `cluster.actors.source_actor.ModelsTold`), which are served as a model of flags is.

    A model is found when its first version is there, and stays, without versions too, for as long as its directory does.
    Names that begin with a dot are passed over.
    """

    path: str
    storage: Storage

    @property
    def named(self) -> str:
        return "model repository"

    def read(self, last: ModelServerConfig) -> ModelServerConfig:
        """Raises AspiredError when the repository cannot be read: then nothing is known of its models, and none is gone."""
        known = {model.name for model in last.models}
        names = sorted(name for name in self.storage.children(self.path) if not name.startswith("."))
        return ModelServerConfig(
            tuple(
                ModelConfig(name, self.storage.join(self.path, name))
                for name in names
                if self._holds_versions(name, unless=name in known)
            )
        )

    def _holds_versions(self, name: str, unless: bool) -> bool:
        """`unless`: what to take it for when it has none, or cannot be read just now."""
        path = self.storage.join(self.path, name)
        if unless and self.storage.local_path(path) is None:
            return True  # where a look is a request, being listed is enough
        try:
            children = self.storage.children(path)
        except (NotFound, FailedPrecondition):
            return False  # it has gone since, or is a file
        except AspiredError:
            return unless
        return unless or any(map(is_version_name, children))
