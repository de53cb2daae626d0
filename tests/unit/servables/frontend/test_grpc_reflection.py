"""Server reflection, asked as grpcurl and the client of grpcio-reflection ask."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from cluster.protos import ServerReflectionRequest, ServerReflectionResponse
from tests.fakes.local_frontend import local_frontend
from tests.unit.servables.frontend.grpc_frontend import grpc_frontend

PATIENCE_S = 30.0
END: Any = vars(grpc.aio)["EOF"]  # its type stubs do not have it
V1 = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
V1ALPHA = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
SERVICES = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "tensorflow.ProfilerService",
    "tensorflow.serving.ModelService",
    "tensorflow.serving.PredictionService",
]


@pytest.fixture(scope="module", params=["native", "grpcio"])
def channel(request: pytest.FixtureRequest) -> Iterator[grpc.Channel]:
    with (
        local_frontend(health_service=True, grpc_listener=request.param) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        yield channel


def ask(channel: grpc.Channel, path: str = V1, **request: Any) -> ServerReflectionResponse:
    method: Any = channel.stream_stream(path, bytes, ServerReflectionResponse.FromString)
    response: ServerReflectionResponse
    (response,) = method(iter([ServerReflectionRequest(**request).SerializeToString()]), timeout=PATIENCE_S)
    return response


def files_of(response: ServerReflectionResponse) -> dict[str, FileDescriptorProto]:
    files = [FileDescriptorProto.FromString(file) for file in response.file_descriptor_response.file_descriptor_proto]
    return {file.name: file for file in files}


@pytest.mark.parametrize("path", [V1, V1ALPHA])
def test_lists_the_services(channel: grpc.Channel, path: str) -> None:
    response = ask(channel, path, list_services="")
    assert [service.name for service in response.list_services_response.service] == SERVICES


@pytest.mark.parametrize("service", SERVICES)
def test_a_client_without_protos_can_make_a_services_messages(channel: grpc.Channel, service: str) -> None:
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    described = pool.FindServiceByName(service)
    assert described.methods
    assert all(method.input_type.full_name and method.output_type.full_name for method in described.methods)


def test_a_file_comes_with_all_that_it_needs(channel: grpc.Channel) -> None:
    files = files_of(ask(channel, file_containing_symbol="tensorflow.serving.PredictionService.Predict"))
    assert {"tensorflow_serving/apis/prediction_service.proto", "tensorflow_serving/apis/predict.proto"} <= files.keys()
    assert {needed for file in files.values() for needed in file.dependency} <= files.keys()
    (one,) = files_of(ask(channel, file_by_filename="google/protobuf/wrappers.proto"))
    assert one == "google/protobuf/wrappers.proto"


@pytest.mark.parametrize(
    "request_fields",
    [
        {"file_by_filename": "missing.proto"},
        {"file_containing_symbol": "missing.Symbol"},
        {"all_extension_numbers_of_type": "missing.Type"},
        {"file_containing_extension": {"containing_type": "tensorflow.serving.ModelSpec", "extension_number": 7}},
    ],
)
def test_what_is_not_there_is_not_found_and_the_conversation_goes_on(
    channel: grpc.Channel, request_fields: dict[str, Any]
) -> None:
    method: Any = channel.stream_stream(V1, bytes, ServerReflectionResponse.FromString)
    requests = [ServerReflectionRequest(host="here", **request_fields), ServerReflectionRequest(list_services="")]
    first, second = method(iter([request.SerializeToString() for request in requests]), timeout=PATIENCE_S)
    assert first.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert (first.valid_host, first.original_request) == ("here", requests[0])
    assert len(second.list_services_response.service) == len(SERVICES)


def test_messages_have_no_extensions(channel: grpc.Channel) -> None:
    response = ask(channel, all_extension_numbers_of_type="tensorflow.serving.ModelSpec").all_extension_numbers_response
    assert (response.base_type_name, list(response.extension_number)) == ("tensorflow.serving.ModelSpec", [])


def test_a_question_without_content_is_an_invalid_argument(channel: grpc.Channel) -> None:
    assert ask(channel).error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


async def test_an_open_conversation_does_not_hold_up_the_drain(listener: str) -> None:
    async with grpc_frontend(grpc_listener=listener) as (frontend, channel, _):
        method: Any = channel.stream_stream(V1, bytes, ServerReflectionResponse.FromString)
        call = method()
        await call.write(ServerReflectionRequest(list_services="").SerializeToString())
        assert len((await call.read()).list_services_response.service) == len(SERVICES) - 1
        await asyncio.wait_for(frontend.drain(100 * PATIENCE_S), PATIENCE_S)
        assert await call.read() is END
        assert await call.code() is grpc.StatusCode.OK


async def test_can_be_turned_off(listener: str) -> None:
    async with grpc_frontend(reflection=False, grpc_listener=listener) as (_, channel, _):
        call = channel.stream_stream(V1, bytes, bytes)(iter([b""]))
        with pytest.raises(grpc.RpcError) as raised:
            await call.read()
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
