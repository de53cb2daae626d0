"""The model config in force, where every actor of the server finds it again."""

from __future__ import annotations

import pickle

from cluster.actors.checkpoint_store import CheckpointStore
from cluster.config.model_config import ModelServerConfig


class ModelConfigStore:
    """The config that the server was started with, until a reload puts another in its place. Blocks; for use in a thread."""

    def __init__(self, store: CheckpointStore, key: str, first: ModelServerConfig) -> None:
        self._store = store
        self._key = key
        self._first = first

    def load(self) -> ModelServerConfig:
        saved = self._store.load(self._key)
        if saved is None:
            return self._first
        models: ModelServerConfig = pickle.loads(saved)
        return models

    def save(self, models: ModelServerConfig) -> None:
        self._store.save(self._key, pickle.dumps(models))
