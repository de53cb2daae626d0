"""The manager actor: turns the controller's instructions into loaders' work, and routes frontends to what is up."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.actors.actor_link import ActorLink
from cluster.actors.checkpoint_store import CheckpointStore
from cluster.actors.fleet import FrontendFleet, LoaderFactory, NodeWatch
from cluster.actors.metrics_board import MetricsBoard, Round
from cluster.actors.metrics_reporter import MetricsReporter
from cluster.actors.replica_board import ReplicaBoard
from cluster.actors.serving_map_feed import ServingMapFeed
from cluster.config.log_options import LogOptions, configure_logging
from cluster.core import metric_catalog as catalog
from cluster.core.acknowledgements import FrontendReport
from cluster.core.errors import AspiredError, Cancelled, Internal
from cluster.core.events import (
    CapacityChanged,
    ClusterObserved,
    Event,
    Loaded,
    LoadFailed,
    ObservedPhase,
    ObservedServable,
    Quiesced,
    Unloaded,
)
from cluster.core.instructions import CancelLoad, Instruction, Load, Place, PublishStates, Quiesce, Unload
from cluster.core.loader import LoadedServable, Loader
from cluster.core.metrics import CellKey, MetricCells, Value
from cluster.core.replica_report import ReplicaDirective, ReplicaPhase, ReplicaReport
from cluster.core.resources import Node, Slot
from cluster.core.servable_id import CopyId
from cluster.core.serving_map import Epoch, ServableEntry, ServingMap

NODE_WATCH_INTERVAL_S = 1.0
ADOPTION_TIMEOUT_S = 15.0
"""How long a restarted manager waits for the replicas of an application to report before it gives that one up."""
QUIESCE_TIMEOUT_S = 40.0
METRICS_SAVE_INTERVAL_S = 10.0
_ACCEPTING = b"accepting"

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Managed:
    """One copy of a version in the manager's hands; its phase is QUIESCING from the moment its removal was asked for.

    `cancelling`: the end of its load, which was asked for while it was under way.
    """

    load: Load
    loader: Loader
    phase: ObservedPhase
    work: asyncio.Task[None] | None = None
    cancelling: asyncio.Task[None] | None = None

    @property
    def copy_id(self) -> CopyId:
        return CopyId(self.load.version.id, self.load.copy)


class ManagerActor:
    """Carries out instructions; never decides which version should run.

    Async Ray actor, detached, restarted without limit. What it knows it can read again: from Serve (through the loader
    factory), from the replicas' polls and from the frontends' polls; that the ports are to be open, from its checkpoint.
    Until it has, and the controller has told it the states and labels, it publishes nothing (`ServingMapFeed`).
    """

    async def __init__(  # type: ignore[misc]  # Ray awaits it on the actor's event loop
        self,
        loaders: LoaderFactory,
        fleet: FrontendFleet,
        node_watch: NodeWatch,
        controller: ActorLink,
        store: CheckpointStore,
        checkpoint_key: str,
        metrics_key: str,
        logs: LogOptions | None = None,
    ) -> None:
        if logs is not None:
            configure_logging(logs)
        self._loaders = loaders
        self._fleet = fleet
        self._node_watch = node_watch
        self._controller = controller
        self._store = store
        self._checkpoint_key = checkpoint_key
        self._metrics_key = metrics_key
        self._metrics = MetricsBoard()
        self._cells = MetricCells()
        self._metrics_restored = asyncio.Event()
        self._board = ReplicaBoard()
        self._feed = ServingMapFeed()
        self._managed: dict[CopyId, _Managed] = {}
        self._nodes: tuple[Node, ...] | None = None
        self._observed = asyncio.Event()
        self._observation_told = asyncio.Event()
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._spawn(self._start())
        self._spawn(self._count())

    # -- the controller's side

    async def observe(self) -> tuple[Event, ...]:
        """What runs and what there is, for a controller that starts; waits until adoption is complete."""
        await self._observed.wait()
        return (CapacityChanged(self._nodes or ()), self._cluster_observed())

    async def perform(self, instructions: Sequence[Instruction]) -> None:
        """Begins to carry out the instructions, in their order for each copy; the ends are reported to the controller."""
        await self._observed.wait()
        for instruction in instructions:
            match instruction:
                case Load():
                    self._begin_load(instruction)
                case CancelLoad():
                    self._begin_cancel(instruction)
                case Place():
                    self._begin_place(instruction)
                case Quiesce() | Unload():
                    self._begin_removal(instruction)
                case PublishStates():
                    self._feed.set_states(instruction.states, instruction.labels, instruction.request_logging)
                    self._feed.publish_first()

    # -- the replicas' side

    async def claim_slot(
        self, application: str, replica_id: str, node_id: str, pid: int, dead: Sequence[int]
    ) -> Slot | tuple[int, ...] | None:
        """See `ReplicaBoard.claim_slot`."""
        return self._board.claim_slot(application, replica_id, node_id, pid, dead)

    async def watch_replica(self, report: ReplicaReport, seen: ReplicaDirective) -> ReplicaDirective:
        """A replica's long poll: see `ReplicaBoard.watch`."""
        return await self._board.watch(report, seen)

    async def report_metrics(self, process: str, changes: Mapping[CellKey, Value], seen: Round) -> Round:
        """The long poll of every process that counts: see `MetricsBoard.report`."""
        return await self._metrics.report(process, changes, seen)

    # -- the frontends' side

    async def watch_map(self, report: FrontendReport, seen: Epoch) -> ServingMap:
        """A frontend's long poll: see `ServingMapFeed.watch`."""
        return await self._feed.watch(report, seen)

    async def collect_metrics(self) -> Mapping[CellKey, Value]:
        """The metrics of the whole server, of this moment."""
        await self._metrics_restored.wait()
        return await self._metrics.collect()

    async def leave(self, frontend_id: str) -> None:
        """A frontend says goodbye; nobody waits for its acknowledgements any more."""
        self._feed.leave(frontend_id)

    # -- the server's side

    async def accept(self) -> None:
        """Opens the ports on every node. The answer comes at once; `frontends` tells how far it is."""
        await self._observed.wait()
        await asyncio.to_thread(self._store.save, self._checkpoint_key, _ACCEPTING)
        self._feed.set_accepting(True)

    async def frontends(self) -> tuple[FrontendReport, ...]:
        """The frontends that live now."""
        return self._feed.frontends()

    async def drain_frontends(self, timeout_s: float) -> bool:
        """Closes the ports and waits until no frontend holds a request; False when some still do after `timeout_s`."""
        self._stopping = True
        await asyncio.to_thread(self._store.delete, self._checkpoint_key)
        self._feed.set_accepting(False)
        return await self._feed.wait_for_frontends(
            lambda reports: all(not report.accepting and report.in_flight == 0 for report in reports), timeout_s
        )

    async def remove_frontends(self) -> None:
        """Stops the frontends and gives the GPUs back; the last thing before the actors themselves go."""
        self._stopping = True
        await self._fleet.remove()
        await self._node_watch.release()

    async def replicas(self) -> tuple[ReplicaReport, ...]:
        """The last report of every version replica, for `aspired status`."""
        return tuple(report for name in self._board.applications() for report in self._board.reports(name))

    async def nodes(self) -> tuple[Node, ...]:
        """The nodes as they were last seen."""
        return self._nodes or ()

    # -- starting

    async def _start(self) -> None:
        while not await self._tried(self._look_at_nodes()):
            await asyncio.sleep(NODE_WATCH_INTERVAL_S)
        await self._adopt()
        self._feed.set_accepting(await asyncio.to_thread(self._store.load, self._checkpoint_key) == _ACCEPTING)
        self._observed.set()
        self._spawn(self._tell_observed())
        while True:
            await asyncio.sleep(NODE_WATCH_INTERVAL_S)
            if not self._stopping:
                await self._tried(self._look_at_nodes())

    async def _look_at_nodes(self) -> None:
        nodes = tuple(await self._node_watch.nodes())
        await self._fleet.follow([node.node_id for node in nodes])
        changed, self._nodes = nodes != self._nodes, nodes
        if changed and self._observed.is_set():
            await self._tell(CapacityChanged(nodes))

    async def _tried(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether the work succeeded; it is repeated anyway, so a failure is only logged."""
        try:
            await work
        except Exception:
            logger.exception("looking at the cluster's nodes failed")
            return False
        return True

    async def _adopt(self) -> None:
        """Takes over the versions that run, each as its replicas describe it; what stays silent is removed."""
        for copy_id in await self._loaders.running():
            application = self._loaders.application_name(copy_id)
            await self._board.wait_for(functools.partial(self._has_reported, application), ADOPTION_TIMEOUT_S)
            reports = self._board.reports(application)
            if not reports:
                logger.warning("no replica of %s has reported: removing it", copy_id)
                await self._loaders.remove(copy_id)
                continue
            await self._adopt_copy(reports)

    def _has_reported(self, application: str) -> bool:
        return bool(self._board.reports(application))

    async def _adopt_copy(self, reports: Sequence[ReplicaReport]) -> None:
        first = reports[0]
        slots = self._board.slots(first.application)
        load = Load(first.instruction_id, first.version, slots, first.resources, first.copy)
        managed = _Managed(load, self._loaders.loader(load, self._board), ObservedPhase.LOADING)
        self._managed[managed.copy_id] = managed
        phases = {report.phase for report in reports}
        if ReplicaPhase.QUIESCED in phases:
            managed.phase = ObservedPhase.QUIESCING
        # One that has never been available may take no other's place before all of it is up.
        elif phases == {ReplicaPhase.READY} or (ReplicaPhase.READY in phases and self._board.established(first.application)):
            managed.phase = ObservedPhase.READY
            loaded = await managed.loader.place(slots)
            self._route(managed, loaded)
            self._spawn(self._follow(managed, loaded))
        else:
            self._chain(managed, self._load(managed))
        logger.info("adopted %s, %s", managed.copy_id, managed.phase.value)

    def _cluster_observed(self) -> ClusterObserved:
        return ClusterObserved(
            tuple(
                ObservedServable(
                    managed.load.version,
                    managed.phase,
                    # Replicas claim their slots one by one while they start.
                    managed.load.slots
                    if managed.phase is ObservedPhase.LOADING
                    else self._board.slots(self._loaders.application_name(copy_id)),
                    managed.load.instruction_id,
                    managed.load.resources,
                    managed.load.copy,
                )
                for copy_id, managed in self._managed.items()
            )
        )

    # -- carrying out

    def _begin_load(self, load: Load) -> None:
        copy_id = CopyId(load.version.id, load.copy)
        managed = self._managed.get(copy_id)
        same = managed is not None and managed.load.version.files == load.version.files
        if managed is not None and managed.phase is ObservedPhase.READY and same:
            self._spawn(self._tell(Loaded(load.version.id, load.instruction_id, load.copy)))
        elif managed is not None and managed.phase is ObservedPhase.LOADING and same and managed.cancelling is None:
            managed.load = load
        else:
            if managed is not None and managed.phase is not ObservedPhase.QUIESCING:
                self._give_up(managed)
            before = managed.work if managed is not None else None
            loader = self._loaders.loader(load, self._board)
            managed = self._managed[copy_id] = _Managed(load, loader, ObservedPhase.LOADING, before)
            self._chain(managed, self._load(managed))

    def _begin_cancel(self, cancel: CancelLoad) -> None:
        managed = self._managed.get(CopyId(cancel.id, cancel.copy))
        if managed is not None and managed.phase is ObservedPhase.LOADING:
            self._cancel(managed)

    def _give_up(self, managed: _Managed) -> None:
        """Takes down what nobody knows of any more, so that other files can be loaded under its name."""
        if managed.phase is ObservedPhase.LOADING:
            self._cancel(managed)
        else:
            managed.phase = ObservedPhase.QUIESCING
            self._chain(managed, self._take_down(managed))

    def _cancel(self, managed: _Managed) -> None:
        if managed.cancelling is None:
            managed.cancelling = self._spawn(managed.loader.unload())

    def _begin_place(self, place: Place) -> None:
        managed = self._managed.get(CopyId(place.id, place.copy))
        if managed is not None:
            self._chain(managed, self._place(managed, place))

    def _begin_removal(self, instruction: Quiesce | Unload) -> None:
        """Marks the copy as going at once: a Load that follows makes a new one, after this one's end."""
        managed = self._managed.get(CopyId(instruction.id, instruction.copy))
        removal = (
            self._quiesce(managed, instruction) if isinstance(instruction, Quiesce) else self._unload(managed, instruction)
        )
        if managed is None:
            self._spawn(removal)
        else:
            if managed.phase is ObservedPhase.LOADING:
                self._cancel(managed)
            managed.phase = ObservedPhase.QUIESCING
            self._chain(managed, removal)

    async def _load(self, managed: _Managed) -> None:
        servable = managed.load.version.id
        began = time.monotonic()
        try:
            loaded = await managed.loader.load(managed.load.slots)
            if managed.cancelling is not None:
                raise Cancelled("Loading of servable cancelled")
            if managed.phase is ObservedPhase.LOADING:
                managed.phase = ObservedPhase.READY
                epoch = self._route(managed, loaded)
                self._spawn(self._follow(managed, loaded))
                await self._feed.acknowledged(epoch)
        except Exception as error:  # every failure of a load is this version's alone, and is told
            if managed.cancelling is not None:
                await asyncio.wait((managed.cancelling,))
            self._forget(managed)
            if not isinstance(error, AspiredError):
                logger.exception("loading %s failed", managed.copy_id)
                error = Internal(f"{type(error).__name__}: {error}")
            self._cells.counter(catalog.LOADS, servable.name, error.code.name).add()
            await self._tell(LoadFailed(servable, managed.load.instruction_id, error.to_status(), managed.load.copy))
        else:
            self._cells.counter(catalog.LOADS, servable.name, "OK").add()
            self._cells.histogram(catalog.LOAD_SECONDS, servable.name).observe(time.monotonic() - began)
            await self._tell(Loaded(servable, managed.load.instruction_id, managed.load.copy))

    async def _place(self, managed: _Managed, place: Place) -> None:
        if managed.phase is ObservedPhase.READY:
            self._route(managed, await managed.loader.place(place.slots))

    async def _follow(self, managed: _Managed, routed: LoadedServable) -> None:
        """Routes to the replicas as they come and go, for as long as the version is routed to; beside its other work."""
        while True:
            try:
                routed = await managed.loader.changed(routed)
            except Cancelled:
                return
            if self._managed.get(managed.copy_id) is not managed or managed.phase is not ObservedPhase.READY:
                return
            self._route(managed, routed)

    async def _quiesce(self, managed: _Managed | None, quiesce: Quiesce) -> None:
        if managed is not None:
            await self._let_finish(managed)
        await self._tell(Quiesced(quiesce.id, quiesce.instruction_id, quiesce.copy))

    async def _unload(self, managed: _Managed | None, unload: Unload) -> None:
        if managed is not None:
            self._feed.remove(unload.id, unload.copy)
            await managed.loader.unload()
            self._forget(managed)
        await self._tell(Unloaded(unload.id, unload.instruction_id, unload.copy))

    async def _take_down(self, managed: _Managed) -> None:
        await self._let_finish(managed)
        await managed.loader.unload()

    async def _let_finish(self, managed: _Managed) -> None:
        await self._feed.acknowledged(self._feed.remove(managed.load.version.id, managed.load.copy))
        await managed.loader.quiesce(QUIESCE_TIMEOUT_S)

    def _forget(self, managed: _Managed) -> None:
        """Lets a copy go, unless a newer load of the same id has taken its place."""
        if self._managed.get(managed.copy_id) is managed:
            del self._managed[managed.copy_id]

    def _route(self, managed: _Managed, loaded: LoadedServable) -> Epoch:
        version, copy = managed.load.version.id, managed.load.copy
        return self._feed.add(ServableEntry(version, loaded.endpoints, loaded.signatures, loaded.deterministic, copy))

    async def _tell(self, event: Event) -> None:
        """Reports to the controller, never before it has been told what this life of the manager began with."""
        await self._observation_told.wait()
        await self._controller.call("handle", event)

    async def _tell_observed(self) -> None:
        await self._controller.call("handle", self._cluster_observed())
        self._observation_told.set()

    # -- metrics

    async def _count(self) -> None:
        """Counts beside everybody else's counts, and keeps the sums for a manager that comes after this one."""
        saved = await asyncio.to_thread(self._store.load, self._metrics_key)
        if saved is not None:
            self._metrics.restore(saved)
        self._metrics_restored.set()
        self._spawn(MetricsReporter(f"manager {os.getpid()}", self._cells, self._metrics.report, self._refresh_gauges).run())
        while True:
            await asyncio.sleep(METRICS_SAVE_INTERVAL_S)
            sums = self._metrics.save()
            if sums != saved:
                saved = sums
                await asyncio.to_thread(self._store.save, self._metrics_key, sums)

    def _refresh_gauges(self) -> None:
        reports = [report for name in self._board.applications() for report in self._board.reports(name)]
        phases = Counter((report.version.id.name, str(report.version.id.version), report.phase.value) for report in reports)
        self._cells.set_gauges(catalog.REPLICAS, phases)
        frontends = self._feed.frontends()
        self._cells.gauge(catalog.FRONTENDS).set(len(frontends))
        self._cells.gauge(catalog.REQUESTS_IN_FLIGHT).set(sum(report.in_flight for report in frontends))

    # -- tasks

    def _chain(self, managed: _Managed, work: Coroutine[Any, Any, None]) -> None:
        """Begins work on a version after the work on it that was asked for before."""
        before = managed.work

        async def in_order() -> None:
            if before is not None:
                await asyncio.wait((before,))
            await work

        managed.work = self._spawn(in_order())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a task of the manager failed", exc_info=error)
