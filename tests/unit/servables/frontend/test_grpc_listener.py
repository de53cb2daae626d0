from __future__ import annotations

import asyncio
import logging
import random
from pathlib import Path

import grpc
import pytest
from grpc.aio import insecure_channel

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


async def test_a_unix_socket_is_served_beside_the_port_and_without_it(tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 'grpc'}"
    async with grpc_frontend(grpc_socket_path=str(tmp_path / "grpc")) as (_, port, _), insecure_channel(address) as local:
        for channel in (port, local):
            with pytest.raises(grpc.RpcError, match="Missing ModelSpec"):
                await channel.unary_unary(STATUS, bytes, bytes)(b"")
    alone = {"grpc_port": 0, "grpc_socket_path": str(tmp_path / "grpc")}
    async with grpc_frontend(**alone), insecure_channel(address) as local:
        with pytest.raises(grpc.RpcError, match="Missing ModelSpec"):
            await local.unary_unary(STATUS, bytes, bytes)(b"")


async def test_cancelled_and_expired_calls_leave_nothing_behind(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(0)
    async with grpc_frontend() as (frontend, channel, _):
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
            except grpc.RpcError as error:
                return str(error.code().name)
            return "OK"

        assert set(await asyncio.gather(*(ask() for _ in range(500)))) == {"CANCELLED", "DEADLINE_EXCEEDED"}
        async with asyncio.timeout(PATIENCE_S):
            while frontend.in_flight:
                await asyncio.sleep(0.001)
    # asyncio's logger tells of grpc's queue, which event loops of other tests share with this one.
    told = [record for record in caplog.records if record.levelno >= logging.WARNING and record.name != "asyncio"]
    assert [record.getMessage() for record in told] == []
    assert "Traceback" not in capfd.readouterr().err
