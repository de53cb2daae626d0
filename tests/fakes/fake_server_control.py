"""A server that takes on every model config it may, without anything behind it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from cluster.config.model_config import ModelServerConfig
from cluster.config.model_reload import check_reload
from cluster.core.errors import AspiredError, Status
from cluster.core.metrics import CellKey, Value
from cluster.core.servable_id import ServableId
from servables.frontend.server_control import ServerControl


class FakeServerControl(ServerControl):
    def __init__(self, models: ModelServerConfig | None = None, available: Collection[ServableId] = ()) -> None:
        self.config = models or ModelServerConfig()
        self._available = available
        self.series: dict[CellKey, Value] = {}
        self.reread = Status()

    async def reload(self, models: ModelServerConfig) -> Status:
        try:
            check_reload(self.config, models, self._available, allow_labels_for_unavailable=False)
        except AspiredError as error:
            return error.to_status()
        self.config = models
        return Status()

    async def reload_models(self) -> Status:
        return self.reread

    async def models(self) -> ModelServerConfig:
        return self.config

    async def metrics(self) -> Mapping[CellKey, Value]:
        return dict(self.series)
