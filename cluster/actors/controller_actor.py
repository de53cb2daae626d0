"""The controller actor: a shell that feeds the aspired-versions state machine and passes on what it decides."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.actors.actor_link import ActorLink
from cluster.actors.checkpoint_store import CheckpointStore
from cluster.actors.controller_metrics import ControllerMetrics
from cluster.actors.metrics_reporter import MetricsReporter, report_to
from cluster.actors.model_config_store import ModelConfigStore
from cluster.actors.notification import Notification
from cluster.config.log_options import LogOptions, configure_logging
from cluster.config.model_config import ModelConfig, ModelServerConfig
from cluster.config.model_reload import check_reload
from cluster.core.aspired_versions_state import AspiredVersionsState, Options
from cluster.core.errors import AspiredError, Code, Status
from cluster.core.events import (
    ClusterObserved,
    Event,
    StopRequested,
    StreamOptions,
    StreamsConfigured,
    TimePassed,
    VersionsAspired,
)
from cluster.core.instructions import Instruction, PublishStates
from cluster.core.resource_ledger import Totals
from cluster.core.resources import Slot
from cluster.core.servable_id import ServableId
from cluster.core.servable_state import PublicState, ServableState

IDLE_WAKEUP_S = 60.0
"""How long the controller sleeps when the state machine waits for nothing but events."""
REST_TIMEOUT_S = 30.0
"""How long the ports wait for a model whose first files are still being written."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a version is or is to be, and how many loads of it have been begun."""

    slots: tuple[Slot, ...]
    attempts: int


@dataclass(frozen=True, slots=True)
class ControllerStatus:
    """What `aspired status` and the start-up wait ask for.

    `waiting`: configured streams that have no version yet. `models`: the config in force. `source_errors`: stream -> why it
    cannot be read. `models_error`: what is wrong with the config file or the repository that tells the models.
    """

    states: tuple[ServableState, ...]
    first_versions_settled: bool
    waiting: tuple[str, ...]
    models: ModelServerConfig
    source_errors: Mapping[str, str]
    models_error: str
    placements: Mapping[ServableId, Placement]
    capacity: Totals
    reserved: Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerOptions:
    """What a controller is told once and for all.

    `replicas_per_version` None: one for each GPU. `require_versions`: the ports wait for every model, those without versions
    too. `allow_labels_for_unavailable`: see `check_reload`.
    """

    state: Options
    replicas_per_version: int | None = None
    require_versions: bool = False
    allow_labels_for_unavailable: bool = False


