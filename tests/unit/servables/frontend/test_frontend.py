from __future__ import annotations

import asyncio
import json
import pickle
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from cluster.core.errors import Unavailable
from cluster.core.servable_id import ServableId
from cluster.core.serving_map import Endpoint, ServableEntry, ServingMap
from cluster.protos import PredictRequest, PredictResponse
from servables.frontend.frontend import Frontend, FrontendOptions
from servables.signatures import Signature, TensorInfo, encode_signatures
from servables.tensors import DataType
from tests.fakes.fake_server_control import FakeServerControl
from tests.unit.servables.frontend.gated_channel import GatedChannel

HOST = "127.0.0.1"
PATIENCE_S = 30.0
PREDICT = "/tensorflow.serving.PredictionService/Predict"
ENTRY = ServableEntry(
    ServableId("m", 1),
    (Endpoint("app", "deployment", "node", 1),),
    encode_signatures(
        {
            "serving_default": Signature(
                "",
                {"x": TensorInfo("x:0", DataType.DT_FLOAT, (-1,))},
                {"x": TensorInfo("y:0", DataType.DT_FLOAT, (-1,))},
            )
        }
    ),
)
SERVING = ServingMap(entries={ENTRY.id: ENTRY})
OTHER = ServableEntry(ServableId("m", 2), ENTRY.endpoints, ENTRY.signatures)


class World:
    def __init__(self, **options: Any) -> None:
        sockets = [socket.socket() for _ in range(2)]
        for each in sockets:
            each.bind((HOST, 0))
        self.rest_port, self.grpc_port = (int(each.getsockname()[1]) for each in sockets)
        for each in sockets:
            each.close()
        self.channels: list[GatedChannel] = []
        defaults = {"host": HOST, "rest_api_port": self.rest_port, "grpc_port": self.grpc_port}
        self.options = FrontendOptions(**{**defaults, **options})
        self.frontend = Frontend(self.options, self._channel, FakeServerControl())

    async def start(self) -> None:
        self.frontend.bind()
        await self.frontend.apply(SERVING)
        await self.frontend.start()

    def _channel(self, entry: ServableEntry) -> GatedChannel:
        self.channels.append(GatedChannel(entry))
        return self.channels[-1]

    async def rest(self) -> Client:
        client = Client(*await asyncio.open_connection(HOST, self.rest_port))
        client.ask()
        return client


