"""The frontends as Serve deployments: one application for each node."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Any

from ray import serve

from cluster.actors.actor_link import ActorLink
from cluster.actors.metrics_reporter import MetricsReporter, report_to
from cluster.config.log_options import LogOptions, configure_logging
from cluster.config.model_config import ModelServerConfig
from cluster.config.names import frontend_name
from cluster.core.acknowledgements import FrontendReport
from cluster.core.errors import AspiredError, Status
from cluster.core.metrics import CellKey, Value
from cluster.core.serving_map import Epoch, ServableEntry, ServingMap
from servables.allocator import keep_freed_memory
from servables.deployment.handle_channel import HandleChannel
from servables.deployment.process_priority import take_raylets_priority
from servables.deployment.serve_applications import SERVE_ENVIRONMENT, ServeApplications
from servables.frontend.frame_channel import FrameChannel
from servables.frontend.frontend import Frontend, FrontendOptions
from servables.frontend.server_control import ServerControl
from servables.lane.lane_channel import LaneChannel
from servables.lane.lane_tls import client_tls
from servables.long_lived_heap import freeze_heap

LEAVING_S = 1.0
"""How long requests already sent to a version that has left the map hold back the acknowledgement of the new map."""
BIND_INTERVAL_S = 1.0
DRAINING_POLL_S = 0.05

logger = logging.getLogger(__name__)


class ControlLinks(ServerControl):
    """The controller and the manager, as a frontend's handlers see them."""

    def __init__(self, controller: ActorLink, manager: ActorLink) -> None:
        self._controller = controller
        self._manager = manager

    async def reload(self, models: ModelServerConfig) -> Status:
        status: Status = await self._controller.call("reload", models)
        return status

    async def reload_models(self) -> Status:
        status: Status = await self._controller.call("reload_models")
        return status

    async def models(self) -> ModelServerConfig:
        models: ModelServerConfig = await self._controller.call("models")
        return models

    async def metrics(self) -> Mapping[CellKey, Value]:
        values: Mapping[CellKey, Value] = await self._manager.call("collect_metrics")
        return values


class FrontendReplica:
    """Serve deployment class: keeps a `Frontend` in step with the manager's serving map.

    The ports are bound at once and listened on when the map says so. While the manager is away the last map stays in force.
    """

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, options: FrontendOptions, manager: ActorLink, controller: ActorLink, drain_timeout_s: float, logs: LogOptions
    ) -> None:
        import ray  # the context of this process, not of the one that pickled the class

        keep_freed_memory()
        configure_logging(logs)
        self._manager = manager
        self._drain_timeout_s = drain_timeout_s
        self._id = serve.get_replica_context().replica_id.unique_id
        self._node_id = ray.get_runtime_context().get_node_id()
        self._tls = client_tls()
        self._frontend = Frontend(options, self._channel, ControlLinks(controller, manager), self._id)
        self._applied = Epoch()
        self._accepting = False
        self._draining = False
        self._error = ""
        await self._bind()
        freeze_heap()
        take_raylets_priority()
        reporter = MetricsReporter(self._id, self._frontend.cells, report_to(manager))
        self._tasks = [asyncio.get_running_loop().create_task(work) for work in (self._follow(), reporter.run())]

    def _channel(self, entry: ServableEntry) -> FrameChannel:
        return LaneChannel(entry, self._id, self._node_id, HandleChannel(entry, self._id), self._tls)

    async def _bind(self) -> None:
        """Holds the ports; says so to the manager, again and again, while somebody else has them."""
        while True:
            try:
                self._frontend.bind()
            except AspiredError as error:
                logger.error("%s", error)
                self._error = error.message
                await self._manager.call("watch_map", self._report(), Epoch("none", 0))
                await asyncio.sleep(BIND_INTERVAL_S)
            else:
                self._error = ""
                return

    async def _follow(self) -> None:
        while True:
            # While it drains, every poll is answered at once: the manager is to know soon that nothing is left.
            seen = Epoch() if self._draining else self._applied
            serving_map: ServingMap = await self._manager.call("watch_map", self._report(), seen)
            if serving_map.epoch != self._applied:
                try:
                    await self._apply(serving_map)
                except Exception:  # a frontend that stops following its map would never acknowledge again
                    logger.exception("cannot apply map %s", serving_map.epoch)
                    await asyncio.sleep(BIND_INTERVAL_S)
            if self._draining:
                await asyncio.sleep(DRAINING_POLL_S)

    async def _apply(self, serving_map: ServingMap) -> None:
        left = self._frontend.apply(serving_map)
        if serving_map.accepting and not self._accepting:
            await self._frontend.start()
            self._accepting = True
        elif not serving_map.accepting and self._accepting:
            self._accepting, self._draining = False, True
            self._tasks.append(asyncio.get_running_loop().create_task(self._drain()))
        try:
            await asyncio.wait_for(left, LEAVING_S)
        except TimeoutError:
            logger.info("requests to versions that have left are still out; the replicas' gates know them")
        self._applied = serving_map.epoch

    async def _drain(self) -> None:
        try:
            await self._frontend.drain(self._drain_timeout_s)
        finally:
            self._draining = False

    def _report(self) -> FrontendReport:
        # Until it has drained it must not be taken for idle and be stopped: request logs are completed last.
        in_flight = max(self._frontend.in_flight, int(self._draining))
        return FrontendReport(self._id, self._node_id, self._applied, self._accepting, in_flight, self._error)


class ServeFrontendFleet:
    """Frontends on every node (see `cluster.actors.fleet.FrontendFleet`)."""

    def __init__(
        self,
        server_name: str,
        options: FrontendOptions,
        manager: ActorLink,
        controller: ActorLink,
        frontends_per_node: int,
        drain_timeout_s: float,
        logs: LogOptions,
    ) -> None:
        self._server_name = server_name
        self._options = options
        self._manager = manager
        self._controller = controller
        self._frontends_per_node = frontends_per_node
        self._drain_timeout_s = drain_timeout_s
        self._logs = logs
        self._applications = ServeApplications()
        self._nodes: set[str] | None = None

    async def follow(self, node_ids: Collection[str]) -> None:
        if self._nodes is None:
            self._nodes = await self._running_on()
        for node_id in set(node_ids) - self._nodes:
            await self._applications.deploy(
                frontend_name(self._server_name, node_id),
                [self._deployment(node_id)],
                [(self._options, self._manager, self._controller, self._drain_timeout_s, self._logs)],
            )
            self._nodes.add(node_id)
        for node_id in self._nodes - set(node_ids):
            await self._applications.delete(frontend_name(self._server_name, node_id))
            self._nodes.discard(node_id)

    async def remove(self) -> None:
        for node_id in await self._running_on():
            await self._applications.delete(frontend_name(self._server_name, node_id))
        self._nodes = set()

    async def _running_on(self) -> set[str]:
        prefix = frontend_name(self._server_name, "")
        return {name.removeprefix(prefix) for name in await self._applications.names() if name.startswith(prefix)}

    def _deployment(self, node_id: str) -> Any:
        return serve.deployment(FrontendReplica).options(
            name="frontend",
            num_replicas=self._frontends_per_node,
            max_ongoing_requests=1000,
            health_check_period_s=1.0,
            graceful_shutdown_wait_loop_s=0.05,
            graceful_shutdown_timeout_s=1.0,
            logging_config={"enable_access_log": False},
            ray_actor_options={
                "num_cpus": 0,
                "label_selector": {"ray.io/node-id": node_id},
                "runtime_env": {"env_vars": dict(SERVE_ENVIRONMENT)},
            },
        )
