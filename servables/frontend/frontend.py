"""One frontend process: both listeners, the handler behind them, and the router; without Ray.

frontend = Frontend(options, channel_factory, control)
frontend.bind()              holds the ports
left = frontend.apply(map)   routes by the map; again for every new one
await frontend.start()       accepts
await frontend.drain(t)      accepts no more, lets finish what is under way
await frontend.close()
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cluster.config.ssl_config import SSLConfig
from cluster.core.errors import Unavailable
from cluster.core.metrics import MetricCells
from cluster.core.serving_map import ServingMap
from servables.frontend.access_log import AccessLog
from servables.frontend.arrivals import Arrivals
from servables.frontend.frame_channel import FrameChannelFactory
from servables.frontend.grpc_aio_listener import GrpcAioListener
from servables.frontend.grpc_health import HEALTH_SERVICE, HealthService
from servables.frontend.grpc_listener import GrpcListener
from servables.frontend.grpc_method import GrpcService
from servables.frontend.grpc_profiler import PROFILER_SERVICE, ProfilerService
from servables.frontend.grpc_reflection import ReflectionService
from servables.frontend.grpc_services import MODEL_SERVICE, PREDICTION_SERVICE, GrpcServices
from servables.frontend.held_bytes import HeldBytes
from servables.frontend.http_listener import HttpLimits, HttpListener
from servables.frontend.inference import Inference
from servables.frontend.operator_routes import OperatorRoutes
from servables.frontend.request_metrics import RequestMetrics
from servables.frontend.rest import Rest, RestOptions
from servables.frontend.servable_router import RouterLimits, ServableRouter
from servables.frontend.server_control import ServerControl
from servables.request_log.request_logger import RequestLogger, RequestLogLimits
from servables.stage_metrics import StageMetrics

logger = logging.getLogger(__name__)

NATIVE = "native"
"""`FrontendOptions.grpc_listener` for the listener of our own; anything else is grpcio's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendOptions:
    """What a frontend is told. A port of 0 turns its protocol off; `rest_api_timeout_s` None sets no limit.

    `tensor_content`: gRPC Predict answers carry raw bytes in place of typed fields. `check_method_names`: see `Inference`.
    `metrics_path`: where REST has Prometheus's metrics, empty for nowhere. `ssl_config` is for gRPC, over TCP and the UNIX
    socket; None serves in plain text, or with Google's ALTS if `use_alts`. ALTS and channel arguments are
    grpcio's, which then serves whatever `grpc_listener` says. `health_service`, `reflection` and `profiler` add services to TF
    Serving's.
    `access_log`: a line of the log for each request. `max_held_grpc_bytes`: see `HeldBytes`; it is that of gRPC.
    """

    host: str = "0.0.0.0"
    grpc_port: int = 8500
    grpc_socket_path: str = ""
    grpc_listener: str = NATIVE
    grpc_channel_arguments: Mapping[str, int | str] = field(default_factory=dict)
    ssl_config: SSLConfig | None = None
    use_alts: bool = False
    health_service: bool = False
    reflection: bool = True
    profiler: bool = True
    rest_api_port: int = 8501
    rest_api_timeout_s: float | None = 30.0
    enable_cors: bool = False
    tensor_content: bool = False
    metrics_path: str = ""
    check_method_names: bool = False
    access_log: bool = False
    max_held_grpc_bytes: int = 1 << 30
    http_limits: HttpLimits = field(default_factory=HttpLimits)
    router_limits: RouterLimits = field(default_factory=RouterLimits)
    request_log_limits: RequestLogLimits = field(default_factory=RequestLogLimits)


