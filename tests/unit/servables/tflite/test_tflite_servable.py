"""What a TFLite model answers: types, batches, signatures, errors, state."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cluster.core.errors import Internal, InvalidArgument
from servables.servable import Servable
from servables.signatures import PREDICT_METHOD_NAME
from servables.tensors import DataType
from tests.fakes import tflite_models

Load = Callable[..., Servable]


def floats(*values: Any) -> Any:
    return np.array(values, np.float32)


def strings(*values: bytes) -> Any:
    return np.array(values, np.object_)


def project(servable: Servable, rows: Any, scale: float = 1.0) -> Any:
    return servable.run("project", {"rows": rows, "scale": np.float32(scale).reshape(())}, ["sum"], None)["sum"].tolist()


def test_signatures_say_what_the_model_takes_and_gives(servable: Servable) -> None:
    assert sorted(servable.signatures) == ["add", "half_plus_two", "one_row", "pick", "project"]
    pick = servable.signatures["pick"]
    assert pick.method_name == PREDICT_METHOD_NAME
    assert {alias: (info.dtype, info.shape) for alias, info in pick.inputs.items()} == {
        "words": (DataType.DT_STRING, (-1,)),
        "order": (DataType.DT_INT32, (-1,)),
    }
    assert {alias: info.dtype for alias, info in pick.outputs.items()} == {
        "picked": DataType.DT_STRING,
        "order": DataType.DT_INT32,
    }
    project = servable.signatures["project"]
    assert {alias: info.shape for alias, info in project.inputs.items()} == {"rows": (-1, 2), "scale": ()}
    assert project.inputs["rows"].name == "project_rows:0"


def test_a_model_without_signatures_goes_by_the_names_of_its_tensors(half_plus_two: bytes, load: Load) -> None:
    servable = load(tflite_models.without_signatures(half_plus_two))
    assert list(servable.signatures) == ["serving_default"]
    signature = servable.signatures["serving_default"]
    assert signature.method_name == PREDICT_METHOD_NAME
    (x,), (y,) = signature.inputs, signature.outputs
    assert (signature.inputs[x].name, signature.inputs[x].shape) == (x, (-1,))
    assert servable.run("serving_default", {x: floats(1.0, 2.0, 3.0)}, [y], None)[y].tolist() == [2.5, 3.0, 3.5]


def test_every_signature_runs_whatever_ran_before(servable: Servable) -> None:
    for _ in range(3):
        assert project(servable, floats([1, 2], [3, 4]), 2.0) == [[6.0], [14.0]]
        assert servable.run("half_plus_two", {"x": floats(1)}, ["y"], None)["y"].tolist() == [2.5]


def test_inputs_are_resized_to_the_batch(servable: Servable) -> None:
    for rows in (1, 4, 2, 1000, 1):
        assert project(servable, np.ones((rows, 2), np.float32)) == [[2.0]] * rows


def test_a_model_converted_for_one_row_takes_more(servable: Servable) -> None:
    assert servable.signatures["one_row"].inputs["row"].shape == (1, 2)
    run = servable.run("one_row", {"row": floats([1, 2], [3, 4], [5, 6])}, ["twice"], None)
    assert run["twice"].tolist() == [[2, 4], [6, 8], [10, 12]]


def test_strings_are_bytes_of_any_length(servable: Servable) -> None:
    words = strings(b"a\0", b"\xff", b"", b"b" * 10_000)
    order = np.array([3, 0, 2, 1, 0], np.int32)
    outputs = servable.run("pick", {"words": words, "order": order}, ["picked"], None)
    assert outputs["picked"].tolist() == [words[index] for index in order]
    assert outputs["picked"].dtype == np.object_


def test_gives_the_outputs_that_are_asked_for(servable: Servable) -> None:
    inputs = {"words": strings(b"a"), "order": np.array([0], np.int32)}
    assert list(servable.run("pick", inputs, ["order"], None)) == ["order"]
    assert list(servable.run("pick", inputs, ["picked", "order"], None)) == ["picked", "order"]


def test_takes_arrays_that_are_not_contiguous(servable: Servable) -> None:
    assert project(servable, np.arange(12, dtype=np.float32).reshape(2, 6).T[::2, ::-1]) == [[6.0], [10.0], [14.0]]


@pytest.mark.parametrize(("dtype", "label"), [(tf.uint8, DataType.DT_UINT8), (tf.int8, DataType.DT_INT8)])
def test_a_quantized_model_takes_and_gives_its_integers(
    dtype: Any, label: DataType, tmp_path_factory: pytest.TempPathFactory, load: Load
) -> None:
    servable = load(tflite_models.convert_quantized(tmp_path_factory.mktemp("quantized"), dtype))
    signature = servable.signatures["serving_default"]
    assert (signature.inputs["x"].dtype, signature.outputs["y"].dtype) == (label, label)
    low, high = np.iinfo(dtype.as_numpy_dtype).min, np.iinfo(dtype.as_numpy_dtype).max
    x = np.array([[low, low], [high, low], [high, high]], dtype.as_numpy_dtype)
    y = servable.run("serving_default", {"x": x}, ["y"], None)["y"]
    assert y.dtype == x.dtype
    # Of 3, the largest sum, there are 255 parts.
    np.testing.assert_allclose((y.astype(int) - low).ravel(), [0, 85, 255], atol=2)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ones((2, 3), np.float32), r"^Input rows of shape \[2, 3\] does not fit the model's shape \[\?, 2\]$"),
        (np.ones((1, 4), np.float32), r"^Input rows of shape \[1, 4\] does not fit"),  # two rows to an op that counts elements
        (np.ones((2,), np.float32), r"^Input rows of shape \[2\] does not fit"),
        (np.ones((), np.float32), r"^Input rows of shape \[\] does not fit"),
        (np.ones((1, 2, 2), np.float32), r"^Input rows of shape \[1, 2, 2\] does not fit"),
        (np.ones((0, 2), np.float32), r"^Input rows of shape \[0, 2\] is empty"),
        (np.ones((2, 2), np.float64), r"^Type mismatch: actual double vs\. expect float for input rows$"),
    ],
)
def test_an_input_that_does_not_fit_is_an_invalid_argument(servable: Servable, rows: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        project(servable, rows)
    assert project(servable, np.ones((2, 2), np.float32)) == [[2.0], [2.0]]


def test_shapes_that_do_not_go_together_are_an_invalid_argument(servable: Servable) -> None:
    shapes = r"^The TFLite model cannot take inputs of these shapes: x \[2\], y \[3\]: .*failed to prepare"
    for _ in range(2):
        with pytest.raises(InvalidArgument, match=shapes):
            servable.run("add", {"x": floats(1, 2), "y": floats(1, 2, 3)}, ["sum"], None)
        assert servable.run("add", {"x": floats(1, 2), "y": floats(3, 4)}, ["sum"], None)["sum"].tolist() == [4, 6]


def test_a_run_that_fails_has_the_ops_text_in_one_line_and_spoils_no_other(servable: Servable) -> None:
    inputs = {"words": strings(b"a"), "order": np.array([5], np.int32)}
    for _ in range(3):
        with pytest.raises(Internal, match=r"^Failed to run interpreter\. .*index out of bounds.*GATHER") as failure:
            servable.run("pick", inputs, ["picked"], None)
        assert "\n" not in failure.value.message
    good = servable.run("pick", {**inputs, "order": np.array([0], np.int32)}, ["picked"], None)
    assert good["picked"].tolist() == [b"a"]


def test_what_a_recurrent_op_remembers_ends_with_its_run(load: Load) -> None:
    servable = load(tflite_models.recurrent())
    for _ in range(3):
        assert servable.run("serving_default", {"x": floats([1])}, ["y"], None)["y"].tolist() == [[1.0]]
    assert servable.deterministic


@pytest.mark.parametrize("method", ["noisy", "counting"])
def test_a_model_that_draws_or_counts_is_not_deterministic(method: str, tmp_path: Path, load: Load) -> None:
    assert not load(tflite_models.convert(tmp_path / "export", serving_default=method)).deterministic


def test_a_model_without_state_is_deterministic(servable: Servable) -> None:
    assert servable.deterministic


def test_signatures_and_batches_from_several_threads_do_not_mix(servable: Servable) -> None:
    """Eight threads on two interpreters, each of which is resized again and again."""

    def call(number: int) -> None:
        rows = number % 7 + 1
        values = np.arange(rows, dtype=np.float32) + number
        if number % 2:
            y = servable.run("half_plus_two", {"x": values}, ["y"], None)["y"]
            assert y.tolist() == (values / 2 + 2).tolist()
        else:
            assert project(servable, np.stack([values, values], axis=1), 2.0) == (values * 4).reshape(-1, 1).tolist()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(call, range(300)))
