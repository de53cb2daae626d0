"""What TF Serving's gRPC services answer, case by case, asked by its own stubs over a real socket."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from servables.frontend import grpc_services
from tests.contract.contract_models import HOST, ContractServer, contract_server

CASES = Path(__file__).parent / "cases" / "grpc"
TIMEOUT_S = 30.0

REQUESTS: dict[str, Any] = {
    "Predict": predict_pb2.PredictRequest,
    "Classify": classification_pb2.ClassificationRequest,
    "Regress": regression_pb2.RegressionRequest,
    "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
    "MultiInference": inference_pb2.MultiInferenceRequest,
    "HandleReloadConfigRequest": model_management_pb2.ReloadConfigRequest,
}


class Stubs:
    """TF Serving's two stubs on one channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self._model = model_service_pb2_grpc.ModelServiceStub(channel)

    def method(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._prediction, name, None) or getattr(self._model, name)
        return method

    def raw(self, method: str, request: bytes) -> bytes:
        answer: bytes = self.channel.unary_unary(method, bytes, bytes)(request, timeout=TIMEOUT_S)
        return answer


@pytest.fixture(scope="module", params=["native", "grpcio"])
def server(request: pytest.FixtureRequest) -> Iterator[ContractServer]:
    """One for each of the listeners."""
    with contract_server(grpc_listener=request.param) as server:
        yield server


@pytest.fixture(scope="module", params=["wire", "messages"])
def stubs(server: ContractServer, request: pytest.FixtureRequest) -> Iterator[Stubs]:
    """Of a server that reads Predict's requests off the wire, and of one that leaves every one to the message class."""
    with connect(server) as channel, pytest.MonkeyPatch.context() as patch:
        if request.param == "messages":
            patch.setattr(grpc_services, "read_predict_request", lambda request_bytes: None)
        yield Stubs(channel)


def connect(server: ContractServer) -> grpc.Channel:
    unlimited = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
    return grpc.insecure_channel(f"{HOST}:{server.grpc_port}", options=unlimited)


def cases(directory: Path = CASES, pattern: str = "*.json") -> list[Any]:
    return [
        pytest.param(case, id=f"{path.stem}: {case['name']}")
        for path in sorted(directory.glob(pattern))
        for case in json.loads(path.read_text())
    ]


@pytest.mark.parametrize("case", cases())
def test_answers_as_tf_serving(stubs: Stubs, case: dict[str, Any]) -> None:
    assert_answers(stubs, case)


def assert_answers(stubs: Stubs, case: dict[str, Any]) -> None:
    method = stubs.method(case["method"])
    request = text_format.Parse(case["request"], REQUESTS[case["method"]]())
    if "response" in case:
        response = method(request, timeout=TIMEOUT_S)
        assert response == text_format.Parse(case["response"], type(response)())
        return
    with pytest.raises(grpc.RpcError) as raised:
        method(request, timeout=TIMEOUT_S)
    code, message = raised.value.code().name, str(raised.value.details())
    if "message_begins" in case:
        message = message[: len(case["message_begins"])]
    assert (code, message) == (case["code"], case.get("message_begins") or case["message"])


def test_metadata_is_the_signatures_of_the_version(stubs: Stubs) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "half_plus_two"
    request.model_spec.version_label = "stable"
    response = stubs.method("GetModelMetadata")(request, timeout=TIMEOUT_S)
    assert text_format.MessageToString(response.model_spec, as_one_line=True) == 'name: "half_plus_two" version { value: 1 }'
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert sorted(signatures.signature_def) == ["classify_x_to_y", "regress_x_to_y", "serving_default"]
    default = signatures.signature_def["serving_default"]
    assert default.method_name == "tensorflow/serving/predict"
    assert default.inputs["x"].name == "x:0"


def predict_request(values: Any) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half_plus_two"
    tensor = request.inputs["x"]
    tensor.dtype = 1
    tensor.tensor_shape.dim.add(size=len(values))
    tensor.tensor_content = np.asarray(values, np.float32).tobytes()
    return request


def test_messages_may_be_larger_than_grpcs_default_limit(stubs: Stubs) -> None:
    values = np.zeros(3 << 20, np.float32)
    response = stubs.method("Predict")(predict_request(values), timeout=TIMEOUT_S)
    assert len(response.outputs["y"].float_val) == len(values)


def test_tensors_come_as_content_when_told_to() -> None:
    with contract_server(tensor_content=True) as server, connect(server) as channel:
        response = Stubs(channel).method("Predict")(predict_request([1.0]), timeout=TIMEOUT_S)
    output = response.outputs["y"]
    assert output.tensor_content == np.array([2.5], np.float32).tobytes()
    assert list(output.float_val) == []


@pytest.mark.parametrize(
    "method",
    [
        "/tensorflow.serving.PredictionService/Other",
        "/tensorflow.serving.PredictionService/PredictStreamed",
        "/tensorflow.serving.SessionService/SessionRun",
        "/other.Service/Predict",
    ],
)
def test_an_unknown_method_is_unimplemented(stubs: Stubs, method: str) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        stubs.raw(method, b"")
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_request_that_does_not_parse_is_an_invalid_argument(stubs: Stubs) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        stubs.raw("/tensorflow.serving.PredictionService/Predict", b"\xff")
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(raised.value.details()).startswith("The request is not a tensorflow.serving.PredictRequest: ")


def test_a_long_message_is_cut(stubs: Stubs) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "ä" * 1000
    with pytest.raises(grpc.RpcError) as raised:
        stubs.method("GetModelStatus")(request, timeout=TIMEOUT_S)
    prefix = "Could not find any versions of model "
    whole = (1024 - len(prefix)) // 2
    assert raised.value.details() == prefix + "ä" * whole + "...TRUNCATED"
