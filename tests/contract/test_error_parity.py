"""One cause, one error: what each protocol makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from cluster.core.errors import Code
from tests.contract.contract_models import HOST, ContractServer
from tests.contract.test_rest import ask

# The model's error -> HTTP status, gRPC code.
CODES = [
    (Code.CANCELLED, 499, grpc.StatusCode.CANCELLED),
    (Code.UNKNOWN, 500, grpc.StatusCode.UNKNOWN),
    (Code.INVALID_ARGUMENT, 400, grpc.StatusCode.INVALID_ARGUMENT),
    (Code.DEADLINE_EXCEEDED, 504, grpc.StatusCode.DEADLINE_EXCEEDED),
    (Code.NOT_FOUND, 404, grpc.StatusCode.NOT_FOUND),
    (Code.ALREADY_EXISTS, 409, grpc.StatusCode.ALREADY_EXISTS),
    (Code.PERMISSION_DENIED, 403, grpc.StatusCode.PERMISSION_DENIED),
    (Code.RESOURCE_EXHAUSTED, 429, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Code.FAILED_PRECONDITION, 400, grpc.StatusCode.FAILED_PRECONDITION),
    (Code.ABORTED, 409, grpc.StatusCode.ABORTED),
    (Code.OUT_OF_RANGE, 400, grpc.StatusCode.OUT_OF_RANGE),
    (Code.UNIMPLEMENTED, 501, grpc.StatusCode.UNIMPLEMENTED),
    (Code.INTERNAL, 500, grpc.StatusCode.INTERNAL),
    (Code.UNAVAILABLE, 503, grpc.StatusCode.UNAVAILABLE),
    (Code.DATA_LOSS, 500, grpc.StatusCode.DATA_LOSS),
    (Code.UNAUTHENTICATED, 401, grpc.StatusCode.UNAUTHENTICATED),
]

# The part of a REST path, the model_spec, and the error they share.
SPECS = [
    ("unknown", 'name: "unknown"', 404, grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(unknown)"),
    (
        "failing/versions/7",
        'name: "failing" version { value: 7 }',
        404,
        grpc.StatusCode.NOT_FOUND,
        "Servable not found for request: Specific(failing, 7)",
    ),
    (
        "failing/labels/none",
        'name: "failing" version_label: "none"',
        400,
        grpc.StatusCode.INVALID_ARGUMENT,
        "Unrecognized servable version label: none",
    ),
]


@pytest.fixture(scope="module")
def stub(server: ContractServer) -> Iterator[prediction_service_pb2_grpc.PredictionServiceStub]:
    with grpc.insecure_channel(f"{HOST}:{server.grpc_port}") as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def test_the_table_holds_every_code() -> None:
    assert [code for code, _, _ in CODES] == [code for code in Code if code is not Code.OK]


@pytest.mark.parametrize(("code", "http_status", "grpc_code"), CODES, ids=[code.name for code, _, _ in CODES])
def test_an_error_of_the_model(
    server: ContractServer,
    stub: prediction_service_pb2_grpc.PredictionServiceStub,
    code: Code,
    http_status: int,
    grpc_code: grpc.StatusCode,
) -> None:
    message = f"The model says {code.name}."
    answer = ask(server, "POST", "/v1/models/failing:predict", json.dumps({"instances": [int(code)]}).encode())
    assert (answer.status, answer.body.decode()) == (http_status, f'{{\n    "error": "{message}"\n}}')
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "failing"
    request.inputs["code"].dtype = 3
    request.inputs["code"].tensor_shape.dim.add(size=1)
    request.inputs["code"].int_val.append(int(code))
    assert grpc_error(stub, request) == (grpc_code, message)


@pytest.mark.parametrize(("path", "spec", "http_status", "grpc_code", "message"), SPECS, ids=[path for path, *_ in SPECS])
def test_a_version_that_is_not_there(
    server: ContractServer,
    stub: prediction_service_pb2_grpc.PredictionServiceStub,
    path: str,
    spec: str,
    http_status: int,
    grpc_code: grpc.StatusCode,
    message: str,
) -> None:
    answer = ask(server, "POST", f"/v1/models/{path}:predict", b'{"instances": [1]}')
    assert (answer.status, json.loads(answer.body)) == (http_status, {"error": message})
    request = predict_pb2.PredictRequest()
    text_format.Parse(spec, request.model_spec)
    assert grpc_error(stub, request) == (grpc_code, message)


def grpc_error(
    stub: prediction_service_pb2_grpc.PredictionServiceStub, request: predict_pb2.PredictRequest
) -> tuple[grpc.StatusCode, str | None]:
    with pytest.raises(grpc.RpcError) as raised:
        stub.Predict(request, timeout=30.0)
    return raised.value.code(), raised.value.details()
