"""gRPC's messages: from bytes to arrays, and back."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from cluster import protos
from servables.proto_codec import array_to_tensor, tensor_to_array
from servables.tensors import DataType

SHAPES = ((3, 1), (1, 784), (1, 224, 224, 3))


@pytest.mark.parametrize("as_content", [True, False], ids=["tensor_content", "float_val"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def bench_decode_a_predict_request(benchmark: BenchmarkFixture, shape: tuple[int, ...], as_content: bool) -> None:
    values = np.random.default_rng(1).random(shape, np.float32)
    request = protos.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(array_to_tensor(values, DataType.DT_FLOAT, as_content=as_content))
    message = request.SerializeToString()

    decoded = benchmark(lambda: tensor_to_array(protos.PredictRequest.FromString(message).inputs["x"]))

    np.testing.assert_array_equal(decoded, values)


@pytest.mark.parametrize("as_content", [True, False], ids=["tensor_content", "float_val"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def bench_encode_a_predict_response(benchmark: BenchmarkFixture, shape: tuple[int, ...], as_content: bool) -> None:
    values = np.random.default_rng(1).random(shape, np.float32)

    def encode() -> bytes:
        response = protos.PredictResponse()
        response.outputs["y"].CopyFrom(array_to_tensor(values, DataType.DT_FLOAT, as_content=as_content))
        return bytes(response.SerializeToString())

    message = benchmark(encode)

    np.testing.assert_array_equal(tensor_to_array(protos.PredictResponse.FromString(message).outputs["y"]), values)