class ControllerActor:
    """Async Ray actor, detached, restarted without limit. It decides; it never touches Serve.

    A restarted controller reads its checkpoint (terminal states, retry counts), asks the manager what runs, and only then
    handles what sources have told it meanwhile. Until a source has spoken for a stream, nothing of that stream changes.
    """

    async def __init__(  # type: ignore[misc]  # Ray awaits it on the actor's event loop
        self,
        options: ControllerOptions,
        models: ModelConfigStore,
        source: ActorLink,
        manager: ActorLink,
        store: CheckpointStore,
        checkpoint_key: str,
        logs: LogOptions | None = None,
    ) -> None:
        if logs is not None:
            configure_logging(logs)
        self._options = options
        self._state = AspiredVersionsState(options.state, uuid.uuid4().hex[:12])
        self._models_store = models
        self._models = ModelServerConfig()
        self._reloading = asyncio.Lock()
        self._source = source
        self._manager = manager
        self._store = store
        self._checkpoint_key = checkpoint_key
        self._checkpointed = b""
        self._source_errors: dict[str, str] = {}
        self._models_error = ""
        self._heard: set[str] = set()
        self._restless_since: dict[str, float] = {}
        self._instructions: asyncio.Queue[list[Instruction]] = asyncio.Queue()
        self._changed = Notification()
        self._metrics = ControllerMetrics()
        self._observed = asyncio.Event()
        self._handled = 0
        self._tasks = [
            asyncio.create_task(self._start()),
            asyncio.create_task(self._deliver()),
            asyncio.create_task(self._tick()),
            asyncio.create_task(self._count()),
        ]

    async def handle(self, event: Event) -> None:
        """Takes one event from a source or from the manager; safe to repeat."""
        await self._observed.wait()
        if isinstance(event, VersionsAspired):
            self._source_errors.pop(event.stream, None)
            self._restless_since.pop(event.stream, None)
            self._heard.add(event.stream)
        self._handle(event)

    async def report_source(self, stream: str, error: str) -> None:
        """A source has looked at a stream and has no list: it cannot read it (`error`), or nothing there is at rest yet ("").

        What is served of the stream stays. The next list from the source ends the error. The ports wait for files that are
        coming to rest, unless they take too long about it.
        """
        self._heard.add(stream)
        if not error:
            self._restless_since.setdefault(stream, time.monotonic())
        if error:
            self._source_errors[stream] = error
        self._changed.notify()

    async def reload(self, models: ModelServerConfig) -> Status:
        """Takes on another model config; the outcome as a status, OK once the models that are new have a version available.

        A config that may not be taken on changes nothing. Models that fail or have no versions after that do not take the
        config back, nor hold other reloads up (TF Serving: `ServerCore::ReloadConfig`).
        """
        await self._observed.wait()
        async with self._reloading:
            available = {state.id for state in self._state.states() if state.state is PublicState.AVAILABLE}
            allow = self._options.allow_labels_for_unavailable
            try:
                check_reload(self._models, models, available, allow_labels_for_unavailable=allow)
            except AspiredError as error:
                return error.to_status()
            added = _names(models) - _names(self._models)
            self._heard -= added
            await asyncio.to_thread(self._models_store.save, models)
            self._configure(models)
            await self._source.call("configure", models)
        while not await self._changed.wait_for(lambda: all(map(self._stream_settled, self._configured(added))), 1.0):
            pass
        return self._outcome(sorted(self._configured(added)))

    async def reload_models(self) -> Status:
        """Has what tells the models read again: see `SourceActor.reload_models`."""
        status: Status = await self._source.call("reload_models")
        return status

    async def report_models(self, error: str) -> None:
        """What is wrong with the config file or the repository that tells the models; empty when nothing is any more."""
        self._models_error = error
        self._changed.notify()

    async def models(self) -> ModelServerConfig:
        """The config in force."""
        await self._observed.wait()
        return self._models

    async def stop(self) -> None:
        """Unloads everything; `status` tells when that is done."""
        await self._observed.wait()
        self._handle(StopRequested())

    async def wait_settled(self, timeout_s: float) -> ControllerStatus:
        """Returns once every stream that has versions has its first ones available or failed for good, or after `timeout_s`."""
        await self._changed.wait_for(self._settled, timeout_s)
        return await self.status()

    async def wait_stopped(self, timeout_s: float) -> bool:
        """Returns once nothing is loaded any more after `stop`, or after `timeout_s`."""
        return await self._changed.wait_for(self._state.stopped, timeout_s)

    async def status(self) -> ControllerStatus:
        """Everything there is to know of the versions."""
        return ControllerStatus(
            self._state.states(),
            self._settled(),
            tuple(stream for stream in self._state.waiting_streams() if stream in self._heard),
            self._models,
            dict(self._source_errors),
            self._models_error,
            {
                state.id: Placement(harness.slots, harness.attempts)
                for state in self._state.states()
                if (harness := self._state.harness(state.id)) is not None
            },
            self._state.ledger.capacity(),
            self._state.ledger.reserved(),
        )

    def _settled(self) -> bool:
        if self._models.unset:
            return False  # a repository that nobody has looked into yet
        if not self._observed.is_set() or (self._options.require_versions and any(self._state.waiting_streams())):
            return False
        return all(map(self._stream_settled, _names(self._models)))

    def _stream_settled(self, stream: str) -> bool:
        """Whether nothing more is to be waited for: it has a version, or its versions have failed for good, or it has none."""
        if stream not in self._heard or not self._state.stream_settled(stream):
            return False
        restless_since = self._restless_since.get(stream)
        if restless_since is None or stream not in self._state.waiting_streams():
            return True
        return time.monotonic() - restless_since > REST_TIMEOUT_S

    def _configured(self, streams: set[str]) -> set[str]:
        """Those that no later reload has taken out again."""
        return streams & _names(self._models)

    def _outcome(self, added: Sequence[str]) -> Status:
        """What became of models that are new in the config."""
        failures = [failure for stream in added if (failure := self._failure(stream))]
        if not failures:
            return Status()
        return Status(Code.UNKNOWN, f"{len(failures)} model(s) did not become available: {{{', '.join(failures)}, }}")

    def _failure(self, stream: str) -> str:
        states = [state for state in self._state.states() if state.id.name == stream]
        if any(state.state is PublicState.AVAILABLE for state in states):
            return ""
        errors = [f"{{{state.id} due to error: {state.status.message}}}" for state in states if not state.status.ok]
        why = self._source_errors.get(stream, "no versions found under its base path")
        return ", ".join(errors) or f"{{name: {stream} due to error: {why}}}"

    def _configure(self, models: ModelServerConfig) -> None:
        self._models = models
        self._handle(StreamsConfigured({model.name: self._stream_options(model) for model in models.models}))

    def _stream_options(self, model: ModelConfig) -> StreamOptions:
        settings = model.settings
        return StreamOptions(
            replicas=self._options.replicas_per_version if settings.replicas is None else settings.replicas,
            resources=settings.resources,
            resource_preserving=settings.resource_preserving,
            node_labels=settings.node_labels,
            labels=tuple(sorted(model.version_labels.items())),
            request_logging=model.request_logging,
        )

    async def _start(self) -> None:
        models = await asyncio.to_thread(self._models_store.load)
        saved = await asyncio.to_thread(self._store.load, self._checkpoint_key)
        if saved is not None:
            self._checkpointed = saved
            self._state.restore(json.loads(saved))
        observed: Sequence[Event] = await self._manager.call("observe")
        for event in observed:
            self._handle(event)
        if saved is not None:
            self._metrics.begin(self._state.states())
        self._configure(models)
        self._observed.set()

    def _handle(self, event: Event) -> None:
        instructions = self._state.handle(event, time.monotonic())
        # Sources say the same again and again.
        level = logging.INFO if instructions else logging.DEBUG
        logger.log(level, "%s", event if not isinstance(event, ClusterObserved) else "cluster observed")
        self._handled += 1
        for instruction in instructions:
            if isinstance(instruction, PublishStates):
                self._metrics.observe(instruction.states)
        if instructions:
            self._instructions.put_nowait(instructions)
        self._changed.notify()

    async def _deliver(self) -> None:
        """Passes instructions on in order, and saves what must outlive this process before the manager acts on it."""
        while True:
            instructions = await self._instructions.get()
            checkpoint = json.dumps(self._state.checkpoint(), sort_keys=True).encode()
            if checkpoint != self._checkpointed:
                await asyncio.to_thread(self._store.save, self._checkpoint_key, checkpoint)
                self._checkpointed = checkpoint
            await self._manager.call("perform", instructions)

    async def _tick(self) -> None:
        await self._observed.wait()
        while True:
            now = time.monotonic()
            wakeup = self._state.next_wakeup(now)
            delay_s = IDLE_WAKEUP_S if wakeup is None else max(0.0, wakeup - now)
            handled = self._handled
            if not await self._changed.wait_for(functools.partial(self._handled_since, handled), delay_s):
                self._handle(TimePassed())

    async def _count(self) -> None:
        ledger = self._state.ledger
        reporter = MetricsReporter(
            f"controller {os.getpid()}",
            self._metrics.cells,
            report_to(self._manager),
            lambda: self._metrics.refresh(ledger.capacity(), ledger.reserved()),
        )
        await reporter.run()

    def _handled_since(self, handled: int) -> bool:
        return self._handled != handled


def _names(models: ModelServerConfig) -> set[str]:
    return {model.name for model in models.models}
