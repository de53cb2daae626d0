"""What REST bodies hold beyond what the conformance suite's servers send."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from cluster.client.http_errors import http_error
from cluster.client.model_spec import ModelSpec
from cluster.client.rest_codec import RestCodec
from cluster.core.errors import Code, Internal, InvalidArgument, Unimplemented
from servables.signatures import PREDICT_METHOD_NAME, Signature, TensorInfo
from servables.tensors import DataType, to_numpy

CODEC = RestCodec()


def signature(dtype: DataType, shape: tuple[int, ...] | None = None) -> Signature:
    info = TensorInfo("t:0", dtype, shape)
    return Signature(PREDICT_METHOD_NAME, {"x": info}, {"y": info})


def decode(text: str | bytes, dtype: DataType, shape: tuple[int, ...] | None = None) -> Any:
    body = text.encode() if isinstance(text, str) else text
    return CODEC.decode_prediction(body, signature(dtype, shape), ())["y"]


def encode(array: Any, dtype: DataType) -> bytes:
    return CODEC.encode_predict(ModelSpec("m"), "", signature(dtype), {"x": np.asarray(array, to_numpy(dtype))}, ()).body


def test_reads_bare_words_for_what_is_not_finite() -> None:
    array = decode('{"outputs": [1.5, NaN, Infinity, -Infinity, 9e+06]}', DataType.DT_FLOAT)
    assert np.array_equal(array, np.array([1.5, np.nan, np.inf, -np.inf, 9e6], np.float32), equal_nan=True)


def test_writes_bare_words_for_what_is_not_finite() -> None:
    assert encode([np.nan, np.inf, -np.inf], DataType.DT_FLOAT) == b'{"inputs": {"x": [NaN, Infinity, -Infinity]}}'
    assert encode(np.nan, DataType.DT_DOUBLE) == b'{"inputs": {"x": NaN}}'


def test_writes_integers_without_and_floats_with_a_fraction() -> None:
    assert encode([1, 2], DataType.DT_INT64) == b'{"inputs":{"x":[1,2]}}'
    assert encode([1, 0.1], DataType.DT_FLOAT) == b'{"inputs":{"x":[1.0,0.1]}}'
    assert encode([0.5], DataType.DT_BFLOAT16) == b'{"inputs":{"x":[0.5]}}'


def test_reads_strings_that_are_not_utf8() -> None:
    assert decode(b'{"outputs": ["a\xff\xc3\xa4", "\\u00e4"]}', DataType.DT_STRING).tolist() == [b"a\xff\xc3\xa4", "ä".encode()]


def test_gives_an_empty_tensor_the_inner_dimensions_of_the_signature() -> None:
    assert decode('{"outputs": []}', DataType.DT_FLOAT, (-1, 3)).shape == (0, 3)
    assert decode('{"outputs": []}', DataType.DT_FLOAT, None).shape == (0,)


def test_keeps_large_integers_exact() -> None:
    assert decode('{"outputs": [9007199254740993, -9223372036854775808]}', DataType.DT_INT64).tolist() == [2**53 + 1, -(2**63)]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{}",
        '{"outputs": [1, "a"]}',
        '{"outputs": [[1], [1, 2]]}',
        '{"outputs": null}',
        '{"outputs": {"z": 1}}',
        "<html>",
    ],
)
def test_a_reply_that_is_no_answer_is_an_internal_error(body: str) -> None:
    with pytest.raises(Internal, match=r"^Cannot read the predict reply: "):
        decode(body, DataType.DT_INT32)


def test_refuses_what_json_cannot_say() -> None:
    with pytest.raises(Unimplemented, match="complex64"):
        encode([1j], DataType.DT_COMPLEX64)


def test_reads_metadata_with_dtypes_of_references_and_of_a_newer_tensorflow() -> None:
    def info(dtype: str) -> Any:
        return {
            "dtype": dtype,
            "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "4"}], "unknown_rank": False},
            "name": "n",
        }

    definition = {"inputs": {"a": info("DT_FLOAT_REF"), "b": info("DT_NEW")}, "outputs": {}, "method_name": "m", "defaults": {}}
    document = {"model_spec": {"version": "7"}, "metadata": {"signature_def": {"signature_def": {"s": definition}}}}
    metadata = CODEC.decode_metadata(json.dumps(document).encode())
    assert metadata.version == 7
    inputs = metadata.signatures["s"].inputs
    assert inputs["a"] == TensorInfo("n", DataType.DT_FLOAT, (-1, 4))
    assert inputs["b"].dtype is DataType.DT_INVALID


@pytest.mark.parametrize(
    ("status", "body", "code", "message"),
    [
        (400, b'{\n    "error": "bad"\n}', Code.INVALID_ARGUMENT, "bad"),
        (404, b"<h1>Not\n Found</h1>", Code.NOT_FOUND, "HTTP 404 Not Found: <h1>Not Found</h1>"),
        (502, b"", Code.UNAVAILABLE, "HTTP 502 Bad Gateway"),
        (301, b'{"error": 1}', Code.UNKNOWN, 'HTTP 301 Moved Permanently: {"error": 1}'),
        (599, b"\xff", Code.UNKNOWN, "HTTP 599: \ufffd"),
    ],
)
def test_an_error_has_the_servers_text_or_what_there_is(status: int, body: bytes, code: Code, message: str) -> None:
    error = http_error(status, body)
    assert (error.code, error.message) == (code, message)


@pytest.mark.parametrize(
    "spec", [{"name": ""}, {"name": "m", "version": 1, "label": "a"}, {"name": "m", "version": -1}, {"name": "m", "label": ""}]
)
def test_refuses_a_model_spec_that_names_nothing(spec: Any) -> None:
    with pytest.raises(InvalidArgument):
        ModelSpec(**spec)
