"""The composition root: wires sources, controller, manager, loaders and frontends of one server onto a Ray cluster.

Everything here runs in a process that is connected to Ray: the host of `aspired serve`, or a command that looks at a server
or stops it. What it starts is detached and restartable, and bears the server's name.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.exceptions import GetTimeoutError, RayActorError

from cluster.actors.actor_link import ActorLink
from cluster.actors.checkpoint_store import GcsCheckpointStore
from cluster.actors.controller_actor import ControllerActor, ControllerOptions, ControllerStatus
from cluster.actors.manager_actor import ManagerActor
from cluster.actors.model_config_store import ModelConfigStore
from cluster.actors.source_actor import SourceActor, WatchedModels
from cluster.config.lane_options import LaneOptions
from cluster.config.names import NAMESPACE, controller_name, manager_name, source_name
from cluster.config.server_config import ModelConfigFile, ServerConfig
from cluster.config.server_options import ServerOptions
from cluster.core.acknowledgements import FrontendReport
from cluster.core.aspired_versions_state import Options
from cluster.core.errors import AlreadyExists, NotFound, Unavailable
from cluster.core.fetch_progress import FetchProgress
from cluster.core.replica_report import ReplicaReport
from cluster.core.servable_id import ServableId
from cluster.observed_status import fetches_of, model_statuses, node_statuses, resource_totals
from cluster.server_record import ServerRecord
from cluster.server_status import ServerStatus
from cluster.sources.file_system_storage_path_source import FileSystemStoragePathSource
from cluster.sources.model_repository import ModelRepository
from cluster.storage.storages import Storages
from cluster.stored_text import StoredText
from servables.deployment.deployment_loader import DeploymentLoaderFactory
from servables.deployment.frontend_replica import ServeFrontendFleet
from servables.deployment.gpu_holder import GpuNodeWatch
from servables.deployment.serve_applications import start_serve
from servables.frontend.frontend import FrontendOptions
from servables.frontend.http_listener import HttpLimits
from servables.frontend.servable_router import RouterLimits
from servables.request_log.record_files import FileLimits
from servables.request_log.request_logger import RequestLogLimits
from servables.servable import PlatformOptions
from servables.warmup.warmup import WarmupOptions

CALL_TIMEOUT_S = 30.0
UNLOAD_TIMEOUT_S = 45.0
REMOVE_TIMEOUT_S = 20.0
WATCH_INTERVAL_S = 0.5

logger = logging.getLogger(__name__)


class Server:
    """One server on the connected cluster, by its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._store = GcsCheckpointStore()
        self._manager = ActorLink(manager_name(name), NAMESPACE)
        self._controller = ActorLink(controller_name(name), NAMESPACE)
        self._source = ActorLink(source_name(name), NAMESPACE)

    @staticmethod
    def names() -> list[str]:
        """The servers that the connected cluster has records of."""
        return [key.removeprefix(_RECORD) for key in GcsCheckpointStore().keys(_RECORD)]

    def record(self) -> ServerRecord | None:
        """The server's record; None when no such server was started here, or its manager is gone."""
        saved = self._store.load(_RECORD + self.name)
        if saved is None or not self._manager_lives():
            return None
        return ServerRecord.model_validate_json(saved)

    # -- starting

    def start(self, config: ServerConfig, owns_ray: bool, fork_server: str | None = None) -> ServerRecord:
        """Starts the server's actors and returns at once; replicas are forked from `fork_server` (see `DeploymentLoader`).

        Raises AlreadyExists when one of this name runs on the cluster.
        """
        if self.record() is not None:
            raise AlreadyExists(
                f"a server named {self.name} runs on this Ray cluster already: give another --server_name, "
                f"or stop it with `aspired shutdown --server_name={self.name}`"
            )
        options = config.options
        record = ServerRecord(
            name=self.name,
            ray_address=ray.get_runtime_context().gcs_address,
            listen_address=options.host,
            grpc_port=options.port,
            rest_api_port=options.rest_api_port,
            owns_ray=owns_ray,
            owns_serve=start_serve(),
        )
        self._forget()
        self._store.save(_RECORD + self.name, record.model_dump_json().encode())
        self._start_manager(config, fork_server)
        self._start_controller(config, forks=fork_server is not None)
        self._start_source(config)
        return record

    def _start_manager(self, config: ServerConfig, fork_server: str | None) -> None:
        options = config.options
        loaders = DeploymentLoaderFactory(
            self.name,
            self._manager,
            PlatformOptions(
                saved_model_tags=options.tags,
                intra_op_parallelism_threads=options.intra_op_parallelism_threads,
                inter_op_parallelism_threads=options.inter_op_parallelism_threads,
                session_config=config.session.config_proto,
                prefer_tflite_model=options.prefer_tflite_model,
                num_tflite_pools=options.num_tflite_pools,
                num_tflite_interpreters_per_pool=options.num_tflite_interpreters_per_pool,
            ),
            config.batching,
            warmup_options(options),
            per_version_batching=options.enable_per_model_batching_parameters,
            lanes=LaneOptions(options.direct_lanes, across_nodes=options.ray_address != "local"),
            cache=options.model_cache_options,
            logs=options.log_options,
            fork_server=fork_server,
        )
        fleet = ServeFrontendFleet(
            self.name,
            frontend_options(config),
            self._manager,
            self._controller,
            options.frontends_per_node,
            options.drain_timeout_s,
            options.log_options,
        )
        _actor(ManagerActor, manager_name(self.name)).remote(
            loaders,
            fleet,
            GpuNodeWatch(self.name, options.per_process_gpu_memory_fraction or 1.0),
            self._controller,
            self._store,
            _ACCEPTING + self.name,
            _METRICS + self.name,
            options.log_options,
        )

    def _start_controller(self, config: ServerConfig, forks: bool) -> None:
        options = config.options
        controller_options = ControllerOptions(
            state=Options(
                max_num_load_retries=options.max_num_load_retries,
                load_retry_interval_s=options.load_retry_interval_micros / 1e6,
                max_concurrent_loads=options.num_load_threads or max(2, os.cpu_count() or 1),
                forks=forks,
            ),
            replicas_per_version=options.replicas_per_version,
            require_versions=options.servable_versions_always_present,
            allow_labels_for_unavailable=options.allow_version_labels_for_unavailable_models,
        )
        _actor(ControllerActor, controller_name(self.name)).remote(
            controller_options,
            self._models(config),
            self._source,
            self._manager,
            self._store,
            _CHECKPOINT + self.name,
            options.log_options,
        )

    def _start_source(self, config: ServerConfig) -> None:
        options = config.options
        make_source = functools.partial(
            FileSystemStoragePathSource,
            storage=Storages(),
            settle_s=options.version_settle_seconds,
            stopwatch=time.monotonic,
            servable_versions_always_present=options.servable_versions_always_present,
        )
        _actor(SourceActor, source_name(self.name)).remote(
            make_source,
            self._models(config),
            self._controller,
            float(options.file_system_poll_wait_seconds),
            self._watched(config),
            options.log_options,
        )

    def _watched(self, config: ServerConfig) -> WatchedModels | None:
        options = config.options
        last = ModelConfigStore(self._store, _CONFIG_FILE + self.name, config.models)
        if options.model_repository:
            repository = ModelRepository(options.model_repository, Storages())
            return WatchedModels(repository, max(0.0, options.file_system_poll_wait_seconds), last)
        if options.model_config_file:
            path = options.model_config_file
            file = ModelConfigFile(path if "://" in path else str(Path(path).absolute()), StoredText(Storages()))
            return WatchedModels(file, float(options.model_config_file_poll_wait_seconds) or None, last)
        return None

    def _models(self, config: ServerConfig) -> ModelConfigStore:
        return ModelConfigStore(self._store, _MODELS + self.name, config.models)

    def until_settled(self) -> Iterator[ControllerStatus]:
        """The state of the models, again and again, until the first versions of all are available or have failed for good.

        Raises Unavailable when a frontend cannot get its ports.
        """
        while True:
            status: ControllerStatus = self._call(self._controller, "wait_settled", WATCH_INTERVAL_S)
            yield status
            self._check_frontends()
            if status.first_versions_settled:
                return

    def fetches(self) -> dict[ServableId, FetchProgress]:
        """The versions that nodes are fetching."""
        reports: Sequence[ReplicaReport] = self._call(self._manager, "replicas")
        return fetches_of(reports)

    def open_ports(self) -> None:
        """Lets every frontend accept; returns when all of them do. Raises Unavailable when one cannot get its ports."""
        self._call(self._manager, "accept")
        deadline = time.monotonic() + CALL_TIMEOUT_S
        while time.monotonic() < deadline:
            reports = self._check_frontends()
            if reports and all(report.accepting for report in reports):
                return
            time.sleep(0.05)
        raise Unavailable("the frontends have not opened their ports; their logs say why")

    def _check_frontends(self) -> tuple[FrontendReport, ...]:
        reports: tuple[FrontendReport, ...] = self._call(self._manager, "frontends")
        for report in reports:
            if report.error:
                raise Unavailable(report.error)
        return reports

    # -- stopping

    def stop(self, drain_timeout_s: float, progress: Callable[[str], None] = lambda _: None) -> None:
        """Closes the ports, lets requests under way finish, unloads every version and removes the actors.

        Steps that cannot be done are logged and passed over, so that what remains goes away all the same.
        """
        record = self.record()
        if self._manager_lives():
            self._drain(drain_timeout_s, progress)
        for link in (self._source, self._controller, self._manager):
            try:
                ray.kill(link.handle())
            except Unavailable:
                pass  # gone already
        self._forget()
        if record is not None and record.owns_serve and not record.owns_ray and not serve.status().applications:
            serve.shutdown()

    def _drain(self, drain_timeout_s: float, progress: Callable[[str], None]) -> None:
        progress("closing the ports and finishing requests under way")
        if not self._try(self._manager, "drain_frontends", drain_timeout_s, timeout_s=drain_timeout_s + CALL_TIMEOUT_S):
            logger.warning("some requests were still under way after %.0f s", drain_timeout_s)
        progress("unloading")
        self._try(self._controller, "stop")
        self._try(self._controller, "wait_stopped", UNLOAD_TIMEOUT_S, timeout_s=UNLOAD_TIMEOUT_S + CALL_TIMEOUT_S)
        self._try(self._manager, "remove_frontends", timeout_s=REMOVE_TIMEOUT_S + CALL_TIMEOUT_S)

    def _forget(self) -> None:
        for kind in (_RECORD, _CHECKPOINT, _ACCEPTING, _MODELS, _CONFIG_FILE, _METRICS):
            self._store.delete(kind + self.name)

    def _try(self, link: ActorLink, method: str, *args: Any, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        try:
            return self._call(link, method, *args, timeout_s=timeout_s)
        except Unavailable as error:
            logger.warning("%s.%s: %s", link.name, method, error)
            return None

    # -- looking

    def status(self) -> ServerStatus:
        """Everything that `aspired status` shows. Raises NotFound when the server is not there."""
        record = self.record()
        if record is None:
            raise NotFound(f"no server named {self.name} runs on this Ray cluster")
        controller: ControllerStatus = self._call(self._controller, "status")
        frontends: tuple[FrontendReport, ...] = self._call(self._manager, "frontends")
        nodes = node_statuses(ray.nodes(), frontends, self._call(self._manager, "nodes"))
        alive = [node.address for node in nodes if node.frontends] or ["127.0.0.1"]
        host = record.listen_address if record.listen_address not in ("0.0.0.0", "::") else alive[0]
        return ServerStatus(
            server_name=self.name,
            ray_address=record.ray_address,
            namespace=NAMESPACE,
            started_by_us=record.owns_ray,
            ready=bool(frontends) and all(report.accepting for report in frontends),
            rest_url=f"http://{host}:{record.rest_api_port}" if record.rest_api_port else "",
            grpc_address=f"{host}:{record.grpc_port}" if record.grpc_port else "",
            nodes=nodes,
            models=model_statuses(controller, self._call(self._manager, "replicas")),
            models_error=controller.models_error,
            capacity=resource_totals(controller.capacity),
            reserved=resource_totals(controller.reserved),
        )

    def _manager_lives(self) -> bool:
        try:
            self._manager.handle()
        except Unavailable:
            return False
        return True

    def _call(self, link: ActorLink, method: str, *args: Any, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        try:
            return ray.get(getattr(link.handle(), method).remote(*args), timeout=timeout_s)
        except GetTimeoutError as error:
            raise Unavailable(f"actor {link.name} has not answered within {timeout_s:.0f} s") from error
        except RayActorError as error:
            raise Unavailable(f"actor {link.name} is gone; its log in Ray's session directory says why") from error


def frontend_options(config: ServerConfig) -> FrontendOptions:
    """What the frontends need of the flags and of the files that they name."""
    options = config.options
    return FrontendOptions(
        host=options.host,
        grpc_port=options.port,
        grpc_socket_path=options.grpc_socket_path,
        grpc_listener=options.grpc_listener,
        grpc_channel_arguments=options.channel_arguments,
        ssl_config=config.ssl,
        use_alts=options.use_alts_credentials,
        health_service=options.enable_grpc_healthcheck_service,
        reflection=options.enable_grpc_reflection,
        profiler=options.enable_profiler,
        rest_api_port=options.rest_api_port,
        rest_api_timeout_s=options.rest_api_timeout_in_ms / 1e3 if options.rest_api_timeout_in_ms > 0 else None,
        enable_cors=options.rest_api_enable_cors_support,
        tensor_content=options.enable_serialization_as_tensor_content,
        metrics_path=config.metrics_path,
        check_method_names=options.enable_signature_method_name_check,
        access_log=options.access_log,
        http_limits=HttpLimits(max_held_body_bytes=options.max_held_request_bytes),
        max_held_grpc_bytes=options.max_held_request_bytes,
        router_limits=RouterLimits(max_queue_delay_s=options.max_queue_delay_s or math.inf),
        request_log_limits=RequestLogLimits(
            files=FileLimits(
                max_file_bytes=options.request_log_max_file_bytes,
                max_file_age_s=float(options.request_log_max_file_age_seconds),
                max_total_bytes=options.request_log_max_total_bytes,
            )
        ),
    )


def warmup_options(options: ServerOptions) -> WarmupOptions:
    """What the replicas need of the flags to warm a version up."""
    return WarmupOptions(
        replay_records=options.enable_model_warmup,
        iterations=options.num_request_iterations_for_warmup or 1,
        # gRPC clients choose their own; without one, a run has no timeout.
        timeouts_s=(options.rest_api_timeout_in_ms / 1e3,)
        if options.rest_api_port and options.rest_api_timeout_in_ms > 0
        else (),
        all_batch_sizes=options.enable_all_batch_sizes_warmup,
    )


_RECORD = "server/"
_CHECKPOINT = "checkpoint/"
_ACCEPTING = "accepting/"
_MODELS = "models/"
_CONFIG_FILE = "config-file/"
_METRICS = "metrics/"


def _actor(actor_class: type, name: str) -> Any:
    """A detached actor that Ray restarts for ever and whose cut-off calls it repeats; it costs no CPU of Ray's books."""
    return ray.remote(actor_class).options(
        name=name,
        namespace=NAMESPACE,
        lifetime="detached",
        max_restarts=-1,
        max_task_retries=-1,
        num_cpus=0,
        max_concurrency=10_000,
    )
