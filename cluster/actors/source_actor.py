"""The source actor: polls each stream of a source on a schedule of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from cluster.actors.actor_link import ActorLink
from cluster.actors.model_config_store import ModelConfigStore
from cluster.config.log_options import LogOptions, configure_logging
from cluster.config.model_config import ModelConfig, ModelServerConfig
from cluster.core.aspired_version import AspiredVersion
from cluster.core.errors import AspiredError, FailedPrecondition, Status
from cluster.core.events import VersionsAspired
from cluster.core.source import Source

RESEND_INTERVAL_S = 10.0
"""How often an unchanged list is said again, for a controller that has forgotten it."""
FIRST_LIST_INTERVAL_S = 1.0
"""How often a stream that is to be read once is looked at until it has a list."""
MAX_POLL_THREADS = 256

logger = logging.getLogger(__name__)


class ModelsTold(Protocol):
    """What tells the server's models again and again: a model config file, or a model repository."""

    @property
    def named(self) -> str:
        """What messages begin with; its path, if it matters, they say themselves."""

    def read(self, last: ModelServerConfig) -> ModelServerConfig:
        """What it says now; `last` is what it said before. May block. Raises AspiredError when it cannot be read or used."""


@dataclass(frozen=True, slots=True)
class WatchedModels:
    """Read every `poll_interval_s`; 0: until it could be read once; None: only when `reload_models` asks.

    `last` keeps what was read last, for a source actor that restarts.
    """

    told: ModelsTold
    poll_interval_s: float | None
    last: ModelConfigStore


class SourceActor:
    """Async Ray actor, detached, restarted without limit, one per source.

    Each stream has its own task, so a stream whose storage hangs or fails delays no other. `poll_interval_s` 0: each stream
    is read until it has been seen once; negative: never read. `make_source` makes the source of a model config.
    """

    async def __init__(  # type: ignore[misc]  # Ray awaits it on the actor's event loop
        self,
        make_source: Callable[[Sequence[ModelConfig]], Source],
        models: ModelConfigStore,
        controller: ActorLink,
        poll_interval_s: float,
        watched: WatchedModels | None = None,
        logs: LogOptions | None = None,
    ) -> None:
        if logs is not None:
            configure_logging(logs)
        self._make_source = make_source
        self._controller = controller
        self._poll_interval_s = poll_interval_s
        self._threads = ThreadPoolExecutor(MAX_POLL_THREADS, thread_name_prefix="poll")
        self._source = make_source(())
        self._models: dict[str, ModelConfig] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        await self.configure(await asyncio.to_thread(models.load))
        self._watched = watched
        self._reading = asyncio.Lock()
        self._last_outcome = Status()
        if watched is not None:
            self._last = await asyncio.to_thread(watched.last.load)
            if watched.poll_interval_s is not None:
                self._watch_task = asyncio.create_task(self._watch(watched, watched.poll_interval_s))

    async def configure(self, models: ModelServerConfig) -> None:
        """Emits the streams of this config from now on; those that have not changed go on as they were."""
        requested = {model.name: model for model in models.models}
        self._source = self._make_source(models.models)
        for stream, known in self._models.items():
            if requested.get(stream) != known and stream in self._tasks:
                self._tasks.pop(stream).cancel()
        self._models = requested
        if self._poll_interval_s >= 0:
            for stream in requested.keys() - self._tasks.keys():
                self._tasks[stream] = asyncio.create_task(self._follow(stream))

    async def streams(self) -> Sequence[str]:
        """The names of the streams that this source emits."""
        return self._source.streams()

    async def reload_models(self) -> Status:
        """Has the models taken on as they are told now, changed or not; what became of it."""
        if self._watched is None:
            message = (
                "The server was started without --model_config_file and --model_repository: there is nothing to read again"
            )
            return FailedPrecondition(message).to_status()
        return await self._read(self._watched, always=True)

    async def _watch(self, watched: WatchedModels, poll_interval_s: float) -> None:
        """Has the models taken on whenever they are told differently; what is wrong is logged, and shown until it is right."""
        told = ""
        while True:
            status = await self._read(watched)
            if status.message != told:
                told = status.message
                if told:
                    logger.error("%s: %s", watched.told.named, told)
                await self._controller.call("report_models", f"{watched.told.named}: {told}" if told else "")
            if poll_interval_s == 0 and status.ok:
                return
            await asyncio.sleep(poll_interval_s or FIRST_LIST_INTERVAL_S)

    async def _read(self, watched: WatchedModels, always: bool = False) -> Status:
        async with self._reading:
            try:
                models = await asyncio.to_thread(watched.told.read, self._last)
            except AspiredError as unreadable:
                return unreadable.to_status()
            if models.unset or (models == self._last and not always):
                return self._last_outcome
            if models != self._last:
                logger.info("%s has changed", watched.told.named)
                self._last = models
                await asyncio.to_thread(watched.last.save, models)
            self._last_outcome = await self._controller.call("reload", models)
            return self._last_outcome

    async def _follow(self, stream: str) -> None:
        """Polls one stream; tells the controller on change, and now and then without."""
        told: Sequence[AspiredVersion] | None = None
        told_at = -RESEND_INTERVAL_S
        error_told = ""
        while True:
            now = time.monotonic()
            if told is None or self._poll_interval_s > 0:
                versions, error = await self._poll(stream, now)
            else:
                versions, error = told, ""
            due = error != error_told or now - told_at >= RESEND_INTERVAL_S
            if versions is not None and (versions != told or due):
                await self._controller.call("handle", VersionsAspired(stream, tuple(versions)))
                told, told_at = versions, now
            elif versions is None and due:
                if error != error_told:
                    logger.warning("stream %s: %s", stream, error or "readable again")
                await self._controller.call("report_source", stream, error)
                told_at = now
            error_told = error
            if self._poll_interval_s > 0 or told is None:
                await asyncio.sleep(self._pause_s(stream, now))
            else:
                await asyncio.sleep(RESEND_INTERVAL_S)

    def _pause_s(self, stream: str, polled: float) -> float:
        """Until the next poll: the interval, or less when something is due before."""
        pause_s = self._poll_interval_s or FIRST_LIST_INTERVAL_S
        due = self._source.due(stream, polled)
        return pause_s if due is None else min(pause_s, max(0.0, due - time.monotonic()))

    async def _poll(self, stream: str, now: float) -> tuple[Sequence[AspiredVersion] | None, str]:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._source.poll, stream, now), ""
        except AspiredError as error:
            return None, error.message
        except Exception as error:  # a bug in one stream's poll must not end the stream
            logger.exception("polling stream %s failed", stream)
            return None, f"{type(error).__name__}: {error}"
