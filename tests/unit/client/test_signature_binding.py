from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.client.signature_binding import bind_inputs, cast_input, check_outputs
from cluster.core.errors import InvalidArgument, Unimplemented
from servables.signatures import PREDICT_METHOD_NAME, Signature, TensorInfo
from servables.tensors import DataType, to_numpy


def cast(value: Any, dtype: DataType) -> Any:
    return cast_input("x", value, TensorInfo("x:0", dtype, None))


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([1, 2], DataType.DT_FLOAT),
        ([16777217], DataType.DT_FLOAT),
        ([0.1], DataType.DT_FLOAT),
        ([0.1], DataType.DT_HALF),
        ([1.5, 2], DataType.DT_BFLOAT16),
        ([1], DataType.DT_UINT8),
        ([2**63], DataType.DT_UINT64),
        ([True], DataType.DT_BOOL),
        ([], DataType.DT_INT32),
        ([], DataType.DT_BOOL),
        ([1 + 2j], DataType.DT_COMPLEX64),
        ([1.5], DataType.DT_COMPLEX64),
        (np.array([0.1]), DataType.DT_FLOAT),
        (np.array([1], np.int64), DataType.DT_INT8),
        (np.array([1], np.int64), DataType.DT_FLOAT),
        (np.array([1, 2], ">f4"), DataType.DT_FLOAT),
        (np.array([float("nan")], np.float32), DataType.DT_HALF),
        (np.float32(0.5), DataType.DT_DOUBLE),
        (np.array([1.5], ml_dtypes.bfloat16), DataType.DT_FLOAT),
    ],
)
def test_casts_to_the_dtype_of_the_signature(value: Any, dtype: DataType) -> None:
    array = cast(value, dtype)
    assert array.dtype == to_numpy(dtype)
    assert array.dtype.isnative
    assert array.shape == np.shape(value)
    assert np.allclose(array.astype(np.complex128), np.asarray(value, np.complex128), rtol=1e-2, equal_nan=True)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([1.0], DataType.DT_INT32),
        ([300], DataType.DT_UINT8),
        ([-1], DataType.DT_UINT64),
        ([2**63], DataType.DT_INT64),
        ([2**64], DataType.DT_UINT64),
        ([1], DataType.DT_BOOL),
        ([True], DataType.DT_FLOAT),
        ([1e39], DataType.DT_FLOAT),
        ([1 + 2j], DataType.DT_FLOAT),
        (["1"], DataType.DT_FLOAT),
        ([None], DataType.DT_FLOAT),
        ([[1], [2, 3]], DataType.DT_FLOAT),
        (np.array([16777217]), DataType.DT_FLOAT),
        (np.array([0.1], np.float32), DataType.DT_HALF),
        (np.array([], np.float64), DataType.DT_INT32),
        (np.array([300], np.int64), DataType.DT_INT8),
    ],
)
def test_refuses_what_would_change(value: Any, dtype: DataType) -> None:
    with pytest.raises(InvalidArgument, match=r"^Input x "):
        cast(value, dtype)


_INTEGERS = [
    DataType.DT_INT8,
    DataType.DT_UINT8,
    DataType.DT_INT16,
    DataType.DT_UINT16,
    DataType.DT_INT32,
    DataType.DT_UINT32,
    DataType.DT_INT64,
    DataType.DT_UINT64,
]


@given(st.sampled_from(list(itertools.product(_INTEGERS, _INTEGERS))), st.data())
def test_an_integer_arrives_as_it_is_or_not_at_all(dtypes: tuple[DataType, DataType], data: st.DataObject) -> None:
    given_dtype, wanted = dtypes
    limits = np.iinfo(to_numpy(given_dtype))
    number = data.draw(st.integers(limits.min, limits.max))
    try:
        array = cast(np.array([number], to_numpy(given_dtype)), wanted)
    except InvalidArgument:
        limits = np.iinfo(to_numpy(wanted))
        assert not limits.min <= number <= limits.max
    else:
        assert array.tolist() == [number]


@pytest.mark.parametrize("make", [lambda v: v, lambda v: np.array(v, dtype=object)], ids=["list", "object array"])
def test_strings_become_bytes(make: Callable[[Any], Any]) -> None:
    array = cast(make(["ä", b"\xff\x00"]), DataType.DT_STRING)
    assert array.dtype == object
    assert array.tolist() == ["ä".encode(), b"\xff\x00"]


@pytest.mark.parametrize("value", [[1], ["a", None], [["a"], ["b", "c"]], ["\ud800"], np.array([1.0])])
def test_refuses_what_is_no_string(value: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^Input x "):
        cast(value, DataType.DT_STRING)


def test_refuses_a_dtype_that_no_array_can_hold() -> None:
    with pytest.raises(Unimplemented, match="resource"):
        cast([1], DataType.DT_RESOURCE)


def test_leaves_missing_inputs_to_the_server() -> None:
    info = TensorInfo("", DataType.DT_FLOAT, None)
    signature = Signature(PREDICT_METHOD_NAME, {"a": info, "b": info}, {})
    assert set(bind_inputs({"a": 1.0}, signature)) == {"a"}


def test_refuses_an_output_asked_for_twice() -> None:
    signature = Signature(PREDICT_METHOD_NAME, {}, {"y": TensorInfo("", DataType.DT_FLOAT, None)})
    check_outputs(["y"], signature)
    with pytest.raises(InvalidArgument, match=r"^duplicate output tensor alias: y$"):
        check_outputs(["y", "y"], signature)
