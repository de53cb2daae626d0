"""The health service, asked by the stubs of grpcio-health-checking."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.unit.servables.frontend.grpc_frontend import grpc_frontend

PATIENCE_S = 30.0
END: Any = vars(grpc.aio)["EOF"]  # its type stubs do not have it
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def request(service: str) -> Any:
    return health_pb2.HealthCheckRequest(service=service)


@pytest.mark.parametrize("service", ["", "ModelService", "PredictionService"])
async def test_what_tf_serving_names_serves(listener: str, service: str) -> None:
    async with grpc_frontend(health_service=True, grpc_listener=listener) as (_, channel, _):
        response = await health_pb2_grpc.HealthStub(channel).Check(request(service))
        assert response.status == SERVING


async def test_another_name_is_not_found_and_its_watch_unknown(listener: str) -> None:
    async with grpc_frontend(health_service=True, grpc_listener=listener) as (_, channel, _):
        stub = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.RpcError) as raised:
            await stub.Check(request("Other"))
        assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.NOT_FOUND, "service name unknown")
        watch = stub.Watch(request("Other"))
        assert (await watch.read()).status == SERVICE_UNKNOWN
        watch.cancel()


async def test_lists_all(listener: str) -> None:
    async with grpc_frontend(health_service=True, grpc_listener=listener) as (_, channel, _):
        listed = await health_pb2_grpc.HealthStub(channel).List(health_pb2.HealthListRequest())
        assert {name: response.status for name, response in listed.statuses.items()} == dict.fromkeys(
            ("", "ModelService", "PredictionService"), SERVING
        )


async def test_who_watches_is_told_of_the_drain_and_does_not_hold_it_up(listener: str) -> None:
    async with grpc_frontend(health_service=True, grpc_listener=listener) as (frontend, channel, _):
        watches = [health_pb2_grpc.HealthStub(channel).Watch(request(name)) for name in ("", "ModelService", "Other")]
        assert [(await watch.read()).status for watch in watches] == [SERVING, SERVING, SERVICE_UNKNOWN]
        await asyncio.wait_for(frontend.drain(100 * PATIENCE_S), PATIENCE_S)
        assert [(await watch.read()).status for watch in watches[:2]] == [NOT_SERVING] * 2
        for watch in watches:
            assert await watch.read() is END
            assert await watch.code() is grpc.StatusCode.OK


async def test_is_absent_unless_asked_for(listener: str) -> None:
    async with grpc_frontend(grpc_listener=listener) as (_, channel, _):
        with pytest.raises(grpc.RpcError) as raised:
            await health_pb2_grpc.HealthStub(channel).Check(request(""))
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
