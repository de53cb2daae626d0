"""Every server is sent the same values, and its answer is read as its protocol says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cluster import protos
from scripts.benchmarks.inference_api import InferenceApi, TensorFlowServingApi, V2Api, framed
from scripts.benchmarks.payload import Payload, half_plus_two, half_plus_two_tensor, images, mlp
from servables.proto_codec import array_to_tensor, tensor_to_array
from servables.tensors import DataType


def test_half_plus_two_is_sent_as_in_tensorflow_servings_example() -> None:
    assert TensorFlowServingApi().rest_body(half_plus_two()) == b'{"instances": [1.0,2.0,5.0]}'


@pytest.mark.parametrize("payload", [half_plus_two(), mlp(), images("cnn", 2, 32)], ids=lambda payload: payload.model)
def test_both_protocols_send_the_same_values(payload: Payload) -> None:
    ours = np.array(json.loads(TensorFlowServingApi().rest_body(payload))["instances"], np.float32)
    [theirs] = json.loads(V2Api().rest_body(payload))["inputs"]
    np.testing.assert_array_equal(ours.ravel(), np.array(theirs["data"], np.float32))
    assert theirs["shape"] == list(payload.values.shape)
    request = protos.PredictRequest.FromString(TensorFlowServingApi().grpc_message(payload))
    np.testing.assert_array_equal(tensor_to_array(request.inputs[payload.input_alias]), payload.values)
    assert V2Api().grpc_message(payload).endswith(payload.values.tobytes())


def test_a_tensor_has_the_size_that_it_is_named_for() -> None:
    assert half_plus_two_tensor(0.6).values.nbytes == 600_000


def test_rest_answers_are_read() -> None:
    payload = half_plus_two()
    answers: list[tuple[InferenceApi, object]] = [
        (TensorFlowServingApi(), {"predictions": [2.5, 3.0, 4.5]}),
        (V2Api(), {"outputs": [{"name": "y", "datatype": "FP32", "shape": [3, 1], "data": [2.5, 3.0, 4.5]}]}),
    ]
    for api, answer in answers:
        assert api.read_rest(payload, json.dumps(answer).encode()).ravel().tolist() == [2.5, 3.0, 4.5]


@pytest.mark.parametrize("as_content", [True, False])
def test_a_predict_response_is_read_in_either_form(as_content: bool) -> None:
    response = protos.PredictResponse()
    values = np.array([[2.5], [3.0]], np.float32)
    response.outputs["y"].CopyFrom(array_to_tensor(values, DataType.DT_FLOAT, as_content=as_content))
    np.testing.assert_array_equal(TensorFlowServingApi().read_grpc(half_plus_two(), response.SerializeToString()), values)


def test_a_model_infer_response_of_triton_is_read() -> None:
    # As pytriton sent it for half_plus_two.
    message = b"\n\rhalf_plus_two\x12\x011*\r\n\x01y\x12\x04FP32\x1a\x02\x03\x012\x0c\x00\x00 @\x00\x00@@\x00\x00\x90@"
    assert V2Api().read_grpc(half_plus_two(), message).tolist() == [[2.5], [3.0], [4.5]]


def test_a_model_infer_request_is_what_triton_expects() -> None:
    # pytriton has answered these bytes.
    assert V2Api().grpc_message(half_plus_two()) == (
        b"\n\rhalf_plus_two*\r\n\x01x\x12\x04FP32\x1a\x02\x03\x01:\x0c\x00\x00\x80?\x00\x00\x00@\x00\x00\xa0@"
    )


def test_a_grpc_frame_has_its_length_in_front() -> None:
    assert framed(b"abc") == b"\x00\x00\x00\x00\x03abc"
