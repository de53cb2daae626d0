"""A controller that keeps what a source actor tells it."""

from __future__ import annotations

import asyncio

from cluster.config.model_config import ModelServerConfig
from cluster.core.errors import Status
from cluster.core.events import Event, VersionsAspired
from cluster.core.stream_report import StreamReport

PATIENCE_S = 30.0


class ListeningController:
    def __init__(self) -> None:
        self.lists: asyncio.Queue[tuple[str, list[int]]] = asyncio.Queue()
        self.configs: asyncio.Queue[ModelServerConfig] = asyncio.Queue()
        self.errors: asyncio.Queue[str] = asyncio.Queue()
        self.reports: asyncio.Queue[tuple[str, StreamReport]] = asyncio.Queue()
        self.refusal = Status()

    async def handle(self, event: Event) -> None:
        assert isinstance(event, VersionsAspired)
        self.lists.put_nowait((event.stream, [version.id.version for version in event.versions]))

    async def report_source(self, stream: str, report: StreamReport) -> None:
        self.reports.put_nowait((stream, report))

    async def report_models(self, error: str) -> None:
        self.errors.put_nowait(error)

    async def reload(self, models: ModelServerConfig) -> Status:
        self.configs.put_nowait(models)
        return self.refusal

    async def list(self) -> tuple[str, list[int]]:
        return await asyncio.wait_for(self.lists.get(), PATIENCE_S)

    async def report(self) -> tuple[str, StreamReport]:
        return await asyncio.wait_for(self.reports.get(), PATIENCE_S)
