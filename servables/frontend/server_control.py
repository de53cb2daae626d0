"""What a frontend asks of the whole server, beside inference."""

from __future__ import annotations

from typing import Protocol

from cluster.config.model_config import ModelServerConfig
from cluster.core.errors import Status


class ServerControl(Protocol):
    """The way to the controller. Calls wait for a controller that is away at the moment."""

    async def reload(self, models: ModelServerConfig) -> Status:
        """Takes on another model config; returns when its new models are available, or have failed."""

    async def models(self) -> ModelServerConfig:
        """The config in force."""
