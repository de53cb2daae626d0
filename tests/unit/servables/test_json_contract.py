"""The JSON codec against tests/contract/cases/json: bodies, and what TF Serving makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cluster.core.errors import AspiredError
from cluster.protos import Example
from servables.json_codec import (
    PredictBody,
    decode_examples,
    encode_classifications,
    encode_predictions,
    encode_regressions,
    number_arrays,
)
from servables.signatures import TensorInfo
from servables.tensors import DataType

Case = dict[str, Any]

_CASES = Path(__file__).parents[2] / "contract" / "cases" / "json"


def cases(*files: str) -> pytest.MarkDecorator:
    found = [case for file in files for case in json.loads((_CASES / f"{file}.json").read_text())]
    return pytest.mark.parametrize("case", found, ids=[case["name"] for case in found])


@pytest.mark.parametrize("min_array_bytes", [number_arrays.MIN_BYTES, 1], ids=["", "arrays apart"])
@cases("parse_errors", "predict_requests", "predict_errors")
def test_predict_request(case: Case, min_array_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_arrays, "MIN_BYTES", min_array_bytes)
    if "error" in case:
        with pytest.raises(AspiredError) as caught:
            decode(case)
        assert caught.value.message == case["error"]
        assert caught.value.code.name == case.get("code", "INVALID_ARGUMENT")
        return
    body, arrays = decode(case)
    assert body.row_format == case["row_format"]
    assert body.signature_name == case.get("signature_name", "")
    assert arrays.keys() == case["arrays"].keys()
    for alias, expected in case["arrays"].items():
        assert_same_tensor(arrays[alias], tensor(expected))


@cases("predict_replies")
def test_predict_reply(case: Case) -> None:
    outputs = {alias: tensor(value) for alias, value in case["outputs"].items()}
    if "error" in case:
        with pytest.raises(AspiredError) as caught:
            encode_predictions(outputs, case["row_format"])
        assert caught.value.to_status().code.name == "INVALID_ARGUMENT"
        assert caught.value.message == case["error"]
        return
    assert encode_predictions(outputs, case["row_format"]).decode() == case["body"]


@cases("examples_requests")
def test_examples_request(case: Case) -> None:
    body = case["body"].encode()
    if "error" in case:
        with pytest.raises(AspiredError) as caught:
            decode_examples(body, "classify")
        assert caught.value.message == case["error"]
        return
    request = decode_examples(body, "classify")
    assert request.signature_name == case["signature_name"]
    assert request.examples.dtype == np.object_
    assert list(map(features_of, request.examples)) == [
        {name: {kind: repr(values) for kind, values in feature.items()} for name, feature in example.items()}
        for example in encoded_strings(case["examples"])
    ]


@cases("examples_replies")
def test_examples_reply(case: Case) -> None:
    def encode() -> bytes:
        if "regressions" in case:
            return encode_regressions(case["regressions"])
        return encode_classifications(
            [[(label.encode(), score) for label, score in classes] for classes in case["classifications"]]
        )

    if "error" in case:
        with pytest.raises(AspiredError) as caught:
            encode()
        assert caught.value.message == case["error"]
        return
    assert encode().decode() == case["body"]


def decode(case: Case) -> tuple[PredictBody, dict[str, NDArray[Any]]]:
    inputs = {alias: TensorInfo(f"{alias}:0", DataType[dtype], None) for alias, dtype in case["inputs"].items()}
    body = PredictBody.parse(case["body"].encode())
    return body, body.decode(inputs, body.signature_name)


def tensor(case: Case) -> NDArray[Any]:
    if case["dtype"] != "object":
        array = np.array(case["value"], dtype=case["dtype"])
    else:
        texts = np.array(case["value"], dtype=np.object_)
        array = np.vectorize(str.encode, otypes=[np.object_])(texts) if texts.size else texts
    return array.reshape(case.get("shape", array.shape))


def assert_same_tensor(actual: NDArray[Any], expected: NDArray[Any]) -> None:
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    if actual.dtype == np.object_:
        assert actual.tolist() == expected.tolist()
    else:
        np.testing.assert_array_equal(actual, expected)
    if actual.dtype.kind == "f":
        np.testing.assert_array_equal(np.signbit(actual[~np.isnan(actual)]), np.signbit(expected[~np.isnan(expected)]))


def features_of(serialized: bytes) -> dict[str, dict[str, str]]:
    example = Example.FromString(serialized)
    return {
        name: {kind.name: repr(list(values.value)) for kind, values in feature.ListFields()}
        for name, feature in example.features.feature.items()
    }


def encoded_strings(examples: list[Any]) -> list[Any]:
    def encode(kind: str, values: list[Any]) -> list[Any]:
        if kind == "bytes_list":
            return [value.encode() for value in values]
        return [float(value) for value in values] if kind == "float_list" else values

    return [
        {name: {kind: encode(kind, values) for kind, values in feature.items()} for name, feature in example.items()}
        for example in examples
    ]
