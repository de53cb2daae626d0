from __future__ import annotations

import asyncio
import logging
import random
import socket
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc.aio import insecure_channel

from cluster.core.errors import Unavailable
from cluster.core.servable_id import ServableId
from cluster.core.serving_map import Endpoint, ServableEntry, ServingMap
from servables.signatures import Signature, TensorInfo, encode_signatures
from servables.tensors import DataType
from tests.unit.servables.frontend.grpc_frontend import grpc_frontend

PATIENCE_S = 30.0
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
ENTRY = ServableEntry(
    ServableId("m", 1),
    (Endpoint("app", "deployment", "node", 1),),
    encode_signatures({"serving_default": Signature("", {}, {"y": TensorInfo("y:0", DataType.DT_FLOAT, (-1,))})}),
)
PREDICT_REQUEST = b"\n\x03\n\x01m"  # model_spec { name: "m" }


async def test_channel_arguments_win_over_ours() -> None:
    async with grpc_frontend(grpc_channel_arguments={"grpc.max_receive_message_length": 100}) as (_, channel, _):
        with pytest.raises(grpc.RpcError) as raised:
            await channel.unary_unary(STATUS, bytes, bytes)(b"a" * 101)
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(grpc.RpcError) as raised:
            await channel.unary_unary(STATUS, bytes, bytes)(b"a" * 100)
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_unix_socket_is_served_beside_the_port_and_without_it(listener: str, tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 'grpc'}"
    async with (
        grpc_frontend(grpc_socket_path=str(tmp_path / "grpc"), grpc_listener=listener) as (_, port, _),
        insecure_channel(address) as local,
    ):
        for channel in (port, local):
            with pytest.raises(grpc.RpcError, match="Missing ModelSpec"):
                await channel.unary_unary(STATUS, bytes, bytes)(b"")
    alone = {"grpc_port": 0, "grpc_socket_path": str(tmp_path / "grpc"), "grpc_listener": listener}
    async with grpc_frontend(**alone), insecure_channel(address) as local:
        with pytest.raises(grpc.RpcError, match="Missing ModelSpec"):
            await local.unary_unary(STATUS, bytes, bytes)(b"")


async def test_cancelled_and_expired_calls_leave_nothing_behind(
    listener: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(0)
    async with grpc_frontend(grpc_listener=listener) as (frontend, channel, _):
        await frontend.apply(ServingMap(entries={ENTRY.id: ENTRY}))
        method = channel.unary_unary(PREDICT, bytes, bytes)

        async def ask() -> str:
            call = method(PREDICT_REQUEST, timeout=chance.choice([0.0, 0.001, 0.005, 0.02, None]))
            if call.time_remaining() is None:
                await asyncio.sleep(chance.random() / 50)
                call.cancel()
            try:
                await call
            except asyncio.CancelledError:
                return "CANCELLED"
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    return "DEADLINE_EXCEEDED"
                return f"{error.code().name}: {error.details()} {error.debug_error_string()}"
            return "OK"

        assert set(await asyncio.gather(*(ask() for _ in range(500)))) == {"CANCELLED", "DEADLINE_EXCEEDED"}
        async with asyncio.timeout(PATIENCE_S):
            while frontend.in_flight:
                await asyncio.sleep(0.001)
    # asyncio's logger tells of grpc's queue, which event loops of other tests share with this one.
    told = [record for record in caplog.records if record.levelno >= logging.WARNING and record.name != "asyncio"]
    assert [record.getMessage() for record in told] == []
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "Aspired's own"),
        ({"grpc_listener": "grpcio"}, "grpcio's"),
        ({"grpc_channel_arguments": {"grpc.keepalive_time_ms": 1000}}, "grpcio's"),
    ],
)
async def test_the_log_says_who_serves(options: dict[str, Any], told: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "servables.frontend.frontend")
    async with grpc_frontend(**options) as (_, channel, _):
        with pytest.raises(grpc.RpcError, match="Missing ModelSpec"):
            await channel.unary_unary(STATUS, bytes, bytes)(b"")
    assert [record.getMessage() for record in caplog.records] == [f"gRPC is served by {told} HTTP/2"]


@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6 here")
async def test_all_addresses_are_those_of_both_families(listener: str) -> None:
    async with (
        grpc_frontend(host="0.0.0.0", grpc_listener=listener) as (_, _, address),
        insecure_channel(f"[::1]:{address.rpartition(':')[2]}") as channel,
    ):
        with pytest.raises(grpc.RpcError, match="Missing ModelSpec"):
            await channel.unary_unary(STATUS, bytes, bytes)(b"")


async def test_a_socket_that_was_left_behind_gives_way_and_a_file_does_not(tmp_path: Path) -> None:
    left = tmp_path / "grpc"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(left))
    async with grpc_frontend(grpc_socket_path=str(left)), insecure_channel(f"unix:{left}") as channel:
        with pytest.raises(grpc.RpcError, match="Missing ModelSpec"):
            await channel.unary_unary(STATUS, bytes, bytes)(b"")
    assert not left.exists()
    left.write_text("mine")
    with pytest.raises(Unavailable, match=f"^Cannot listen for gRPC on unix:{left}: Address already in use$"):
        async with grpc_frontend(grpc_socket_path=str(left)):
            pass
    assert left.read_text() == "mine"
