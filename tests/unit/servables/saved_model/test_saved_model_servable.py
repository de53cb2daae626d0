"""Running signatures: what is fed, what is fetched, and how TensorFlow's errors come back."""

from __future__ import annotations

import numpy as np
import pytest

from cluster.core.errors import DeadlineExceeded, InvalidArgument
from servables.saved_model.run_threads import RunThreads
from servables.servable import Array, Servable
from servables.signatures import PREDICT_METHOD_NAME, TensorInfo
from servables.tensors import DataType


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


def strings(*values: bytes) -> Array:
    return np.array(values, np.object_)


def test_signatures_say_what_the_model_takes_and_gives(module_servable: Servable) -> None:
    signature = module_servable.signatures["pure"]
    assert signature.method_name == PREDICT_METHOD_NAME
    assert signature.inputs == {
        "x": TensorInfo(name="pure_x:0", dtype=DataType.DT_FLOAT, shape=(-1,)),
        "s": TensorInfo(name="pure_s:0", dtype=DataType.DT_STRING, shape=(-1,)),
    }
    assert {alias: (info.dtype, info.shape) for alias, info in signature.outputs.items()} == {
        "halves": (DataType.DT_FLOAT, (-1,)),
        "shouted": (DataType.DT_STRING, (-1,)),
        "number": (DataType.DT_INT32, (-1,)),
        "word": (DataType.DT_INT64, (-1,)),
        "remembered": (DataType.DT_INT64, (-1,)),
        "rows": (DataType.DT_INT32, ()),
        "motto": (DataType.DT_STRING, ()),
    }
    assert signature.defaults == {}


def test_the_initializer_is_no_signature(module_servable: Servable) -> None:
    assert not [name for name in module_servable.signatures if name.startswith("__")]


def test_defaults_come_with_the_signature(tf1_servable: Servable) -> None:
    defaults = tf1_servable.signatures["serving_default"].defaults
    assert {alias: value.tolist() for alias, value in defaults.items()} == {"k": 2.0}


def test_computes_with_variables_tables_and_assets(module_servable: Servable) -> None:
    outputs = module_servable.run(
        "pure",
        {"x": floats(1.0, 3.0), "s": strings(b"b", b"\0?\0")},
        ["halves", "shouted", "number", "word", "remembered"],
        None,
    )
    assert {alias: array.tolist() for alias, array in outputs.items()} == {
        "halves": [0.5, 1.5],
        "shouted": [b"b!", b"\0?\0!"],
        "number": [2, -1],
        "word": [1, 2],
        "remembered": [-1, -1],
    }
    assert outputs["shouted"].dtype == np.object_


def test_mutable_tables_are_restored(module_servable: Servable) -> None:
    assert module_servable.run("pure", {"x": floats(), "s": strings(b"a")}, ["remembered"], None)["remembered"].tolist() == [7]


def test_scalar_outputs_are_arrays(module_servable: Servable) -> None:
    outputs = module_servable.run("pure", {"x": floats(1.0, 2.0), "s": strings()}, ["rows", "motto"], None)
    assert [(array.shape, array.dtype.name, array.item()) for array in outputs.values()] == [
        ((), "int32", 2),
        ((), "object", b"zero\0"),
    ]


def test_an_empty_array_of_strings_stays_one(module_servable: Servable) -> None:
    outputs = module_servable.run("pure", {"x": floats(), "s": strings()}, ["shouted"], None)
    assert (outputs["shouted"].dtype.name, outputs["shouted"].shape) == ("object", (0,))


def test_outputs_come_in_the_order_asked_for(module_servable: Servable) -> None:
    inputs = {"s": strings(b"a"), "x": floats(1.0)}
    for aliases in (["word", "halves", "rows"], ["rows", "halves", "word"]):
        assert list(module_servable.run("pure", inputs, aliases, None)) == aliases


def test_shapes_are_not_checked_against_the_signature(module_servable: Servable) -> None:
    square = np.ones((2, 2), np.float32)
    outputs = module_servable.run("pure", {"x": square, "s": strings()}, ["halves"], None)
    assert outputs["halves"].tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_takes_arrays_that_are_not_contiguous(module_servable: Servable) -> None:
    every_other = np.arange(6, dtype=np.float32)[::2]
    outputs = module_servable.run("pure", {"x": every_other, "s": strings()}, ["halves"], None)
    assert outputs["halves"].tolist() == [0.0, 1.0, 2.0]


