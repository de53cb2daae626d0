"""TensorProtos and arrays, by rules that need no TensorFlow to be checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from cluster.core.errors import InvalidArgument, Unimplemented
from cluster.protos import TensorProto
from servables import proto_codec
from servables.proto_codec import array_to_tensor, tensor_to_array
from servables.tensors import DataType, from_numpy, string_array, to_numpy

FED = sorted(set(DataType) - {DataType.DT_INVALID, DataType.DT_RESOURCE, DataType.DT_VARIANT})
NUMPY_TYPES = [numpy_type for numpy_type in map(to_numpy, FED) if numpy_type.isbuiltin == 1 and numpy_type != np.object_]


def tensor(dtype: DataType, shape: list[int], **fields: Any) -> TensorProto:
    message = TensorProto(dtype=dtype, **fields)
    message.tensor_shape.SetInParent()
    for size in shape:
        message.tensor_shape.dim.add(size=size)
    return message


def two_values(data_type: DataType) -> NDArray[Any]:
    if data_type is DataType.DT_STRING:
        return string_array([b"one", b"\xff\x00"], (2, 1))
    return np.array([[1], [0]]).astype(to_numpy(data_type))


@pytest.mark.parametrize("as_content", [False, True])
@pytest.mark.parametrize("data_type", FED)
def test_every_type_survives(data_type: DataType, as_content: bool) -> None:
    array = two_values(data_type)
    decoded = tensor_to_array(array_to_tensor(array, data_type, as_content=as_content))
    assert decoded.dtype == array.dtype
    assert decoded.tolist() == array.tolist()


@given(
    st.sampled_from(NUMPY_TYPES).flatmap(lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, min_side=0))),
    st.booleans(),
)
def test_any_array_survives(array: NDArray[Any], as_content: bool) -> None:
    decoded = tensor_to_array(array_to_tensor(array, from_numpy(array.dtype), as_content=as_content))
    np.testing.assert_array_equal(decoded, array, strict=True)


@pytest.mark.parametrize("count", [1, 31, 32, 1000])
@pytest.mark.parametrize(
    "data_type", [DataType.DT_FLOAT, DataType.DT_HALF, DataType.DT_INT64, DataType.DT_COMPLEX64, DataType.DT_BOOL]
)
def test_few_and_many_values_read_the_same(data_type: DataType, count: int) -> None:
    array = (np.arange(count) % 7).astype(to_numpy(data_type))
    decoded = tensor_to_array(array_to_tensor(array, data_type, as_content=False))
    assert decoded.tolist() == array.tolist()


def test_typed_field_has_one_value_for_each_element() -> None:
    message = array_to_tensor(np.full((2, 3), 7, np.float32), DataType.DT_FLOAT, as_content=False)
    assert list(message.float_val) == [7.0] * 6
    assert message.tensor_content == b""


def test_half_values_are_bit_patterns() -> None:
    message = array_to_tensor(np.array([1.0], np.float16), DataType.DT_HALF, as_content=False)
    assert list(message.half_val) == [0x3C00]


def test_complex_values_are_pairs() -> None:
    message = array_to_tensor(np.array([1 + 2j], np.complex128), DataType.DT_COMPLEX128, as_content=False)
    assert list(message.dcomplex_val) == [1.0, 2.0]


def test_a_view_is_written_in_its_own_order() -> None:
    array = np.arange(6, dtype=np.int32).reshape(2, 3).T
    for as_content in (False, True):
        assert tensor_to_array(array_to_tensor(array, DataType.DT_INT32, as_content=as_content)).tolist() == array.tolist()


def test_foreign_byte_order_is_turned() -> None:
    array = np.array([1.5, 2.5], ">f4")
    for as_content in (False, True):
        assert tensor_to_array(array_to_tensor(array, DataType.DT_FLOAT, as_content=as_content)).tolist() == [1.5, 2.5]


def test_strings_go_one_by_one_even_as_content() -> None:
    message = array_to_tensor(string_array([b"a", b"b"]), DataType.DT_STRING, as_content=True)
    assert list(message.string_val) == [b"a", b"b"]


def test_text_is_not_a_string_tensor() -> None:
    with pytest.raises(InvalidArgument, match="must be bytes"):
        array_to_tensor(np.array(["text"], np.object_), DataType.DT_STRING, as_content=False)


def test_content_is_not_copied() -> None:
    content = np.arange(4, dtype=np.float32).tobytes()
    array = tensor_to_array(tensor(DataType.DT_FLOAT, [4], tensor_content=content))
    assert not array.flags.owndata
    assert array.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_missing_values_repeat_the_last() -> None:
    assert tensor_to_array(tensor(DataType.DT_INT32, [2, 2], int_val=[1, 2])).tolist() == [[1, 2], [2, 2]]
    assert tensor_to_array(tensor(DataType.DT_FLOAT, [3], float_val=[4.0])).tolist() == [4.0] * 3
    assert tensor_to_array(tensor(DataType.DT_STRING, [3], string_val=[b"a", b"b"])).tolist() == [b"a", b"b", b"b"]


def test_no_value_means_zeros() -> None:
    assert tensor_to_array(tensor(DataType.DT_DOUBLE, [2])).tolist() == [0.0, 0.0]
    assert tensor_to_array(tensor(DataType.DT_STRING, [2])).tolist() == [b"", b""]
    assert tensor_to_array(tensor(DataType.DT_BOOL, [])).tolist() is False
    assert tensor_to_array(tensor(DataType.DT_FLOAT8_E5M2, [1])).astype(float).tolist() == [0.0]


def test_surplus_values_are_ignored() -> None:
    assert tensor_to_array(tensor(DataType.DT_INT64, [1], int64_val=[5, 6])).tolist() == [5]
    assert tensor_to_array(tensor(DataType.DT_STRING, [1], string_val=[b"a", b"b"])).tolist() == [b"a"]
    assert tensor_to_array(tensor(DataType.DT_COMPLEX64, [1], scomplex_val=[1.0, 2.0, 3.0])).tolist() == [1 + 2j]


def test_integers_lose_their_upper_bits() -> None:
    assert tensor_to_array(tensor(DataType.DT_UINT8, [2], int_val=[257, -1])).tolist() == [1, 255]


def test_an_empty_tensor_needs_no_values() -> None:
    assert tensor_to_array(tensor(DataType.DT_FLOAT, [0, 3], float_val=[1.0], tensor_content=b"odd")).shape == (0, 3)


@pytest.mark.parametrize("content", [b"\x01\x82\x01a" + b"b" * 130, b"\x01\x82\x80\x00a" + b"b" * 2])
def test_string_content_is_sizes_then_bytes(content: bytes) -> None:
    strings = tensor_to_array(tensor(DataType.DT_STRING, [2], tensor_content=content)).tolist()
    assert strings == [b"a", b"b" * (len(content) - content.index(b"a") - 1)]


@pytest.mark.parametrize("content", [b"\x01", b"\x02\x01ab", b"\x80\x80\x80\x80\x80\x01\x00", b"\x81", b"\x01\x01abc"])
def test_string_content_that_does_not_add_up_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidArgument, match="does not hold 2 strings"):
        tensor_to_array(tensor(DataType.DT_STRING, [2], tensor_content=content))


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (TensorProto(dtype=DataType.DT_INVALID), "without a type"),
        (TensorProto(dtype=99), "unknown type 99"),
        (TensorProto(dtype=101), "unknown type 101"),
        (tensor(DataType.DT_FLOAT, [2], tensor_content=bytes(7)), "tensor_content of 7 bytes for 2 elements of type float"),
        (tensor(DataType.DT_FLOAT, [-1]), "negative dimension"),
        (tensor(DataType.DT_FLOAT, [1] * 255), "rank 255"),
        (tensor(DataType.DT_FLOAT, [2**62, 2**62], float_val=[1.0]), "too many elements"),
        (tensor(DataType.DT_FLOAT, [0, 2**62, 2**62]), "too many elements"),
        (tensor(DataType.DT_FLOAT, [2**40], float_val=[1.0]), "must be sent in full"),
        (tensor(DataType.DT_FLOAT, [2**40]), "must be sent in full"),
        (tensor(DataType.DT_STRING, [2**40]), "must be sent in full"),
        (tensor(DataType.DT_STRING, [2**20], string_val=[bytes(1000)]), "must be sent in full"),
    ],
)
def test_what_is_no_tensor_is_refused(message: TensorProto, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        tensor_to_array(message)


def test_unknown_rank_is_refused() -> None:
    message = TensorProto(dtype=DataType.DT_FLOAT)
    message.tensor_shape.unknown_rank = True
    with pytest.raises(InvalidArgument, match="unknown rank"):
        tensor_to_array(message)


def test_a_resource_cannot_be_fed() -> None:
    with pytest.raises(Unimplemented, match="resource"):
        tensor_to_array(TensorProto(dtype=DataType.DT_RESOURCE))


def test_one_value_fills_a_large_tensor_without_memory() -> None:
    array = tensor_to_array(tensor(DataType.DT_FLOAT, [proto_codec.MAX_EXPANDED_BYTES // 4], float_val=[3.0]))
    assert array[-1] == 3.0
    assert array.strides == (0,)


@given(
    st.sampled_from(FED),
    st.lists(st.integers(-1, 5), max_size=4),
    st.fixed_dictionaries(
        {},
        optional={
            "tensor_content": st.binary(max_size=40),
            "int_val": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5),
            "half_val": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5),
            "float_val": st.lists(st.floats(width=32), max_size=5),
            "scomplex_val": st.lists(st.floats(width=32), max_size=5),
            "string_val": st.lists(st.binary(max_size=5), max_size=5),
            "float8_val": st.binary(max_size=5),
        },
    ),
)
def test_any_message_is_read_or_refused(data_type: DataType, shape: list[int], fields: dict[str, Any]) -> None:
    try:
        array = tensor_to_array(tensor(data_type, shape, **fields))
    except InvalidArgument:
        return
    assert array.shape == tuple(shape)
    assert array.dtype == to_numpy(data_type)
