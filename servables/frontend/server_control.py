"""What a frontend asks of the whole server, beside inference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from cluster.config.model_config import ModelServerConfig
from cluster.core.errors import Status
from cluster.core.metrics import CellKey, Value


class ServerControl(Protocol):
    """The way to the controller and the manager. Calls wait for one that is away at the moment."""

    async def reload(self, models: ModelServerConfig) -> Status:
        """Takes on another model config; returns when its new models are available, or have failed."""

    async def reload_models(self) -> Status:
        """Has the config file or the model repository read again and taken on; returns as `reload`."""

    async def models(self) -> ModelServerConfig:
        """The config in force."""

    async def metrics(self) -> Mapping[CellKey, Value]:
        """Every series of the whole server, with what was counted until now."""
