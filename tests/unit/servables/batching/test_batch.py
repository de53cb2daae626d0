from __future__ import annotations

import numpy as np
import pytest

from cluster.core.errors import FailedPrecondition, InvalidArgument
from servables.batching.batch import check_can_be_padded, concatenate, join, rounded_up, row_count, split
from servables.servable import Array


def strings(*rows: bytes) -> Array:
    return np.array(rows, dtype=object)


def test_rows_are_the_size_of_dimension_0() -> None:
    assert row_count({"x": np.zeros((3, 2)), "y": np.zeros(3)}) == 3


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "Batching Run() must have at least one input tensor"),
        ({"x": np.float32(1).reshape(())}, "Batching Run() input tensors must have at least one dimension"),
        (
            {"x": np.zeros(2), "y": np.zeros(3)},
            "Batching Run() input tensors must have equal 0th-dimension size",
        ),
    ],
)
def test_inputs_without_common_rows_are_refused(inputs: dict[str, Array], message: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        row_count(inputs)
    assert raised.value.message == message


@pytest.mark.parametrize(("rows", "expected"), [(1, 2), (2, 2), (3, 8), (8, 8), (9, 9), (0, 0)])
def test_rounds_up_to_the_next_allowed_size(rows: int, expected: int) -> None:
    assert rounded_up(rows, (2, 8)) == expected


def test_any_size_is_allowed_when_none_is_given() -> None:
    assert rounded_up(5, ()) == 5


def test_concatenates_each_input_in_the_order_of_the_tasks() -> None:
    batch = concatenate([{"x": np.array([1, 2]), "s": strings(b"a", b"b")}, {"x": np.array([3]), "s": strings(b"c")}], 3)

    assert batch["x"].tolist() == [1, 2, 3]
    assert batch["s"].tolist() == [b"a", b"b", b"c"]
    assert batch["s"].dtype == object


def test_one_task_that_fills_the_batch_is_not_copied() -> None:
    x = np.array([1, 2])

    assert concatenate([{"x": x}], 2)["x"] is x


def test_fills_up_with_row_0_of_the_last_task() -> None:
    batch = concatenate([{"x": np.array([[1, 1]])}, {"x": np.array([[2, 2], [3, 3]])}], 5)

    assert batch["x"].tolist() == [[1, 1], [2, 2], [3, 3], [2, 2], [2, 2]]


def test_fills_up_strings() -> None:
    assert concatenate([{"s": strings(b"long", b"b")}], 3)["s"].tolist() == [b"long", b"b", b"long"]


def test_fills_up_from_the_last_task_that_has_a_row() -> None:
    assert concatenate([{"x": np.array([7])}, {"x": np.zeros(0, int)}], 3)["x"].tolist() == [7, 7, 7]


def test_pads_inner_dimensions_with_the_first_element_of_each_tensor() -> None:
    batch = concatenate(
        [{"x": np.array([[1, 2], [3, 4]])}, {"x": np.array([[5, 6, 7]])}, {"x": np.array([[8]])}],
        5,
        pad_variable_length=True,
    )

    assert batch["x"].tolist() == [[1, 2, 1], [3, 4, 1], [5, 6, 7], [8, 8, 8], [8, 8, 8]]


def test_pads_several_dimensions_of_strings() -> None:
    batch = concatenate(
        [{"s": strings(b"a", b"b").reshape(1, 2, 1)}, {"s": strings(b"c", b"d").reshape(1, 1, 2)}], 2, pad_variable_length=True
    )

    assert batch["s"].tolist() == [[[b"a", b"a"], [b"b", b"a"]], [[b"c", b"d"], [b"c", b"c"]]]


def test_pads_nothing_where_shapes_are_equal() -> None:
    assert concatenate([{"x": np.eye(2)}], 2, pad_variable_length=True)["x"].tolist() == np.eye(2).tolist()


def test_an_empty_tensor_has_nothing_to_be_padded_with() -> None:
    with pytest.raises(InvalidArgument, match="Got empty tensor in batch of non-empty tensors"):
        concatenate([{"x": np.zeros((1, 0))}, {"x": np.zeros((1, 3))}], 2, pad_variable_length=True)


def test_only_ranks_up_to_6_can_be_padded() -> None:
    check_can_be_padded({"x": np.zeros((1,) * 6)})
    with pytest.raises(InvalidArgument, match="Only tensors with rank from 1 to 6 can be padded"):
        check_can_be_padded({"x": np.zeros((1,) * 7)})


def test_splits_outputs_and_leaves_out_the_filling() -> None:
    parts = split({"y": np.arange(5), "z": np.arange(10).reshape(5, 2)}, [1, 0, 2], 5)

    assert [part["y"].tolist() for part in parts] == [[0], [], [1, 2]]
    assert [part["z"].tolist() for part in parts] == [[[0, 1]], [], [[2, 3], [4, 5]]]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (np.float32(1).reshape(()), "Batched output tensor has 0 dimensions"),
        (
            np.zeros(3),
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input tensors",
        ),
    ],
)
def test_outputs_must_have_the_rows_of_the_batch(output: Array, message: str) -> None:
    with pytest.raises(FailedPrecondition) as raised:
        split({"y": output}, [1, 1], 4)
    assert raised.value.message == message


def test_joins_the_outputs_of_a_split_task() -> None:
    assert join([{"y": np.array([1, 2])}, {"y": np.array([3])}])["y"].tolist() == [1, 2, 3]


def test_parts_that_do_not_fit_together_cannot_be_joined() -> None:
    with pytest.raises(FailedPrecondition):
        join([{"y": np.zeros((1, 2))}, {"y": np.zeros((1, 3))}])
