"""The loader whose `load` is a Serve application."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from ray import serve

from cluster.actors.actor_link import ActorLink
from cluster.actors.replica_board import ReplicaBoard
from cluster.config.batching_parameters import BatchingParameters
from cluster.config.lane_options import LaneOptions
from cluster.config.log_options import LogOptions
from cluster.config.model_cache_options import ModelCacheOptions
from cluster.config.model_settings import overrides, serving_settings
from cluster.config.names import application_name, parse_application_name
from cluster.core.errors import AspiredError, Cancelled, Internal
from cluster.core.instructions import Load
from cluster.core.loader import LoadedServable, Loader
from cluster.core.replica_report import ReplicaDirective, ReplicaPhase, ReplicaReport
from cluster.core.resources import Slot
from cluster.core.servable_id import ServableId
from cluster.core.serving_map import Endpoint
from cluster.storage.storages import Storages
from servables.deployment.serve_applications import SERVE_ENVIRONMENT, ServeApplications, replica_actor_name
from servables.deployment.version_replica import ReplicaSpec, VersionReplica
from servables.fork_server.start_command import NAME_VARIABLE, WORKER_ENVIRONMENT, start_command
from servables.platforms import platform
from servables.servable import PlatformOptions
from servables.warmup.warmup import WarmupOptions

MAX_ONGOING_FRAMES = 100_000
"""Serve's own limit on frames in a replica; ours (the router's bounds, the batching queue) come long before it."""
STATUS_INTERVAL_S = 2.0
"""How often Serve's status is read while a load waits for its replicas' reports, in case one cannot even start."""


class DeploymentLoader(Loader):
    """One version as one Serve application: one deployment for each node it is on, pinned there, with one replica a slot.

    `fork_server` is the name of the server's fork servers, when all its replicas are on this machine and may be forked.
    """

    def __init__(
        self, spec: ReplicaSpec, board: ReplicaBoard, applications: ServeApplications, fork_server: str | None = None
    ) -> None:
        self._spec = spec
        self._fork_server = fork_server
        self._board = board
        self._applications = applications
        self._cancelled = False

    async def load(self, slots: Sequence[Slot]) -> LoadedServable:
        application = self._spec.application
        version = self._spec.version
        if Storages().local_path(version.path) is not None:
            await asyncio.to_thread(platform(version.platform).check, version.path, self._spec.options)
        if self._cancelled:
            raise self._cancellation()
        if not self._board.reports(application):  # else it is adopted, and on its way
            self._board.assign(application, slots)
            await self._deploy(slots)
        try:
            loaded = await self._wait_ready(fail_fast=True)
        except AspiredError:
            await self.unload()
            raise
        self._board.direct(application, ReplicaDirective(established=True))
        return loaded

    async def place(self, slots: Sequence[Slot]) -> LoadedServable:
        application = self._spec.application
        if tuple(slots) != self._board.slots(application):
            self._board.assign(application, slots)
            await self._deploy(slots)
        self._board.direct(application, ReplicaDirective(established=True))
        return await self._wait_ready(fail_fast=False, replicas=1)

    async def changed(self, known: LoadedServable) -> LoadedServable:
        now = known

        def differs() -> bool:
            nonlocal now
            reports = self._ready()
            now = self._loaded(reports) if reports else known
            return self._cancelled or now != known

        while not await self._board.wait_for(differs, STATUS_INTERVAL_S):
            pass
        if self._cancelled:
            raise self._cancellation()
        return now

    async def quiesce(self, timeout_s: float) -> None:
        application = self._spec.application
        self._board.direct(application, ReplicaDirective(quiesce=True))
        await self._board.wait_for(lambda: self._cancelled or self._board.quiesced(application), timeout_s)

    async def unload(self) -> None:
        self._cancelled = True
        application = self._spec.application
        # A replica that has not finished loading cannot be asked to stop, it can only be killed.
        stuck = [
            replica_actor_name(application, report.deployment, report.replica_id)
            for report in self._board.reports(application)
            if report.phase in (ReplicaPhase.LOADING, ReplicaPhase.FAILED)
        ]
        await self._applications.delete(application, stuck)
        self._board.forget(application)

    async def _deploy(self, slots: Sequence[Slot]) -> None:
        on_node = Counter(slot.node_id for slot in slots)
        # TensorFlow may look for devices while it is imported, and a replica learns its own only when it runs.
        fork_server = self._fork_server if all(slot.gpu is None for slot in slots) else None
        deployments = [self._deployment(node_id, replicas, fork_server) for node_id, replicas in on_node.items()]
        arguments = [(self._spec_on(node_id),) for node_id in on_node]
        await self._applications.deploy(self._spec.application, deployments, arguments)

    def _deployment(self, node_id: str, replicas: int, fork_server: str | None) -> Any:
        environment = {**SERVE_ENVIRONMENT, **WORKER_ENVIRONMENT, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
        runtime_env: dict[str, Any] = {"env_vars": environment}
        if fork_server is not None:
            environment[NAME_VARIABLE] = fork_server
            runtime_env["py_executable"] = start_command()
        return serve.deployment(VersionReplica).options(
            name=deployment_name(node_id),
            num_replicas=replicas,
            max_ongoing_requests=MAX_ONGOING_FRAMES,
            health_check_period_s=1.0,
            health_check_timeout_s=30.0,
            graceful_shutdown_wait_loop_s=0.05,
            graceful_shutdown_timeout_s=5.0,
            logging_config={"enable_access_log": False},
            ray_actor_options={
                "num_cpus": self._spec.resources.cpus,
                "label_selector": {"ray.io/node-id": node_id},
                "runtime_env": runtime_env,
            },
        )

    def _spec_on(self, node_id: str) -> ReplicaSpec:
        return replace(self._spec, deployment=deployment_name(node_id))

    async def _wait_ready(self, fail_fast: bool, replicas: int | None = None) -> LoadedServable:
        application = self._spec.application

        def failed() -> ReplicaReport | None:
            return next((report for report in self._board.reports(application) if report.phase is ReplicaPhase.FAILED), None)

        def over() -> bool:
            wanted = len(self._board.slots(application)) if replicas is None else replicas
            return self._cancelled or len(self._ready()) >= wanted or (fail_fast and failed() is not None)

        while not await self._board.wait_for(over, STATUS_INTERVAL_S):
            failure = await self._applications.failure(application)
            if failure is not None and fail_fast:
                raise Internal(failure)
        if self._cancelled:
            raise self._cancellation()
        failure_report = failed()
        if fail_fast and failure_report is not None:
            raise failure_report.status.to_error()
        return self._loaded(self._ready())

    def _ready(self) -> tuple[ReplicaReport, ...]:
        return tuple(report for report in self._board.reports(self._spec.application) if report.phase is ReplicaPhase.READY)

    def _loaded(self, reports: Sequence[ReplicaReport]) -> LoadedServable:
        on_node: dict[str, list[ReplicaReport]] = {}
        for report in sorted(reports, key=lambda report: (report.node_id, report.replica_id)):
            on_node.setdefault(report.node_id, []).append(report)
        endpoints = tuple(
            Endpoint(
                self._spec.application,
                deployment_name(node_id),
                node_id,
                len(there),
                tuple(report.lane for report in there if report.lane is not None),
            )
            for node_id, there in on_node.items()
        )
        return LoadedServable(endpoints, reports[0].signatures, all(report.deterministic for report in reports))

    def _cancellation(self) -> Cancelled:
        return Cancelled("Loading of servable cancelled")


class DeploymentLoaderFactory:
    """Makes the deployment loaders of one server (see `cluster.actors.fleet.LoaderFactory`).

    `options`, `batching` and `warmup` are what the flags say; a version's own settings go before them.
    """

    def __init__(
        self,
        server_name: str,
        manager: ActorLink,
        options: PlatformOptions,
        batching: BatchingParameters | None,
        warmup: WarmupOptions | None = None,
        direct_threads: int | None = None,
        *,
        per_version_batching: bool = False,
        logs: LogOptions | None = None,
        lanes: LaneOptions | None = None,
        cache: ModelCacheOptions | None = None,
        fork_server: str | None = None,
    ) -> None:
        self._server_name = server_name
        self._manager = manager
        self._options = options
        self._batching = batching
        self._warmup = warmup or WarmupOptions()
        self._direct_threads = direct_threads
        self._per_version_batching = per_version_batching
        self._logs = logs or LogOptions()
        self._lanes = lanes or LaneOptions()
        self._cache = cache or ModelCacheOptions()
        self._fork_server = fork_server
        self._applications = ServeApplications()

    def loader(self, load: Load, board: ReplicaBoard) -> Loader:
        settings = serving_settings(load.version)
        spec = ReplicaSpec(
            application=self.application_name(load.version.id),
            deployment="",
            manager=self._manager,
            instruction_id=load.instruction_id,
            version=load.version,
            resources=load.resources,
            options=replace(self._options, **overrides(settings.platform)),
            batching=settings.batching_over(self._batching),
            direct_threads=self._direct_threads or max(2, 2 * (os.cpu_count() or 1)),
            warmup=replace(self._warmup, **overrides(settings.warmup)),
            per_version_batching=self._per_version_batching and settings.batching is None,
            logs=self._logs,
            lanes=self._lanes,
            cache=self._cache,
        )
        return DeploymentLoader(spec, board, self._applications, self._fork_server)

    def application_name(self, servable: ServableId) -> str:
        return application_name(self._server_name, servable.name, servable.version)

    async def running(self) -> Collection[ServableId]:
        parsed = (parse_application_name(name) for name in await self._applications.names())
        return [ours[1] for ours in parsed if ours is not None and ours[0] == self._server_name]

    async def remove(self, servable: ServableId) -> None:
        await self._applications.delete(self.application_name(servable))


def deployment_name(node_id: str) -> str:
    """The deployment of a version on one node."""
    return f"node-{node_id[:16]}"
