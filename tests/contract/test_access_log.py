"""One line for each request of either protocol, whatever becomes of it."""

from __future__ import annotations

import http.client
import logging
import queue
from collections.abc import Iterator
from typing import Any, TypeAlias

import grpc
import pytest
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc, predict_pb2, prediction_service_pb2_grpc

from cluster.config.log_options import FIELDS
from tests.contract.contract_models import HOST, ContractServer, contract_server

TIMEOUT_S = 30.0
LOGGER = "servables.frontend.access_log"
BODY = '{"instances": [1.0]}'
PATH = "/v1/models/half_plus_two"
Lines: TypeAlias = "queue.Queue[dict[str, Any]]"


@pytest.fixture(scope="module", params=["native", "grpcio"])
def logging_server(request: pytest.FixtureRequest) -> Iterator[ContractServer]:
    with contract_server(access_log=True, grpc_listener=request.param) as server:
        yield server


@pytest.fixture
def lines(logging_server: ContractServer) -> Iterator[Lines]:
    """The fields of what is logged."""
    collected: Lines = queue.Queue()
    handler = logging.Handler()
    handler.emit = lambda record: collected.put(getattr(record, FIELDS))  # type: ignore[method-assign]
    logging.getLogger(LOGGER).addHandler(handler)
    yield collected
    logging.getLogger(LOGGER).removeHandler(handler)


def rest(server: ContractServer, method: str, path: str, body: str | None = None) -> tuple[str, int]:
    """Returns the client's own address, and the size of the answer."""
    connection = http.client.HTTPConnection(HOST, server.rest_port, timeout=TIMEOUT_S)
    try:
        connection.connect()
        assert connection.sock is not None
        port = connection.sock.getsockname()[1]
        connection.request(method, path, body)
        return f"{HOST}:{port}", len(connection.getresponse().read())
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "model", "version"),
    [
        ("POST", f"{PATH}:predict", BODY, 200, "half_plus_two", 2),
        ("POST", f"{PATH}/labels/stable:predict", BODY, 200, "half_plus_two", 1),
        ("POST", f"{PATH}:predict", "{", 400, "half_plus_two", None),
        ("POST", "/v1/models/none:predict", BODY, 404, "none", None),
        ("POST", f"{PATH}:explain", BODY, 400, None, None),
        ("GET", f"{PATH}/metadata", None, 200, "half_plus_two", 2),
        ("GET", PATH, None, 200, "half_plus_two", None),
        ("GET", "/elsewhere", None, 404, None, None),
    ],
)
def test_a_rest_request_leaves_a_line(
    logging_server: ContractServer,
    lines: Lines,
    method: str,
    path: str,
    body: str | None,
    status: int,
    model: str | None,
    version: int | None,
) -> None:
    peer, size_bytes = rest(logging_server, method, path, body)
    line = lines.get(timeout=TIMEOUT_S)
    assert line.pop("duration_ms") > 0
    assert line == {
        "protocol": "REST",
        "method": method,
        "path": path,
        "model": model,
        "version": version,
        "status": status,
        "bytes_in": len(body or ""),
        "bytes_out": size_bytes,
        "peer": peer,
    }


def test_a_grpc_request_leaves_a_line(logging_server: ContractServer, lines: Lines) -> None:
    request = predict_request("canary")
    with grpc.insecure_channel(f"{HOST}:{logging_server.grpc_port}") as channel:
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=TIMEOUT_S)
    line = lines.get(timeout=TIMEOUT_S)
    assert line.pop("duration_ms") > 0
    assert line.pop("peer").startswith(f"{HOST}:")
    assert line == {
        "protocol": "gRPC",
        "method": None,
        "path": "/tensorflow.serving.PredictionService/Predict",
        "model": "half_plus_two",
        "version": 2,
        "status": "OK",
        "bytes_in": request.ByteSize(),
        "bytes_out": answer.ByteSize(),
    }


def test_a_grpc_request_that_is_refused_leaves_a_line_with_the_code(logging_server: ContractServer, lines: Lines) -> None:
    with grpc.insecure_channel(f"{HOST}:{logging_server.grpc_port}") as channel, pytest.raises(grpc.RpcError):
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(predict_request("none"), timeout=TIMEOUT_S)
    line = lines.get(timeout=TIMEOUT_S)
    assert (line["status"], line["version"], line["bytes_out"]) == ("INVALID_ARGUMENT", None, 0)


def predict_request(label: str) -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "half_plus_two"
    request.model_spec.version_label = label
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=1)
    return request


def test_a_request_for_a_status_names_its_model(logging_server: ContractServer, lines: Lines) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "half_plus_two"
    with grpc.insecure_channel(f"{HOST}:{logging_server.grpc_port}") as channel:
        model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=TIMEOUT_S)
    line = lines.get(timeout=TIMEOUT_S)
    assert (line["model"], line["version"]) == ("half_plus_two", None)


def test_requests_beside_each_other_are_not_mixed_up(logging_server: ContractServer, lines: Lines) -> None:
    connections = [http.client.HTTPConnection(HOST, logging_server.rest_port, timeout=TIMEOUT_S) for _ in range(8)]
    models = ["half_plus_two", "strings"] * 4
    bodies = [BODY, '{"instances": ["a"]}'] * 4
    for connection, model, body in zip(connections, models, bodies, strict=True):
        connection.request("POST", f"/v1/models/{model}:predict", body)
    for connection in connections:
        assert connection.getresponse().status == 200
        connection.close()
    told = [lines.get(timeout=TIMEOUT_S) for _ in models]
    assert sorted(line["model"] for line in told) == sorted(models)
    assert all(line["path"] == f"/v1/models/{line['model']}:predict" for line in told)


def test_without_the_flag_nothing_is_logged(server: ContractServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, LOGGER):
        rest(server, "POST", f"{PATH}:predict", BODY)
    assert caplog.records == []