class Frontend:
    """Used on one event loop, in the order above. Frontends of one node share its ports by SO_REUSEPORT.

    What it counts is in `cells`. `frontend_id` tells its request logs from those of other frontends.
    """

    def __init__(
        self,
        options: FrontendOptions,
        channel_factory: FrameChannelFactory,
        control: ServerControl,
        frontend_id: str = "frontend",
    ) -> None:
        self._options = options
        self.cells = MetricCells()
        arrivals = Arrivals()
        held = HeldBytes(options.max_held_grpc_bytes)
        self._router = ServableRouter(channel_factory, options.router_limits, arrivals, StageMetrics(self.cells))
        self._request_logger = RequestLogger(frontend_id, options.request_log_limits, self.cells)
        inference = Inference(self._router, RequestMetrics(self.cells), options.check_method_names, self._request_logger.logs)
        access_log = AccessLog() if options.access_log else None
        self._grpc = GrpcServices(
            inference,
            control,
            tensor_content=options.tensor_content,
            access_log=access_log,
            arrivals=arrivals,
            held=held,
        )
        self._health = HealthService() if options.health_service else None
        self._profiler = ProfilerService(self._router.profile) if options.profiler else None
        self._reflection = ReflectionService(_services(options)) if options.reflection else None
        self._grpc_listener = self._make_grpc_listener(held)
        rest = Rest(inference, RestOptions(timeout_s=options.rest_api_timeout_s, enable_cors=options.enable_cors))
        OperatorRoutes(lambda: self._router.serving_map, control, options.metrics_path).add_to(rest)
        handler = access_log.http(rest.handle) if access_log is not None else rest.handle
        self._http_listener = HttpListener(handler, options.http_limits)
        self._rest_socket: socket.socket | None = None
        self._grpc_socket: socket.socket | None = None

    @property
    def in_flight(self) -> int:
        """Requests, of both protocols, that have no answer yet."""
        return self._http_listener.in_flight + self._grpc.in_flight

    def bind(self) -> None:
        """Holds the ports, bound but not listening, so that they cannot be lost before `start`.

        Raises Unavailable, naming the port, when one is taken. May be called again after that.
        """
        try:
            if self._options.rest_api_port and self._rest_socket is None:
                self._rest_socket = _bound(self._options.host, self._options.rest_api_port)
            if self._options.grpc_port and self._grpc_socket is None:
                self._grpc_socket = _bound(self._options.host, self._options.grpc_port)
        except Unavailable:
            self.release()
            raise

    def release(self) -> None:
        """Gives up ports that are held and not listened on."""
        for held in (self._rest_socket, self._grpc_socket):
            if held is not None:
                held.close()
        self._rest_socket = self._grpc_socket = None

    def apply(self, serving_map: ServingMap) -> asyncio.Future[None]:
        """Routes, and logs requests, by the map from now on; see `ServableRouter.apply` for the future."""
        self._request_logger.configure(serving_map.request_logging)
        return self._router.apply(serving_map)

    async def start(self) -> None:
        """Accepts requests on the bound ports."""
        addresses = list(self._grpc_addresses())
        if addresses:
            await self._grpc_listener.start(addresses, self._grpc_socket)
            self._grpc_socket = None  # the listener's now
        if self._rest_socket is not None:
            await self._http_listener.start(self._rest_socket)

    async def drain(self, timeout_s: float) -> None:
        """Accepts nothing more and returns when what is under way has been answered, or given up after `timeout_s`.

        The request logs are complete then.
        """
        for streaming in (self._health, self._reflection):
            if streaming is not None:
                streaming.drain()
        await asyncio.gather(self._http_listener.stop(timeout_s), self._grpc_listener.stop(timeout_s))
        await self._request_logger.close()

    async def close(self) -> None:
        """Ends the channels; after `drain`."""
        await self._router.close()

    def _make_grpc_listener(self, held: HeldBytes) -> GrpcListener | GrpcAioListener:
        options = self._options
        if options.grpc_listener == NATIVE and not options.use_alts and not options.grpc_channel_arguments:
            logger.info("gRPC is served by Aspired's own HTTP/2")
            return GrpcListener(self._grpc_services(), held, options.ssl_config)
        logger.info("gRPC is served by grpcio's HTTP/2")
        return GrpcAioListener(self._grpc_services(), options.ssl_config, options.grpc_channel_arguments, options.use_alts)

    def _grpc_services(self) -> Sequence[GrpcService]:
        services = [*self._grpc.services()]
        if self._health is not None:
            services.append(self._health.service())
        if self._profiler is not None:
            services.append(self._profiler.service())
        if self._reflection is not None:
            services.extend(self._reflection.services())
        return services

    def _grpc_addresses(self) -> Iterable[str]:
        if self._grpc_socket is not None:
            host = self._options.host
            yield f"[{host}]:{self._options.grpc_port}" if ":" in host else f"{host}:{self._options.grpc_port}"
        if self._options.grpc_socket_path:
            yield f"unix:{self._options.grpc_socket_path}"


def _services(options: FrontendOptions) -> Iterable[str]:
    yield from (PREDICTION_SERVICE, MODEL_SERVICE)
    if options.health_service:
        yield HEALTH_SERVICE
    if options.profiler:
        yield PROFILER_SERVICE


def _bound(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # What another server's connections left behind in TIME_WAIT is no obstacle; a listening socket still is.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise Unavailable(f"port {port} of {host} cannot be used: {error.strerror or error}") from error
    return bound
