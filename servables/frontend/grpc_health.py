"""gRPC's standard health service, with the names that TF Serving gives its own (`model_servers/server.cc`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from cluster.core.errors import NotFound
from cluster.protos import HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse
from servables.frontend.grpc_method import GrpcService, UnaryStream, parsed, unary_unary

HEALTH_SERVICE = "grpc.health.v1.Health"
NAMES = ("", "ModelService", "PredictionService")
"""What can be asked for; "" is the whole server."""

_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = (
    HealthCheckResponse.ServingStatus.Value(name) for name in ("SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
)


class HealthService:
    """All names serve from the beginning, since the port opens when models are available, until `drain`."""

    def __init__(self) -> None:
        self._draining = asyncio.Event()

    def service(self) -> GrpcService:
        return GrpcService(
            HEALTH_SERVICE,
            {
                "Check": unary_unary(f"{HEALTH_SERVICE}/Check", self.check),
                "List": unary_unary(f"{HEALTH_SERVICE}/List", self.list_statuses),
                "Watch": UnaryStream(f"{HEALTH_SERVICE}/Watch", self.watch),
            },
        )

    def drain(self) -> None:
        """Tells everybody who watches that nothing serves any more, and lets them go: they must not hold up the drain."""
        self._draining.set()

    async def check(self, request_bytes: bytes, timeout_s: float | None) -> bytes:
        name = parsed(HealthCheckRequest, request_bytes).service
        if name not in NAMES:
            raise NotFound("service name unknown")
        return self._response(name).SerializeToString()

    async def list_statuses(self, request_bytes: bytes, timeout_s: float | None) -> bytes:
        parsed(HealthListRequest, request_bytes)
        response = HealthListResponse()
        for name in NAMES:
            response.statuses[name].CopyFrom(self._response(name))
        return response.SerializeToString()

    async def watch(self, request_bytes: bytes) -> AsyncGenerator[bytes, None]:
        name = parsed(HealthCheckRequest, request_bytes).service
        first = self._response(name)
        yield first.SerializeToString()
        await self._draining.wait()
        last = self._response(name)
        if last != first:
            yield last.SerializeToString()

    def _response(self, name: str) -> HealthCheckResponse:
        if name not in NAMES:
            return HealthCheckResponse(status=_SERVICE_UNKNOWN)
        return HealthCheckResponse(status=_NOT_SERVING if self._draining.is_set() else _SERVING)
