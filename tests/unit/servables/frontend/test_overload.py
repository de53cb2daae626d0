"""Far more requests than a model can answer, through real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest_asyncio

from cluster.core.servable_id import ServableId
from cluster.core.serving_map import Endpoint, ServableEntry, ServingMap
from cluster.protos import PredictRequest
from servables.direct_runner import DirectRunner
from servables.frontend.frontend import Frontend, FrontendOptions
from servables.frontend.http_listener import HttpLimits
from servables.frontend.local_channel import LocalChannel
from servables.frontend.servable_router import RouterLimits
from servables.signatures import PREDICT_METHOD_NAME, Signature, TensorInfo, encode_signatures
from servables.tensors import DataType
from tests.fakes.fake_servable import FakeServable, Gate
from tests.fakes.fake_server_control import FakeServerControl

HOST = "127.0.0.1"
PATIENCE_S = 60
PREDICT = "/tensorflow.serving.PredictionService/Predict"
CROWD = 8
FLOOD = 200
MEBIBYTE = 1 << 20
SIGNATURES = {
    "serving_default": Signature(
        PREDICT_METHOD_NAME,
        {"x": TensorInfo("x:0", DataType.DT_FLOAT, (None,))},
        {"y": TensorInfo("y:0", DataType.DT_FLOAT, (None,))},
    )
}


class World:
    """A frontend that serves `slow`, whose runs wait at the gate, and `other`. No queue grows beyond a crowd."""

    def __init__(self) -> None:
        with socket.socket() as rest, socket.socket() as rpc:
            rest.bind((HOST, 0))
            rpc.bind((HOST, 0))
            self.rest_port, grpc_port = rest.getsockname()[1], rpc.getsockname()[1]
        self.target = f"{HOST}:{grpc_port}"
        self.gate = Gate()
        slow = FakeServable(signatures=SIGNATURES, gate=self.gate)
        self.runners = {"slow": DirectRunner(slow, 2), "other": DirectRunner(FakeServable(signatures=SIGNATURES), 2)}
        self.frontend = Frontend(
            FrontendOptions(
                host=HOST,
                rest_api_port=self.rest_port,
                grpc_port=grpc_port,
                max_held_grpc_bytes=4 * MEBIBYTE,
                http_limits=HttpLimits(max_held_body_bytes=4 * MEBIBYTE),
                router_limits=RouterLimits(crowd=CROWD, max_queue_delay_s=0.0),
            ),
            lambda entry: LocalChannel(self.runners[entry.id.name], encoded=True),
            FakeServerControl(),
        )

    async def start(self) -> None:
        endpoint = Endpoint("in this process", "replica", node_id="", replicas=1)
        entries = {
            id: ServableEntry(id, (endpoint,), encode_signatures(SIGNATURES), deterministic=True)
            for id in (ServableId(name, 1) for name in self.runners)
        }
        self.frontend.bind()
        await self.frontend.apply(ServingMap(entries=entries, accepting=True))
        await self.frontend.start()

    async def stop(self) -> None:
        self.gate.open()
        await self.frontend.drain(PATIENCE_S)
        await self.frontend.close()
        await asyncio.gather(*(runner.close() for runner in self.runners.values()))

    async def rest(self, model: str, *, padding_bytes: int = 0) -> int:
        """The status of one request on a connection of its own; JSON may be padded with spaces."""
        body = b'{"instances": [1.0]}' + b" " * padding_bytes
        reader, writer = await asyncio.open_connection(HOST, self.rest_port)
        try:
            writer.write(b"POST /v1/models/%s:predict HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (model.encode(), len(body)))
            writer.write(body)
            return int((await reader.readuntil(b"\r\n")).split()[1])
        finally:
            writer.close()


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.start()
    yield world
    await world.stop()


@pytest_asyncio.fixture
async def predict(world: World) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(world.target) as channel:
        yield channel.unary_unary(PREDICT, bytes, bytes)


def predict_request(model: str, floats: int = 1) -> bytes:
    request = PredictRequest()
    request.model_spec.name = model
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=floats)
    request.inputs["x"].tensor_content = bytes(4 * floats)
    return bytes(request.SerializeToString())


async def ended(tasks: set[asyncio.Future[Any]], count: int) -> set[asyncio.Future[Any]]:
    """Those that are over, as soon as they are so many."""
    while sum(task.done() for task in tasks) < count:
        waiting = {task for task in tasks if not task.done()}
        done, _ = await asyncio.wait(waiting, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        assert done
    return {task for task in tasks if task.done()}


async def test_a_rest_flood_is_refused_while_what_was_taken_still_runs_and_leaves_nothing_behind(world: World) -> None:
    flood: set[asyncio.Future[int]] = {asyncio.ensure_future(world.rest("slow")) for _ in range(FLOOD)}
    refused = await ended(flood, FLOOD - CROWD)
    assert Counter(task.result() for task in refused) == {503: FLOOD - CROWD}
    assert [await world.rest("other") for _ in range(3)] == [200] * 3
    assert world.frontend.in_flight == CROWD
    world.gate.open()
    assert Counter([await task for task in flood - refused]) == {200: CROWD}
    assert await world.rest("slow") == 200
    assert world.frontend.in_flight == 0


async def test_a_grpc_flood_is_refused_while_what_was_taken_still_runs_and_leaves_nothing_behind(
    world: World, predict: Any
) -> None:
    async def code(model: str) -> grpc.StatusCode:
        call = predict(predict_request(model))
        status: grpc.StatusCode = await call.code()
        return status

    flood: set[asyncio.Future[grpc.StatusCode]] = {asyncio.ensure_future(code("slow")) for _ in range(FLOOD)}
    refused = await ended(flood, FLOOD - CROWD)
    assert Counter(task.result() for task in refused) == {grpc.StatusCode.UNAVAILABLE: FLOOD - CROWD}
    assert await code("other") is grpc.StatusCode.OK
    assert world.frontend.in_flight == CROWD
    world.gate.open()
    assert Counter([await task for task in flood - refused]) == {grpc.StatusCode.OK: CROWD}
    assert await code("slow") is grpc.StatusCode.OK
    assert world.frontend.in_flight == 0


async def test_large_rest_bodies_are_held_up_to_the_limit_and_taken_again_afterwards(world: World) -> None:
    flood: set[asyncio.Future[int]] = {asyncio.ensure_future(world.rest("slow", padding_bytes=MEBIBYTE)) for _ in range(20)}
    refused = await ended(flood, 20 - 3)
    assert Counter(task.result() for task in refused) == {503: 20 - 3}
    assert await world.rest("other") == 200
    world.gate.open()
    assert Counter([await task for task in flood - refused]) == {200: 3}
    assert await world.rest("slow", padding_bytes=MEBIBYTE) == 200


async def test_large_grpc_requests_are_held_up_to_the_limit_and_taken_again_afterwards(world: World, predict: Any) -> None:
    large = predict_request("slow", MEBIBYTE // 4)

    async def outcome() -> tuple[grpc.StatusCode, str]:
        call = predict(large)
        return await call.code(), await call.details()

    flood: set[asyncio.Future[Any]] = {asyncio.ensure_future(outcome()) for _ in range(20)}
    refused = await ended(flood, 20 - 3)
    assert Counter(task.result()[0] for task in refused) == {grpc.StatusCode.UNAVAILABLE: 20 - 3}
    assert all("the limit is 4194304" in task.result()[1] for task in refused)
    assert await predict(predict_request("other"))
    world.gate.open()
    assert Counter([(await task)[0] for task in flood - refused]) == {grpc.StatusCode.OK: 3}
    assert await predict(large)


async def test_a_burst_of_grpc_calls_that_the_event_loop_has_not_taken_yet_is_answered_all_the_same(world: World) -> None:
    def burst() -> Counter[grpc.StatusCode]:
        with grpc.insecure_channel(world.target) as channel:
            call = channel.unary_unary(PREDICT)
            calls = [call.future(predict_request("other"), timeout=PATIENCE_S) for _ in range(4000)]
            return Counter(call.code() for call in calls)

    codes = await asyncio.to_thread(burst)
    assert codes.keys() <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert codes[grpc.StatusCode.OK]
