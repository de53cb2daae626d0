from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.bench.input_file import MAX_REQUESTS, read_requests
from cluster.bench.load_request import LoadRequest, RequestEncoder
from cluster.client.model_metadata import ModelMetadata
from cluster.client.model_spec import ModelSpec
from cluster.client.target import Protocol
from cluster.core.errors import ConfigError
from cluster.protos import ClassificationRequest, PredictionLog, PredictRequest
from servables.proto_codec import array_to_tensor, tensor_to_array
from servables.signatures import Signature, TensorInfo
from servables.tensors import DataType
from servables.tf_record import encode_record

FLOATS = TensorInfo("", DataType.DT_FLOAT, (-1, 2))
METADATA = ModelMetadata(
    {"serving_default": Signature("", {"x": FLOATS}, {"y": FLOATS}), "two": Signature("", {"a": FLOATS, "b": FLOATS}, {})}, 3
)
SPEC = ModelSpec("m", version=3)

Read = Callable[..., list[LoadRequest]]


@pytest.fixture(params=Protocol)
def protocol(request: pytest.FixtureRequest) -> Protocol:
    protocol: Protocol = request.param
    return protocol


@pytest.fixture
def read(protocol: Protocol, tmp_path: Path) -> Read:
    """Reads a file of a name and content; other arguments are the flags."""

    def read(name: str, content: bytes, signature_name: str = "", batch_size: int | None = None) -> list[LoadRequest]:
        (tmp_path / name).write_bytes(content)
        return read_requests(str(tmp_path / name), RequestEncoder(protocol, SPEC, METADATA), signature_name, batch_size)

    return read


def inputs_of(request: LoadRequest) -> dict[str, Any]:
    """What the request asks the model, as lists by input."""
    if request.wire.verb:
        assert request.wire.path == "/v1/models/m/versions/3:predict"
        document = json.loads(request.wire.body)
        values = document.get("inputs", document.get("instances"))
        return values if isinstance(values, dict) else {"x": values}
    message = PredictRequest.FromString(request.wire.body)
    assert request.wire.path == "/tensorflow.serving.PredictionService/Predict"
    assert (message.model_spec.name, message.model_spec.version.value) == ("m", 3)
    return {name: tensor_to_array(tensor).tolist() for name, tensor in message.inputs.items()}


def npz(tmp_path: Path, **arrays: Any) -> bytes:
    np.savez(tmp_path / "made.npz", **arrays)
    return (tmp_path / "made.npz").read_bytes()


def npy(tmp_path: Path, array: Any) -> bytes:
    np.save(tmp_path / "made.npy", array)
    return (tmp_path / "made.npy").read_bytes()


def predict_request(name: str = "logged", rows: int = 1, signature_name: str = "") -> PredictRequest:
    request = PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature_name
    request.inputs["x"].CopyFrom(array_to_tensor(np.ones((rows, 2), np.float32), DataType.DT_FLOAT, as_content=False))
    return request


@pytest.mark.parametrize("body", [b'{"instances": [[1, 2], [3, 4]]}', b'{"inputs": {"x": [[1, 2], [3, 4]]}}'])
def test_a_json_file_is_one_request(read: Read, body: bytes) -> None:
    (request,) = read("body.json", body)
    assert inputs_of(request) == {"x": [[1, 2], [3, 4]]}
    assert request.rows == 2


def test_a_json_body_is_sent_over_rest_as_it_is_written(read: Read, protocol: Protocol) -> None:
    body = b'{ "instances" : [[1.50, 2]] }'
    (request,) = read("body.json", body)
    assert (request.wire.body == body) == (protocol is Protocol.REST)


@pytest.mark.parametrize("name", ["bodies.jsonl", "bodies.ndjson"])
def test_json_lines_are_a_request_each(read: Read, name: str) -> None:
    requests = read(name, b'{"instances": [[1, 2]]}\n\n{"instances": [[3, 4], [5, 6]]}\n')
    assert [request.rows for request in requests] == [1, 2]


def test_arrays_are_one_request_unless_a_batch_size_cuts_them(read: Read, tmp_path: Path) -> None:
    array = np.arange(10, dtype=np.float32).reshape(5, 2)
    (whole,) = read("x.npy", npy(tmp_path, array))
    assert inputs_of(whole) == {"x": array.tolist()}
    parts = read("x.npz", npz(tmp_path, x=array), batch_size=2)
    assert [inputs_of(part) for part in parts] == [{"x": array[:2].tolist()}, {"x": array[2:4].tolist()}]
    assert [part.rows for part in parts] == [2, 2]


def test_an_npz_file_has_an_array_for_each_input_of_the_signature_named(read: Read, tmp_path: Path) -> None:
    a, b = np.ones((2, 2), np.float32), np.zeros((2, 2), np.float32)
    (request,) = read("ab.npz", npz(tmp_path, a=a, b=b), signature_name="two")
    assert inputs_of(request) == {"a": a.tolist(), "b": b.tolist()}