def test_computes_only_what_is_asked_for(tf1_servable: Servable) -> None:
    """`y` needs x and k, `weight` needs nothing: it runs without them."""
    outputs = tf1_servable.run("serving_default", {}, ["weight"], None)
    assert outputs["weight"].tolist() == [3.0]


def test_a_missing_input_is_tensorflows_error(tf1_servable: Servable) -> None:
    with pytest.raises(InvalidArgument, match="You must feed a value for placeholder tensor 'k'"):
        tf1_servable.run("serving_default", {"x": floats(1.0)}, ["y"], None)


def test_two_outputs_may_be_one_tensor(tf1_servable: Servable) -> None:
    inputs = {"x": floats(1.0, 2.0), "k": np.array(2.0, np.float32)}
    outputs = tf1_servable.run("serving_default", inputs, ["same_y", "y"], None)
    assert {alias: array.tolist() for alias, array in outputs.items()} == {"same_y": [6.0, 12.0], "y": [6.0, 12.0]}


def test_two_inputs_may_be_one_tensor_if_they_are_equal(tf1_servable: Servable) -> None:
    inputs = {"x": floats(1.0), "deprecated_x": floats(1.0), "k": np.array(1.0, np.float32)}
    assert tf1_servable.run("twins", inputs, ["y"], None)["y"].tolist() == [3.0]
    with pytest.raises(InvalidArgument, match="deprecated_x and x feed the same tensor"):
        tf1_servable.run("twins", {**inputs, "x": floats(2.0)}, ["y"], None)


def test_a_reference_variable_is_an_output_of_its_value_type(tf1_servable: Servable) -> None:
    assert tf1_servable.signatures["serving_default"].outputs["weight"].dtype == DataType.DT_FLOAT


def test_errors_of_ops_keep_tensorflows_text(module_servable: Servable) -> None:
    with pytest.raises(InvalidArgument, match="Integer division by zero") as failure:
        module_servable.run("divide", {"x": np.array([1, 0], np.int32)}, ["y"], None)
    assert "Traceback" not in failure.value.message
    assert "stack trace" not in failure.value.message


def test_a_dtype_mismatch_has_tensorflows_text(module_servable: Servable) -> None:
    with pytest.raises(InvalidArgument, match=r"^Type mismatch: actual double vs\. expect float"):
        module_servable.run("endless", {"x": np.ones(1)}, ["y"], None)


def test_a_run_that_takes_too_long_is_ended(module_servable: Servable) -> None:
    with pytest.raises(DeadlineExceeded):
        module_servable.run("endless", {"x": floats(1.0)}, ["y"], 0.01)
    assert module_servable.run("divide", {"x": np.array([5], np.int32)}, ["y"], 60.0)["y"].tolist() == [2]


def test_state_outlives_a_run(module_servable: Servable) -> None:
    first, second = (module_servable.run("counting", {"x": floats(1.0)}, ["count"], None)["count"].item() for _ in range(2))
    assert second == first + 1


def test_more_kinds_of_call_than_are_kept_still_answer(module_servable: Servable) -> None:
    aliases = list(module_servable.signatures["pure"].outputs)
    subsets = [[alias for bit, alias in enumerate(aliases) if number >> bit & 1] for number in range(1, 50)]
    inputs = {"x": floats(1.0), "s": strings(b"a")}
    for _ in range(2):
        for subset in subsets:
            assert list(module_servable.run("pure", inputs, subset, None)) == subset


@pytest.mark.parametrize("threads", RunThreads)
def test_answers_and_errors_are_the_same_in_any_threads(
    module_servable: Servable, threads: RunThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module_servable, "_choices", {})
    monkeypatch.setattr(module_servable, "_fixed_threads", threads)

    inputs = {"x": floats(1.0, 2.0), "s": strings(b"a", b"b")}
    answer = module_servable.run("pure", inputs, ["halves", "shouted", "number"], 60.0)

    assert {alias: values.tolist() for alias, values in answer.items()} == {
        "halves": [0.5, 1.0],
        "shouted": [b"a!", b"b!"],
        "number": [1, 2],
    }
    with pytest.raises(InvalidArgument, match="Integer division by zero"):
        module_servable.run("divide", {"x": np.array([1, 0], np.int32)}, ["y"], None)
    with pytest.raises(InvalidArgument, match=r"^Type mismatch: actual double vs\. expect float"):
        module_servable.run("pure", {**inputs, "x": np.ones(2)}, ["halves"], None)
    assert ("pure" in module_servable.caller_thread_signatures) == (threads is RunThreads.CALLER)
