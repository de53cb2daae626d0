"""REST's bodies: from text to tensors, and back."""

from __future__ import annotations

import numpy as np
import orjson
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from servables.json_codec.predict_body import PredictBody
from servables.json_codec.predictions import encode_predictions
from servables.signatures import TensorInfo
from servables.tensors import DataType

SHAPES = ((3, 1), (1, 784), (128, 10), (1, 224, 224, 3))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def bench_decode_a_predict_body(benchmark: BenchmarkFixture, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(1).random(shape, np.float32)
    body = b'{"instances": %s}' % orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)
    inputs = {"x": TensorInfo("x:0", DataType.DT_FLOAT, (-1, *shape[1:]))}

    decoded = benchmark(lambda: PredictBody.parse(body).decode(inputs, ""))

    np.testing.assert_array_equal(decoded["x"], values)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def bench_encode_predictions(benchmark: BenchmarkFixture, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(1).random(shape, np.float32)

    body = benchmark(encode_predictions, {"y": values}, True)

    assert np.asarray(orjson.loads(body)["predictions"]).shape == shape
