"""The process of one servable version on one slot."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ray import serve
from ray.util import get_node_ip_address

from cluster.actors.actor_link import ActorLink
from cluster.actors.metrics_reporter import MetricsReporter, report_to
from cluster.config.batching_parameters import BatchingParameters
from cluster.config.lane_options import LaneOptions
from cluster.config.log_options import LogOptions, configure_logging
from cluster.config.model_cache_options import ModelCacheOptions
from cluster.core import metric_catalog as catalog
from cluster.core.aspired_version import AspiredVersion
from cluster.core.errors import AspiredError, Internal, NotServing, Status
from cluster.core.fetch_progress import FetchProgress
from cluster.core.metrics import MetricCells
from cluster.core.replica_report import ReplicaDirective, ReplicaPhase, ReplicaReport
from cluster.core.resources import ReplicaResources, Slot
from cluster.core.serving_map import Lane
from cluster.storage.storages import Storages
from servables.allocator import keep_freed_memory
from servables.call import Reply
from servables.deployment.gated_runner import GatedRunner
from servables.deployment.process_priority import take_raylets_priority
from servables.deployment.replica_gate import ReplicaGate
from servables.deployment.version_files import VersionFiles
from servables.deployment.version_loading import LoadedVersion, load_version
from servables.frame import decode_calls, encode_replies, join
from servables.lane.lane_server import LaneServer
from servables.lane.lane_tls import server_tls
from servables.long_lived_heap import freeze_heap
from servables.profile import ProfileOptions
from servables.run_metrics import FrameMetrics
from servables.runner import Runner, Submission
from servables.servable import PlatformOptions
from servables.signatures import encode_signatures
from servables.warmup.warmup import WarmupOptions

NOT_SERVING = b""
"""What a frame is answered with by a replica whose gate is closed: nothing of it has run or will run."""
PLASMA_THRESHOLD_BYTES = 1 << 20
"""Replies from this size on go through the object store when their frame came that way."""
GATHER_S = 0.0005
"""How long the first replies of a frame wait for others; the rest of a frame never waits for a slow one."""
CLAIM_INTERVAL_S = 0.2
RELOAD_INTERVAL_S = 5.0

Frame = bytes | np.ndarray[Any, Any]
"""A frame on its way: bytes over Serve's gRPC transport, an array of uint8 through the object store."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReplicaSpec:
    """All that a replica must know to load its version; travels with the deployment, and comes again with every restart.

    `batching` None runs requests one by one; with `per_version_batching` so does a version without parameters of its own.
    """

    application: str
    deployment: str
    manager: ActorLink
    instruction_id: str
    version: AspiredVersion
    resources: ReplicaResources
    options: PlatformOptions
    batching: BatchingParameters | None
    direct_threads: int
    warmup: WarmupOptions
    logs: LogOptions
    per_version_batching: bool = False
    lanes: LaneOptions = LaneOptions()
    cache: ModelCacheOptions = ModelCacheOptions()


