"""TensorFlow's profiler service: what reaches the replicas, what comes back, and what TensorFlow's own client makes of it."""

from __future__ import annotations

import sys
import time
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from cluster.core.errors import AlreadyExists, AspiredError, Unimplemented
from cluster.core.servable_id import ServableId
from cluster.core.serving_map import Endpoint, ServableEntry, ServingMap
from cluster.protos import ProfileOptions as OptionsMessage
from cluster.protos import ProfileRequest, ProfileResponse
from servables.profile import ProfileOptions
from tests.unit.servables.frontend.gated_channel import GatedChannel
from tests.unit.servables.frontend.grpc_frontend import grpc_frontend

SERVICE = "/tensorflow.ProfilerService"
A1, A2, B = ServableId("a", 1), ServableId("a", 2), ServableId("b/ö", 7)
# Planes (field 1) of a name each (field 2), as they would be in an XSpace.
PLANE_1, PLANE_2 = b"\n\x03\x12\x011", b"\n\x03\x12\x012"

TRACE = """
import sys
from tensorflow.python.profiler import profiler_client
profiler_client.trace(f"grpc://{sys.argv[1]}", sys.argv[2], duration_ms=1)
"""


@asynccontextmanager
async def profiled(
    traces: Mapping[ServableId, bytes | AspiredError], **options: Any
) -> AsyncIterator[tuple[grpc.aio.Channel, Mapping[ServableId, GatedChannel], str]]:
    """A frontend that serves these versions, each with what a profile of it gives."""
    channels: dict[ServableId, GatedChannel] = {}

    def make_channel(entry: ServableEntry) -> GatedChannel:
        channels[entry.id] = GatedChannel(entry)
        channels[entry.id].trace = traces[entry.id]
        return channels[entry.id]

    async with grpc_frontend(make_channel, **options) as (frontend, channel, address):
        endpoint = Endpoint("app", "deployment", "node", 1)
        await frontend.apply(ServingMap(entries={id: ServableEntry(id, (endpoint,)) for id in traces}))
        yield channel, channels, address


async def profile(channel: grpc.aio.Channel, **request: Any) -> ProfileResponse:
    method = channel.unary_unary(f"{SERVICE}/Profile", bytes, ProfileResponse.FromString)
    response: ProfileResponse = await method(ProfileRequest(**request).SerializeToString())
    return response


async def refused(channel: grpc.aio.Channel, method: str = "Profile", **request: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as raised:
        await channel.unary_unary(f"{SERVICE}/{method}", bytes, bytes)(ProfileRequest(**request).SerializeToString())
    return raised.value.code().name, str(raised.value.details())


def written(log_directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in log_directory.glob("plugins/profile/*/*")}


async def test_every_version_gives_a_file() -> None:
    async with profiled({B: b"b", A2: b"a2", A1: b"a1"}) as (channel, _, _):
        response = await profile(channel, duration_ms=5)
    assert [(file.name, file.data) for file in response.tool_data] == [
        ("a.1.xplane.pb", b"a1"),
        ("a.2.xplane.pb", b"a2"),
        ("b__.7.xplane.pb", b"b"),
    ]
    assert not response.empty_trace


async def test_a_client_that_wants_one_trace_gets_the_planes_of_all() -> None:
    async with profiled({A1: PLANE_1, A2: PLANE_2}) as (channel, _, _):
        response = await profile(channel, duration_ms=5, emit_xspace=True)
    assert response.xspace.SerializeToString() == PLANE_1 + PLANE_2
    assert not response.tool_data


async def test_replicas_get_the_options() -> None:
    begin_ns = time.time_ns() + 30 * 10**9
    opts = OptionsMessage(version=1, duration_ms=2000, host_tracer_level=3, python_tracer_level=1, start_timestamp_ns=begin_ns)
    async with profiled({A1: b""}) as (channel, channels, _):
        await profile(channel, duration_ms=5, opts=opts)
        (options,) = channels[A1].profiles
    assert 0 < options.delay_s <= 30
    assert options == ProfileOptions(
        duration_s=2.0, delay_s=options.delay_s, host_tracer_level=3, device_tracer_level=0, python_tracer_level=1
    )


async def test_without_options_a_profile_has_those_of_tensorflow_and_begins_at_once() -> None:
    async with profiled({A1: b""}) as (channel, channels, _):
        await profile(channel, duration_ms=5)
        await profile(channel, duration_ms=5, opts=OptionsMessage(start_timestamp_ns=1))
        assert channels[A1].profiles == [ProfileOptions(duration_s=0.005)] * 2


@pytest.mark.parametrize(
    ("request_fields", "message"),
    [
        ({}, "duration_ms must be greater than zero."),
        ({"duration_ms": 300_001}, "duration_ms of 300001, to begin in 0 s: a profile must end within 300 s"),
    ],
)
async def test_a_profile_must_end(request_fields: dict[str, Any], message: str) -> None:
    async with profiled({A1: b""}) as (channel, channels, _):
        assert await refused(channel, **request_fields) == ("INVALID_ARGUMENT", message)
        assert channels[A1].profiles == []


async def test_versions_that_cannot_be_profiled_are_left_out() -> None:
    async with profiled({A1: Unimplemented("no profiler"), A2: b"a2"}) as (channel, _, _):
        assert [file.name for file in (await profile(channel, duration_ms=5)).tool_data] == ["a.2.xplane.pb"]


async def test_when_no_version_can_the_first_error_is_told() -> None:
    async with profiled({A1: AlreadyExists("Another profiler is running."), A2: Unimplemented("no")}) as (channel, _, _):
        assert await refused(channel, duration_ms=5) == ("ALREADY_EXISTS", "Another profiler is running.")
    async with profiled({}) as (channel, _, _):
        assert await refused(channel, duration_ms=5) == ("NOT_FOUND", "No model is served that could be profiled.")


async def test_does_what_tensorflows_own_service_does_on_cpus_and_gpus() -> None:
    async with profiled({A1: b""}) as (channel, _, _):
        assert await refused(channel, "Monitor") == ("UNIMPLEMENTED", "Not Implemented.")
        assert (await refused(channel, "Terminate"))[0] == "UNIMPLEMENTED"


async def test_can_be_turned_off() -> None:
    async with profiled({A1: b""}, profiler=False) as (channel, _, _):
        assert (await refused(channel, duration_ms=5))[0] == "UNIMPLEMENTED"


async def test_tensorflows_client_writes_the_traces_into_its_log_directory(tmp_path: Path) -> None:
    async with profiled({A1: b"a1", A2: b"a2"}) as (_, _, address):
        client = await create_subprocess_exec(sys.executable, "-c", TRACE, address, str(tmp_path), stdout=PIPE, stderr=PIPE)
        _, errors = await client.communicate()
    assert client.returncode == 0, errors.decode()
    host = address.replace(":", "_")
    assert written(tmp_path) == {f"{host}.a.1.xplane.pb": b"a1", f"{host}.a.2.xplane.pb": b"a2"}
