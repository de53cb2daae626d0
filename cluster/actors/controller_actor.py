"""The controller actor: a shell that feeds the aspired-versions state machine and passes on what it decides."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.actors.actor_link import ActorLink
from cluster.actors.checkpoint_store import CheckpointStore
from cluster.actors.notification import Notification
from cluster.core.aspired_versions_state import AspiredVersionsState, Options
from cluster.core.events import (
    ClusterObserved,
    Event,
    StopRequested,
    StreamOptions,
    StreamsConfigured,
    TimePassed,
    VersionsAspired,
)
from cluster.core.instructions import Instruction
from cluster.core.resource_ledger import Totals
from cluster.core.resources import Slot
from cluster.core.servable_id import ServableId
from cluster.core.servable_state import ServableState

IDLE_WAKEUP_S = 60.0
REST_TIMEOUT_S = 30.0
"""How long the ports wait for a model whose first files are still being written."""
"""How long the controller sleeps when the state machine waits for nothing but events."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a version is or is to be, and how many loads of it have been begun."""

    slots: tuple[Slot, ...]
    attempts: int


@dataclass(frozen=True, slots=True)
class ControllerStatus:
    """What `aspired status` and the start-up wait ask for.

    `waiting`: configured streams that have no version yet. `source_errors`: stream -> why it cannot be read.
    """

    states: tuple[ServableState, ...]
    first_versions_settled: bool
    waiting: tuple[str, ...]
    source_errors: Mapping[str, str]
    placements: Mapping[ServableId, Placement]
    capacity: Totals
    reserved: Totals


class ControllerActor:
    """Async Ray actor, detached, restarted without limit. It decides; it never touches Serve.

    A restarted controller reads its checkpoint (terminal states, retry counts), asks the manager what runs, and only then
    handles what sources have told it meanwhile. Until a source has spoken for a stream, nothing of that stream changes.
    """

    async def __init__(  # type: ignore[misc]  # Ray awaits it on the actor's event loop
        self,
        options: Options,
        streams: Mapping[str, StreamOptions],
        manager: ActorLink,
        store: CheckpointStore,
        checkpoint_key: str,
    ) -> None:
        self._state = AspiredVersionsState(options, uuid.uuid4().hex[:12])
        self._manager = manager
        self._store = store
        self._checkpoint_key = checkpoint_key
        self._checkpointed = b""
        self._streams = frozenset(streams)
        self._source_errors: dict[str, str] = {}
        self._heard: set[str] = set()
        self._restless_since: dict[str, float] = {}
        self._instructions: asyncio.Queue[list[Instruction]] = asyncio.Queue()
        self._changed = Notification()
        self._observed = asyncio.Event()
        self._handled = 0
        self._tasks = [
            asyncio.create_task(self._start(streams)),
            asyncio.create_task(self._deliver()),
            asyncio.create_task(self._tick()),
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
            dict(self._source_errors),
            {
                state.id: Placement(harness.slots, harness.attempts)
                for state in self._state.states()
                if (harness := self._state.harness(state.id)) is not None
            },
            self._state.ledger.capacity(),
            self._state.ledger.reserved(),
        )

    def _settled(self) -> bool:
        if not (self._observed.is_set() and self._heard >= self._streams and self._state.first_versions_settled()):
            return False
        now = time.monotonic()
        return all(
            now - since > REST_TIMEOUT_S
            for stream, since in self._restless_since.items()
            if stream in self._state.waiting_streams()
        )

    async def _start(self, streams: Mapping[str, StreamOptions]) -> None:
        saved = await asyncio.to_thread(self._store.load, self._checkpoint_key)
        if saved is not None:
            self._checkpointed = saved
            self._state.restore(json.loads(saved))
        observed: Sequence[Event] = await self._manager.call("observe")
        for event in (*observed, StreamsConfigured(streams)):
            self._handle(event)
        self._observed.set()

    def _handle(self, event: Event) -> None:
        if not isinstance(event, TimePassed):
            logger.info("%s", event if not isinstance(event, ClusterObserved) else "cluster observed")
        instructions = self._state.handle(event, time.monotonic())
        self._handled += 1
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

    def _handled_since(self, handled: int) -> bool:
        return self._handled != handled
