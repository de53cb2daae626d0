"""The source actor: polls each stream of a source on a schedule of its own."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from cluster.actors.actor_link import ActorLink
from cluster.actors.model_config_store import ModelConfigStore
from cluster.config.log_options import LogOptions, configure_logging
from cluster.config.model_config import ModelConfig, ModelServerConfig
from cluster.core.aspired_version import AspiredVersion
from cluster.core.errors import AspiredError, DeadlineExceeded, FailedPrecondition, Internal, Status
from cluster.core.events import VersionsAspired
from cluster.core.poll_schedule import PollSchedule
from cluster.core.source import Source
from cluster.core.stream_report import StreamReport

RESEND_INTERVAL_S = 10.0
"""How often an unchanged list is said again, for a controller that has forgotten it."""
FIRST_LIST_INTERVAL_S = 1.0
"""How often a stream that is to be read once is looked at until it has a list."""
POLL_TIMEOUT_S = 30.0
"""How long a poll may take before the stream counts as unreadable. Its thread ends when its storage's own time is up."""
MAX_POLL_THREADS = 512
MAX_POLLS_PER_PLACE = 32
"""How many polls of one bucket or host may be under way: one that hangs leaves threads for all others."""

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


@dataclass(frozen=True, slots=True)
class _Polled:
    """What one poll, begun `at` then, has found: a list, or None with a status that says why if something is wrong."""

    at: float
    versions: tuple[AspiredVersion, ...] | None
    status: Status = Status()
    waiting: tuple[str, ...] = ()


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
        self._turns: dict[str, asyncio.Semaphore] = {}
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
        before, self._source = self._source, self._make_source(models.models)
        self._source.take_over(before)
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
        schedule = PollSchedule(poll_interval_s or FIRST_LIST_INTERVAL_S, random.random)
        while True:
            status = await self._read(watched)
            if status.message != told:
                told = status.message
                if told:
                    logger.error("%s: %s", watched.told.named, told)
                await self._controller.call("report_models", f"{watched.told.named}: {told}" if told else "")
            if poll_interval_s == 0 and status.ok:
                return
            await asyncio.sleep(schedule.after(status.code))

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
        """Polls one stream, and tells the controller what it finds."""
        schedule = PollSchedule(self._poll_interval_s or FIRST_LIST_INTERVAL_S, random.random)
        teller = _Teller(stream, self._controller)
        while True:
            polled = await self._poll(stream, teller)
            await teller.tell(polled)
            while self._poll_interval_s == 0 and teller.listed:
                await asyncio.sleep(RESEND_INTERVAL_S)
                await teller.tell(polled)
            pause_s = schedule.after(polled.status.code)
            due = self._source.due(stream, polled.at) if polled.status.ok else None
            await asyncio.sleep(pause_s if due is None else min(pause_s, max(0.0, due - time.monotonic())))

    async def _poll(self, stream: str, teller: _Teller) -> _Polled:
        """What a poll finds, however long it takes; the controller is told meanwhile if it does not end."""
        source, base_path = self._source, self._models[stream].base_path
        # While it hangs there is no other poll of the stream. One that is reconfigured leaves it behind, to end by itself.
        polling = asyncio.ensure_future(self._in_thread(source, stream, self._turn(base_path)))
        while not (await asyncio.wait({polling}, timeout=POLL_TIMEOUT_S))[0]:
            hangs = DeadlineExceeded(f"{base_path}: no answer for {POLL_TIMEOUT_S:g} s and more; still waiting for it")
            await teller.tell(_Polled(time.monotonic(), None, hangs.to_status(), tuple(source.waiting(stream))))
        return await polling

    async def _in_thread(self, source: Source, stream: str, turn: AbstractAsyncContextManager[None]) -> _Polled:
        versions: Sequence[AspiredVersion] | None = None
        status = Status()
        async with turn:
            now = time.monotonic()
            try:
                versions = await asyncio.get_running_loop().run_in_executor(self._threads, source.poll, stream, now)
            except AspiredError as error:
                status = error.to_status()
            except Exception as error:  # a bug in one stream's poll must not end the stream
                logger.exception("polling stream %s failed", stream)
                status = Internal(f"{type(error).__name__}: {error}").to_status()
        return _Polled(now, None if versions is None else tuple(versions), status, tuple(source.waiting(stream)))

    def _turn(self, base_path: str) -> AbstractAsyncContextManager[None]:
        """A turn at the bucket or host of a base path. Local paths need none: one may hang while its neighbour does not."""
        scheme, separator, rest = base_path.partition("://")
        if not separator or scheme == "file":
            return nullcontext()
        place = f"{scheme}://{rest.partition('/')[0]}"
        return self._turns.setdefault(place, asyncio.Semaphore(MAX_POLLS_PER_PLACE))


_NOTHING_TO_SAY = StreamReport(listed=True)


class _Teller:
    """Tells the controller of one stream: at once what has changed, and everything again after RESEND_INTERVAL_S."""

    def __init__(self, stream: str, controller: ActorLink) -> None:
        self._stream = stream
        self._controller = controller
        self._versions: tuple[AspiredVersion, ...] | None = None
        self._report = _NOTHING_TO_SAY
        self._told_at = -math.inf

    @property
    def listed(self) -> bool:
        return self._versions is not None

    async def tell(self, polled: _Polled) -> None:
        """Takes in what a poll has found. A list that could not be had again is the one that there was."""
        versions = self._versions if polled.versions is None else polled.versions
        error = polled.status.message
        if error != self._report.error:
            logger.warning("stream %s: %s", self._stream, error or "readable again")
        report = StreamReport(versions is not None, error, time.time() if error else 0.0, polled.waiting).after(self._report)
        due = time.monotonic() - self._told_at >= RESEND_INTERVAL_S
        again = due or versions != self._versions
        changed = report != self._report
        self._versions, self._report = versions, report
        if again and versions is not None:
            await self._controller.call("handle", VersionsAspired(self._stream, versions))
        if changed or (again and report != _NOTHING_TO_SAY):
            await self._controller.call("report_source", self._stream, report)
        if due:
            self._told_at = time.monotonic()