def test_a_predict_request_keeps_its_signature_and_asks_the_model_under_test(read: Read, protocol: Protocol) -> None:
    (request,) = read("request.pb", predict_request(rows=3, signature_name="serving_default").SerializeToString())
    assert inputs_of(request) == {"x": [[1, 1]] * 3}
    assert request.rows == 3
    if protocol is Protocol.GRPC:
        message = PredictRequest.FromString(request.wire.body)
        assert message.model_spec.signature_name == "serving_default"
        assert message.inputs["x"].float_val  # as it was recorded, not as our client would have written it
    else:
        assert json.loads(request.wire.body)["signature_name"] == "serving_default"


@pytest.mark.parametrize("name", ["log.tfrecord", "tf_serving_warmup_requests"])
def test_request_logs_and_warmup_files_are_replayed(read: Read, name: str) -> None:
    logs = []
    for rows in (1, 4):
        log = PredictionLog()
        log.predict_log.request.CopyFrom(predict_request(rows=rows))
        logs.append(encode_record(log.SerializeToString()))
    assert [request.rows for request in read(name, b"".join(logs))] == [1, 4]


def test_logged_examples_can_be_sent_over_grpc_only(read: Read, protocol: Protocol) -> None:
    request = ClassificationRequest()
    request.model_spec.name = "logged"
    request.input.example_list.examples.add()
    request.input.example_list.examples.add()
    log = PredictionLog()
    log.classify_log.request.CopyFrom(request)
    content = encode_record(log.SerializeToString())
    if protocol is Protocol.REST:
        with pytest.raises(ConfigError, match=r"request 1: it holds a Classify request, which can only be sent over gRPC"):
            read("log.tfrecord", content)
        return
    (sent,) = read("log.tfrecord", content)
    assert (sent.wire.path, sent.rows) == ("/tensorflow.serving.PredictionService/Classify", 2)
    assert ClassificationRequest.FromString(sent.wire.body).model_spec.name == "m"


def test_only_so_many_requests_are_kept(read: Read) -> None:
    assert len(read("bodies.jsonl", b'{"instances": [[1, 2]]}\n' * (MAX_REQUESTS + 5))) == MAX_REQUESTS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("body.txt", b"", "expected a name that ends in .json, .jsonl, .ndjson, .pb, .tfrecord"),
        ("body.json", b"{", "request 1: JSON Parse error"),
        (
            "bodies.jsonl",
            b'{"instances": [[1, 2]]}\n{"instances": []}',
            "request 2: JSON Value: (?s:.*) No values in 'instances' array",
        ),
        ("bodies.jsonl", b"\n", "there are no requests in it"),
        ("x.npy", b"none", "request 1: numpy cannot read it"),
        ("request.pb", b"\xff\xff", "request 1: it is no serialized PredictRequest"),
        ("log.tfrecord", b"none", "request 1: truncated record at 0"),
        ("log.tfrecord", encode_record(b"\xff\xff"), "request 1: it is no serialized PredictionLog"),
        ("log.tfrecord", encode_record(b""), "request 1: it holds a log without a request"),
    ],
)
def test_a_wrong_file_is_told_with_the_place_in_it(read: Read, name: str, content: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^--input=\S+{name}: {message}"):
        read(name, content)


def test_arrays_that_do_not_fit_are_told(read: Read, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--batch_size=9 is more than the 2 rows there are"):
        read("x.npy", npy(tmp_path, np.ones((2, 2), np.float32)), batch_size=9)
    with pytest.raises(ConfigError, match="its arrays differ in their first dimension"):
        read("ab.npz", npz(tmp_path, a=np.ones((2, 2)), b=np.ones((3, 2))), signature_name="two", batch_size=1)
    with pytest.raises(ConfigError, match="The signature has no input z; its inputs are x"):
        read("z.npz", npz(tmp_path, z=np.ones((2, 2))))
    with pytest.raises(ConfigError, match=r"numpy cannot read it: .*allow_pickle"):
        read("x.npy", npy(tmp_path, np.array([{}], dtype=object)))


@pytest.mark.parametrize(
    ("flags", "flag"), [({"signature_name": "two"}, "--signature_name"), ({"batch_size": 2}, "--batch_size")]
)
def test_flags_that_the_file_overrules_are_refused(read: Read, flags: dict[str, Any], flag: str) -> None:
    with pytest.raises(ConfigError, match=f"^{flag} is for generated, .npy and .npz input"):
        read("body.json", b"{}", **flags)


def test_a_missing_file_is_told(protocol: Protocol) -> None:
    with pytest.raises(ConfigError, match=r"^--input=/missing.json: cannot be read: No such file or directory$"):
        read_requests("/missing.json", RequestEncoder(protocol, SPEC, METADATA), "", None)