class Client:
    """One REST request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def ask(self) -> None:
        body = b'{"inputs": [1.0]}'
        self._writer.write(b"POST /v1/models/m:predict HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async def answer(self) -> Any:
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body = json.loads(await asyncio.wait_for(self._reader.readexactly(size), PATIENCE_S))
        self.hang_up()
        return body

    def hang_up(self) -> None:
        self._writer.close()


def predict_request() -> bytes:
    request = PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=1)
    request.inputs["x"].float_val.append(1.0)
    return bytes(request.SerializeToString())


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.start()
    yield world
    await world.frontend.drain(0.0)
    await world.frontend.close()


@pytest_asyncio.fixture
async def channel(world: World) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"{HOST}:{world.grpc_port}") as channel:
        yield channel


async def test_both_protocols_reach_the_same_version(world: World, channel: grpc.aio.Channel) -> None:
    client = await world.rest()
    (await world.channels[0].frame(0)).reply()
    assert await client.answer() == {"outputs": [1.0]}
    call = channel.unary_unary(PREDICT, bytes, bytes)(predict_request())
    (await world.channels[0].frame(1)).reply()
    response = PredictResponse.FromString(await call)
    assert list(response.outputs["x"].float_val) == [1.0]


async def test_counts_the_requests_without_an_answer(world: World, channel: grpc.aio.Channel) -> None:
    client = await world.rest()
    first = await world.channels[0].frame(0)
    call = channel.unary_unary(PREDICT, bytes, bytes)(predict_request())
    second = await world.channels[0].frame(1)
    assert world.frontend.in_flight == 2
    first.reply()
    await client.answer()
    second.reply()
    await call
    assert world.frontend.in_flight == 0


async def test_a_grpc_deadline_is_what_the_replica_gets_to_know(world: World, channel: grpc.aio.Channel) -> None:
    call = channel.unary_unary(PREDICT, bytes, bytes)(predict_request(), timeout=PATIENCE_S)
    frame = await world.channels[0].frame(0)
    assert PATIENCE_S - 5 < (frame.calls[0].timeout_s or 0) < PATIENCE_S + 1
    frame.reply()
    await call


async def test_rest_has_the_deadline_of_its_option() -> None:
    for timeout_s in (20.0, None):
        world = World(rest_api_timeout_s=timeout_s, grpc_port=0)
        await world.start()
        client = await world.rest()
        frame = await world.channels[0].frame(0)
        assert (frame.calls[0].timeout_s is None) == (timeout_s is None)
        frame.reply()
        await client.answer()
        await world.frontend.drain(PATIENCE_S)


async def test_a_grpc_client_that_cancels_cancels_its_call(world: World, channel: grpc.aio.Channel) -> None:
    call = channel.unary_unary(PREDICT, bytes, bytes)(predict_request())
    frame = await world.channels[0].frame(0)
    call.cancel()
    while not world.channels[0].cancelled:
        await asyncio.sleep(0.001)
    assert world.channels[0].cancelled == [frame.calls[0].call_id]


async def test_a_rest_client_that_disconnects_cancels_its_call(world: World) -> None:
    client = await world.rest()
    frame = await world.channels[0].frame(0)
    client.hang_up()
    while not world.channels[0].cancelled:
        await asyncio.sleep(0.001)
    assert world.channels[0].cancelled == [frame.calls[0].call_id]


async def test_a_request_under_way_is_answered_by_the_version_that_it_was_sent_to(world: World) -> None:
    client = await world.rest()
    frame = await world.channels[0].frame(0)
    drained = world.frontend.apply(ServingMap(entries={OTHER.id: OTHER}))
    assert not drained.done()
    frame.reply()
    assert await client.answer() == {"outputs": [1.0]}
    await drained


async def test_ports_are_held_but_not_listened_on_before_start() -> None:
    world = World()
    world.frontend.bind()
    for port in (world.rest_port, world.grpc_port):
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((HOST, port))
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, port)
    world.frontend.release()


async def test_frontends_share_ports() -> None:
    first, second = World(), World()
    second.options = first.options
    second.frontend = Frontend(first.options, second._channel, FakeServerControl())
    await first.start()
    await second.start()
    await first.frontend.drain(PATIENCE_S)
    client = await asyncio.open_connection(HOST, first.rest_port)
    client[1].close()
    await second.frontend.drain(PATIENCE_S)


@pytest.mark.parametrize("which", ["rest_port", "grpc_port"])
async def test_a_port_that_is_taken_is_named_and_the_other_given_up(which: str) -> None:
    world = World()
    with socket.socket() as other:
        other.bind((HOST, getattr(world, which)))
        other.listen()
        with pytest.raises(
            Unavailable, match=rf"^port {getattr(world, which)} of {HOST} cannot be used: Address already in use$"
        ):
            world.frontend.bind()
        free = world.grpc_port if which == "rest_port" else world.rest_port
        with socket.socket() as probe:
            probe.bind((HOST, free))
    world.frontend.bind()
    world.frontend.release()


async def test_a_protocol_is_off_without_its_port() -> None:
    world = World(grpc_port=0)
    await world.start()
    (await asyncio.open_connection(HOST, world.rest_port))[1].close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(HOST, world.grpc_port)
    await world.frontend.drain(PATIENCE_S)


def has_ipv6() -> bool:
    """Python may have it, and the machine not."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_an_ipv6_host_takes_both_families() -> None:
    world = World(host="::")
    await world.start()
    for port in (world.rest_port, world.grpc_port):
        for address in (HOST, "::1"):
            (await asyncio.open_connection(address, port))[1].close()
    await world.frontend.drain(PATIENCE_S)


async def test_drain_finishes_what_is_under_way_on_both_protocols(world: World, channel: grpc.aio.Channel) -> None:
    client = await world.rest()
    first = await world.channels[0].frame(0)
    call = channel.unary_unary(PREDICT, bytes, bytes)(predict_request())
    second = await world.channels[0].frame(1)
    draining = asyncio.ensure_future(world.frontend.drain(PATIENCE_S))
    await asyncio.sleep(0)
    first.reply()
    second.reply()
    assert await client.answer() == {"outputs": [1.0]}
    assert PredictResponse.FromString(await call).outputs["x"].float_val == [1.0]
    await draining
    for port in (world.rest_port, world.grpc_port):
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, port)


async def test_drain_is_bounded(world: World, channel: grpc.aio.Channel) -> None:
    client = await world.rest()
    await world.channels[0].frame(0)
    call = channel.unary_unary(PREDICT, bytes, bytes)(predict_request())
    await world.channels[0].frame(1)
    await asyncio.wait_for(world.frontend.drain(0.05), PATIENCE_S)
    with pytest.raises(grpc.RpcError):
        await call
    assert len(world.channels[0].cancelled) == 2
    client.hang_up()


def test_the_options_survive_pickling() -> None:
    """They travel to the frontends' processes."""
    options = FrontendOptions(rest_api_port=1)
    assert pickle.loads(pickle.dumps(options)) == options
