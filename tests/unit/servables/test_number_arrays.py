"""Which arrays are taken out of a body, and that they are what the lists were."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from servables.json_codec import PredictBody, number_arrays
from servables.json_codec.document import read_object_of_arrays
from servables.signatures import TensorInfo
from servables.tensors import DataType

FLOAT = {"x": TensorInfo("x", DataType.DT_FLOAT, None)}
IMAGE = np.random.default_rng(0).random((2, 20, 30, 3)).round(6)


@pytest.fixture(autouse=True)
def _every_array(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_arrays, "MIN_BYTES", 1)


def read(text: str) -> dict[str, Any]:
    document = read_object_of_arrays(text.encode())
    assert document is not None
    return document


@pytest.mark.parametrize(
    "text",
    [
        '{"instances": ARRAY}',
        '{"signature_name": "s", "inputs": ARRAY}',
        '{"inputs" :\n ARRAY , "signature_name": "s"}',
        '{"inputs": {"x": ARRAY, "y": [1]}}',
        '{"instances": [{"x": ARRAY}, {"x": [[1], [2]]}]}',
    ],
)
@pytest.mark.parametrize("separators", [(",", ":"), (" ,\n", ":")])
def test_an_array_that_is_a_members_value_is_taken_out(text: str, separators: tuple[str, str]) -> None:
    document = read(text.replace("ARRAY", json.dumps(IMAGE.tolist(), separators=separators)))
    assert arrays_in(document)[0].tolist() == IMAGE.tolist()
    assert "taken out" not in repr(document)


@pytest.mark.parametrize(("numbers", "dtype"), [("[1, -2]", np.int64), ("[1, 2.0]", np.float64), ("[1e2]", np.float64)])
def test_integers_stay_integers_where_all_are(numbers: str, dtype: type) -> None:
    assert read(f'{{"instances": {numbers}}}')["instances"].dtype == dtype


@pytest.mark.parametrize(
    "array",
    [
        "[[1, 2, 3], [4]]",
        "[[1, 2], [3, 4], 5]",
        "[5, [1, 2], [3, 4]]",
        "[[[1], [2]], [[3, 4]]]",
        "[[1], []]",
        "[[], [1]]",
        "[]",
        "[[], []]",
        "[[1, 2], [3, true]]",
        "[[1, 2], [3, NaN]]",
        "[1, 18446744073709551616]",
        "[1] 2",
        "[1]]",
        "[" * 40 + "1" + "]" * 40,
        "[" * 2000 + "1" + "]" * 2000,
    ],
)
def test_what_is_no_dense_array_of_numbers_is_left(array: str) -> None:
    assert read_object_of_arrays(f'{{"instances": {array}}}'.encode()) is None


def test_a_string_that_looks_like_a_mark_is_a_string() -> None:
    body = b'{"instances": [{"x": [1, 2], "y": "taken out: 0"}]}'
    assert read_object_of_arrays(body) is None
    assert read_object_of_arrays(body.replace(b"taken", b"\\u0074aken")) is None


def test_a_body_of_many_strings_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_arrays, "MIN_BYTES", 4096)
    assert read_object_of_arrays(json.dumps({"instances": ["text"] * 1000, "more": [1] * 5000}).encode()) is None
    assert read_object_of_arrays(json.dumps({"instances": ["text"] * 10, "more": [1] * 5000}).encode()) is not None


def test_a_body_with_an_array_decodes_again_for_another_signature() -> None:
    body = PredictBody.parse(b'{"instances": [[1, 2], [3, 300]]}')
    assert body.decode(FLOAT, "")["x"].dtype == np.float32
    assert body.decode({"y": TensorInfo("y", DataType.DT_UINT8, None)}, "")["y"].tolist() == [[1, 2], [3, 44]]
    assert body.decode({"z": TensorInfo("z", DataType.DT_UINT64, None)}, "")["z"].tolist() == [[1, 2], [3, 300]]


def test_a_float_out_of_range_is_infinite_without_a_warning() -> None:
    assert PredictBody.parse(b'{"instances": [1e39, -1e39]}').decode(FLOAT, "")["x"].tolist() == [np.inf, -np.inf]


def test_rows_of_named_arrays_become_one_tensor() -> None:
    rows = [{"x": IMAGE.tolist()}, {"x": (IMAGE + 1).tolist()}]
    tensors = PredictBody.parse(json.dumps({"instances": rows}).encode()).decode(FLOAT, "")
    np.testing.assert_array_equal(tensors["x"], np.stack([IMAGE, IMAGE + 1]).astype(np.float32))


def arrays_in(value: Any) -> list[Any]:
    if isinstance(value, np.ndarray):
        return [value]
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [array for member in members for array in arrays_in(member)]
