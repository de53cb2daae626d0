"""The source actor: polls each stream of a source on a schedule of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cluster.actors.actor_link import ActorLink
from cluster.actors.model_config_store import ModelConfigStore
from cluster.config.log_options import LogOptions, configure_logging
from cluster.config.model_config import ModelConfig, ModelServerConfig
from cluster.config.server_config import read_model_server_config
from cluster.core.aspired_version import AspiredVersion
from cluster.core.errors import AspiredError, Status
from cluster.core.events import VersionsAspired
from cluster.core.source import Source

RESEND_INTERVAL_S = 10.0
"""How often an unchanged list is said again, for a controller that has forgotten it."""
FIRST_LIST_INTERVAL_S = 1.0
"""How often a stream that is to be read once is looked at until it has a list."""
MAX_POLL_THREADS = 256

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The model config file, read again every `poll_interval_s`. `last` keeps what it said when it was last taken on."""

    path: str
    poll_interval_s: float
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
        config_file: ConfigFile | None = None,
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
        if config_file is not None:
            self._config_watch = asyncio.create_task(self._watch(config_file))

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

    async def _watch(self, config_file: ConfigFile) -> None:
        """Has the model config file taken on whenever it says something else than before; what is wrong with it is logged."""
        last, told = await asyncio.to_thread(config_file.last.load), ""
        while True:
            await asyncio.sleep(config_file.poll_interval_s)
            error = ""
            try:
                models = await asyncio.to_thread(read_model_server_config, config_file.path)
            except AspiredError as unreadable:
                error = unreadable.message
            else:
                if models != last and not models.unset:
                    last = models
                    await asyncio.to_thread(config_file.last.save, models)
                    logger.info("the model config file has changed: %s", config_file.path)
                    status: Status = await self._controller.call("reload", models)
                    error = status.message
            if error and error != told:
                logger.error("model config file %s: %s", config_file.path, error)
            told = error

    async def _follow(self, stream: str) -> None:
        """Polls one stream; tells the controller on change, and now and then without."""
        told: Sequence[AspiredVersion] | None = None
        told_at = -RESEND_INTERVAL_S
        error_told = ""
        while True:
            if told is None or self._poll_interval_s > 0:
                versions, error = await self._poll(stream)
            else:
                versions, error = told, ""
            now = time.monotonic()
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
                await asyncio.sleep(self._poll_interval_s or FIRST_LIST_INTERVAL_S)
            else:
                await asyncio.sleep(RESEND_INTERVAL_S)

    async def _poll(self, stream: str) -> tuple[Sequence[AspiredVersion] | None, str]:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._source.poll, stream, time.monotonic()), ""
        except AspiredError as error:
            return None, error.message
        except Exception as error:  # a bug in one stream's poll must not end the stream
            logger.exception("polling stream %s failed", stream)
            return None, f"{type(error).__name__}: {error}"
