"""What is logged of requests over real sockets, read by TF Serving's own messages, and replayed as warm-up."""

from __future__ import annotations

import io
import json
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import grpc
import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    model_pb2,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from cluster.core.request_logging import RequestLogging
from servables.direct_runner import DirectRunner
from servables.tf_record import read_records
from servables.warmup.warmup import WarmupOptions, warm_up
from servables.warmup.warmup_file import write_warmup_file
from tests.contract.contract_models import HOST, ContractServer, contract_server, half_plus_two

TIMEOUT_S = 30.0
Stub = prediction_service_pb2_grpc.PredictionServiceStub
Ask = Callable[[ContractServer], Any]


def rest(verb: str, body: dict[str, Any], path: str = "half_plus_two") -> Ask:
    def ask(server: ContractServer) -> Any:
        url = f"http://{HOST}:{server.rest_port}/v1/models/{path}:{verb}"
        with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=TIMEOUT_S) as answer:
            return json.loads(answer.read())

    return ask


def over_grpc(method: str, request: Any) -> Ask:
    def ask(server: ContractServer) -> Any:
        with grpc.insecure_channel(f"{HOST}:{server.grpc_port}") as channel:
            return getattr(Stub(channel), method)(request, timeout=TIMEOUT_S)

    return ask


def spec(signature_name: str = "", label: str = "") -> Any:
    made = model_pb2.ModelSpec(name="half_plus_two", signature_name=signature_name)
    if label:
        made.version_label = label
    return made


def floats(*values: float) -> Any:
    tensor = predict_pb2.PredictRequest().inputs["x"]
    tensor.dtype = 1
    tensor.tensor_shape.dim.add(size=len(values))
    tensor.float_val.extend(values)
    return tensor


def examples(*values: float) -> Any:
    request = classification_pb2.ClassificationRequest()
    for value in values:
        example = request.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.append(value)
    return request.input


PREDICT = predict_pb2.PredictRequest(model_spec=spec(label="stable"), inputs={"x": floats(1, 2)}, output_filter=["y"])
CLASSIFY = classification_pb2.ClassificationRequest(model_spec=spec("classify_x_to_y"), input=examples(1, 2))
REGRESS = regression_pb2.RegressionRequest(model_spec=spec("regress_x_to_y"), input=examples(1, 2))
MULTI = inference_pb2.MultiInferenceRequest(
    tasks=[inference_pb2.InferenceTask(model_spec=spec("regress_x_to_y"), method_name="tensorflow/serving/regress")],
    input=examples(1, 2),
)
REST_EXAMPLES = {"examples": [{"x": 1.0}, {"x": 2.0}]}


def logged(directory: Path, *asks: Ask) -> list[Any]:
    """The PredictionLogs of a server that was asked this and has stopped."""
    with contract_server() as server:
        server.log_requests({"half_plus_two": RequestLogging(str(directory / "m"), 1.0)})
        for ask in asks:
            ask(server)
    files = sorted(directory.iterdir())
    assert [file.suffix for file in files] == [".tfrecord"] * len(files)
    return [
        prediction_log_pb2.PredictionLog.FromString(record)
        for file in files
        for record in read_records(io.BytesIO(file.read_bytes()))
    ]


@pytest.mark.parametrize(
    ("method", "request_sent", "kind", "version"),
    [
        ("Predict", PREDICT, "predict_log", 1),
        ("Classify", CLASSIFY, "classify_log", 2),
        ("Regress", REGRESS, "regress_log", 2),
        ("MultiInference", MULTI, "multi_inference_log", 2),
    ],
)
def test_a_grpc_request_is_logged_as_it_was_sent_with_its_answer(
    tmp_path: Path, method: str, request_sent: Any, kind: str, version: int
) -> None:
    answers: list[Any] = []
    (log,) = logged(tmp_path, lambda server: answers.append(over_grpc(method, request_sent)(server)))
    assert log.WhichOneof("log_type") == kind
    assert getattr(log, kind).request == request_sent
    assert getattr(log, kind).response == answers[0]
    metadata = log.log_metadata
    assert (metadata.model_spec.name, metadata.model_spec.version.value) == ("half_plus_two", version)
    assert metadata.sampling_config.sampling_rate == 1.0
    assert metadata.timestamp_secs > 0