class VersionReplica:
    """Serve deployment class: a shell around a platform's `Servable`, its `Runner` and the `ReplicaGate`.

    The constructor returns when the version is loaded, so Serve sends nothing here before. A load that fails is reported and
    waited out: raising would make Serve start process after process.
    """

    async def __init__(self, spec: ReplicaSpec, *_others: Any) -> None:  # type: ignore[misc]  # Serve awaits it
        import ray  # the context of this process, not of the one that pickled the class

        keep_freed_memory()
        configure_logging(spec.logs)
        self._spec = spec
        self._replica_id = serve.get_replica_context().replica_id.unique_id
        self._gate = ReplicaGate(str(spec.version.id))
        self._directive = ReplicaDirective()
        self._directed = asyncio.Event()
        self._submissions: dict[tuple[str, int], Submission] = {}
        self._runner: Runner | None = None
        self._cells = MetricCells()
        node_id = ray.get_runtime_context().get_node_id()
        slot = await self._claim_slot(node_id)
        self._report = ReplicaReport(
            spec.application,
            spec.deployment,
            self._replica_id,
            node_id,
            os.getpid(),
            spec.instruction_id,
            spec.version,
            slot,
            spec.resources,
            ReplicaPhase.LOADING,
        )
        self._watch: asyncio.Task[None] | None = None
        self._tell(self._report)
        _take_device(slot)
        reporter = MetricsReporter(self._replica_id, self._cells, report_to(spec.manager), self._refresh_gauges)
        self._reporting = asyncio.get_running_loop().create_task(reporter.run())
        self._servable, self._runner = await self._load(slot)
        freeze_heap()
        take_raylets_priority()
        self._work = GatedRunner(self._runner, self._gate, FrameMetrics(self._cells), self._quiesced)
        lane = await self._open_lane(node_id) if spec.lanes.enabled else None
        self._tell(
            replace(
                self._report,
                phase=ReplicaPhase.READY,
                status=Status(),
                fetch=None,
                signatures=encode_signatures(self._servable.signatures),
                deterministic=self._servable.deterministic,
                lane=lane,
            )
        )

    async def frame(self, frontend_id: str, frame: Frame) -> AsyncIterator[Frame]:
        """Runs a frame's calls; yields frames of replies as calls are done, in any order, until each has its reply."""
        calls = decode_calls(frame if isinstance(frame, bytes) else frame.data)
        try:
            self._work.enter(len(calls), len(frame), "handle")
        except NotServing:
            yield NOT_SERVING
            return
        done: list[Reply] = []
        wake = asyncio.Event()
        waiting = len(calls)

        def on_reply(reply: Reply) -> None:
            done.append(reply)
            wake.set()
            self._submissions.pop((frontend_id, reply.call_id), None)
            self._work.leave(1)

        for call in calls:
            # A runner never answers within submit, so the reply finds the submission here.
            self._submissions[frontend_id, call.call_id] = self._work.submit(call, on_reply)
        try:
            while waiting:
                await wake.wait()
                if len(done) < waiting:
                    # Each message costs as much as many calls: those that end together travel together.
                    await asyncio.sleep(GATHER_S)
                wake.clear()
                replies, done[:] = tuple(done), ()
                waiting -= len(replies)
                buffers = encode_replies(replies)
                size_bytes = sum(map(len, buffers))
                self._work.replied(size_bytes)
                if not isinstance(frame, bytes) and size_bytes >= PLASMA_THRESHOLD_BYTES:
                    yield np.frombuffer(join(buffers), np.uint8)
                else:
                    yield join(buffers)
        finally:
            if waiting:
                await self.cancel(frontend_id, [call.call_id for call in calls])

    async def cancel(self, frontend_id: str, call_ids: Sequence[int]) -> None:
        """Nobody waits for these calls any more."""
        for call_id in call_ids:
            submission = self._submissions.get((frontend_id, call_id))
            if submission is not None:
                submission.cancel()

    async def profile(self, options: ProfileOptions) -> tuple[Status, bytes]:
        """Records this process (`Servable.profile`): how it went, and the trace."""
        try:
            return Status(), await asyncio.to_thread(self._servable.profile, options)
        except AspiredError as error:
            return error.to_status(), b""

    async def ping(self) -> None:
        """Answers as soon as a replica of the deployment takes work; frontends wait in it for one that has died."""

    async def _open_lane(self, node_id: str) -> Lane | None:
        """Frames can do without: one that cannot be opened is logged."""
        host = get_node_ip_address() if self._spec.lanes.across_nodes else ""
        server = LaneServer(self._replica_id, self._work)
        try:
            lane = await server.start(node_id, host, server_tls())
        except OSError as error:
            logger.warning("no lane: %s", error)
            return None
        self._lane_server = server
        return lane

    def _quiesced(self) -> None:
        self._tell(replace(self._report, phase=ReplicaPhase.QUIESCED))

    # -- metrics

    def _refresh_gauges(self) -> None:
        version = self._spec.version.id
        waiting, running = (self._runner.waiting, self._runner.running) if self._runner is not None else (0, 0)
        self._cells.gauge(catalog.CALLS_WAITING, version.name, str(version.version)).set(waiting)
        self._cells.gauge(catalog.CALLS_RUNNING, version.name, str(version.version)).set(running)
        if self._report.phase is ReplicaPhase.READY:
            found = self._servable.caller_thread_signatures
            if found != self._report.caller_thread_signatures:
                self._tell(replace(self._report, caller_thread_signatures=found))

    # -- the manager's side

    async def _claim_slot(self, node_id: str) -> Slot:
        dead: tuple[int, ...] = ()
        while True:
            claimed = await self._spec.manager.call(
                "claim_slot", self._spec.application, self._replica_id, node_id, os.getpid(), dead
            )
            if isinstance(claimed, Slot):
                return claimed
            dead = tuple(pid for pid in claimed or () if not _lives(pid))
            if not dead:
                await asyncio.sleep(CLAIM_INTERVAL_S)

    def _tell(self, report: ReplicaReport) -> None:
        """Reports to the manager, now and for as long as nothing changes."""
        self._report = report
        if self._watch is not None:
            self._watch.cancel()
        self._watch = asyncio.get_running_loop().create_task(self._follow(report))

    async def _follow(self, report: ReplicaReport) -> None:
        while True:
            directive: ReplicaDirective = await self._spec.manager.call("watch_replica", report, self._directive)
            if directive == self._directive:
                continue
            self._directive = directive
            self._directed.set()
            if directive.quiesce and not self._gate.quiescing:
                self._gate.close()
                if self._gate.quiesced and report.phase is ReplicaPhase.READY:
                    self._tell(replace(report, phase=ReplicaPhase.QUIESCED))

    async def _load(self, slot: Slot) -> LoadedVersion:
        spec = self._spec
        options = replace(spec.options, gpu=slot.gpu, gpu_memory_bytes=slot.gpu_memory_bytes)
        files = VersionFiles(spec.version, Storages(), spec.cache, self._cells)
        while True:
            try:
                directory = await files.find(self._fetching)
                return await load_version(
                    spec.version.platform,
                    spec.version.path,
                    options,
                    spec.batching,
                    spec.direct_threads,
                    spec.warmup,
                    self._cells,
                    per_version_batching=spec.per_version_batching,
                    model_name=spec.version.id.name,
                    directory=directory,
                )
            except Exception as error:  # whatever it is, it is this version's load error
                if not isinstance(error, AspiredError):
                    logger.exception("loading %s failed", self._spec.version.id)
                    error = Internal(f"{type(error).__name__}: {error}")
                else:
                    logger.error("loading %s failed: %s", self._spec.version.id, error)
                status = files.named(error.to_status())
                self._tell(replace(self._report, phase=ReplicaPhase.FAILED, status=status, fetch=None))
            # A version's first load is retried by the controller, in a new process. One that was available keeps trying here.
            while not self._directive.established:
                self._directed.clear()
                await self._directed.wait()
            await asyncio.sleep(RELOAD_INTERVAL_S)

    def _fetching(self, progress: FetchProgress) -> None:
        self._tell(replace(self._report, fetch=progress))


def _take_device(slot: Slot) -> None:
    """Must happen before TensorFlow is imported; Ray leaves the variable alone for an actor that took no GPU from it."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1" if slot.gpu is None else str(slot.gpu)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