@pytest.mark.parametrize(
    ("ask", "twin"),
    [
        (
            rest("predict", {"instances": [1.0, 2.0]}, "half_plus_two/labels/stable"),
            over_grpc(
                "Predict", predict_pb2.PredictRequest(model_spec=spec("serving_default", "stable"), inputs=PREDICT.inputs)
            ),
        ),
        (rest("classify", {"signature_name": "classify_x_to_y", **REST_EXAMPLES}), over_grpc("Classify", CLASSIFY)),
        (rest("regress", {"signature_name": "regress_x_to_y", **REST_EXAMPLES}), over_grpc("Regress", REGRESS)),
    ],
    ids=["predict", "classify", "regress"],
)
def test_a_rest_request_is_logged_as_the_message_it_stands_for(tmp_path: Path, ask: Ask, twin: Ask) -> None:
    by_rest, by_grpc = logged(tmp_path, ask, twin)
    for log in (by_rest, by_grpc):
        log.log_metadata.ClearField("timestamp_secs")
        for tensor in (*log.predict_log.request.inputs.values(), *log.predict_log.response.outputs.values()):
            as_content(tensor)
    assert by_rest == by_grpc


def as_content(tensor: Any) -> None:
    """REST's tensors are logged as raw bytes; so that those of gRPC compare, they become that too."""
    if tensor.float_val:
        tensor.tensor_content = np.array(tensor.float_val, np.float32).tobytes()
        tensor.ClearField("float_val")


def test_what_fails_and_what_other_models_are_asked_is_not_logged(tmp_path: Path) -> None:
    def fail(server: ContractServer) -> None:
        with pytest.raises(urllib.error.HTTPError):
            rest("predict", {"instances": ["no number"]})(server)

    assert logged(tmp_path, fail, rest("predict", {"inputs": {"a": [1.0], "b": [1]}}, "sums")) == []


async def test_records_replay_as_warm_up(tmp_path: Path) -> None:
    asks = [over_grpc("Predict", PREDICT), over_grpc("Classify", CLASSIFY), over_grpc("Regress", REGRESS)]
    asks += [over_grpc("MultiInference", MULTI), rest("predict", {"instances": [1.0, 2.0, 3.0]})]
    logged(tmp_path / "logs", *asks)
    assert write_warmup_file(str(tmp_path / "logs" / "m"), str(tmp_path / "1"), max_records=1000) == 5
    servable = half_plus_two()
    runner = DirectRunner(servable, num_threads=1)
    report = await warm_up(str(tmp_path / "1"), servable, runner, WarmupOptions())
    await runner.close()
    assert (report.records, servable.runs) == (5, [2, 2, 2, 2, 3])


def test_a_prefix_in_a_bucket_gets_an_object_when_the_server_stops(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store = ThreadedMotoServer("127.0.0.1", port=0)
    store.start()
    try:
        host, port = store.get_host_and_port()
        variables = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
        for name, value in {**variables, "S3_ENDPOINT": f"http://{host}:{port}"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        bucket = boto3.resource("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket="logs")
        with contract_server() as server:
            server.log_requests({"half_plus_two": RequestLogging("s3://logs/models/m", 1.0)})
            rest("predict", {"instances": [1.0]})(server)
        (found,) = bucket.objects.all()
        assert found.key.startswith("models/m-")
        (record,) = read_records(io.BytesIO(found.get()["Body"].read()))
        log = prediction_log_pb2.PredictionLog.FromString(record)
        (output,) = log.predict_log.response.outputs.values()
        assert np.frombuffer(output.tensor_content, np.float32).tolist() == [2.5]
    finally:
        store.stop()
