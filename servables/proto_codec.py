"""TensorProtos and numpy arrays (TensorFlow: `Tensor::FromProto` and `AsProtoField` in `core/framework/tensor.cc`)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.core.errors import InvalidArgument
from cluster.protos import TensorProto
from servables.tensors import DataType, string_array, to_numpy

MAX_FILLED_BYTES = 1 << 31
"""The largest tensor that a few values may be spread over; a larger one must be sent in full."""

_Array = NDArray[np.generic]

# Field that holds a type's values, and the numpy type of its elements on the wire.
_FIELDS: dict[DataType, tuple[str, type[np.generic]]] = {
    DataType.DT_FLOAT: ("float_val", np.float32),
    DataType.DT_DOUBLE: ("double_val", np.float64),
    DataType.DT_INT32: ("int_val", np.int32),
    DataType.DT_UINT8: ("int_val", np.int32),
    DataType.DT_INT16: ("int_val", np.int32),
    DataType.DT_INT8: ("int_val", np.int32),
    DataType.DT_QINT8: ("int_val", np.int32),
    DataType.DT_QUINT8: ("int_val", np.int32),
    DataType.DT_QINT32: ("int_val", np.int32),
    DataType.DT_QINT16: ("int_val", np.int32),
    DataType.DT_QUINT16: ("int_val", np.int32),
    DataType.DT_UINT16: ("int_val", np.int32),
    DataType.DT_INT4: ("int_val", np.int32),
    DataType.DT_UINT4: ("int_val", np.int32),
    DataType.DT_INT64: ("int64_val", np.int64),
    DataType.DT_BOOL: ("bool_val", np.bool_),
    DataType.DT_UINT32: ("uint32_val", np.uint32),
    DataType.DT_UINT64: ("uint64_val", np.uint64),
    DataType.DT_COMPLEX64: ("scomplex_val", np.float32),
    DataType.DT_COMPLEX128: ("dcomplex_val", np.float64),
    DataType.DT_HALF: ("half_val", np.int32),
    DataType.DT_BFLOAT16: ("half_val", np.int32),
}
_FLOAT8 = frozenset(
    {
        DataType.DT_FLOAT8_E5M2,
        DataType.DT_FLOAT8_E4M3FN,
        DataType.DT_FLOAT8_E4M3FNUZ,
        DataType.DT_FLOAT8_E4M3B11FNUZ,
        DataType.DT_FLOAT8_E5M2FNUZ,
    }
)
_BITS = frozenset({DataType.DT_HALF, DataType.DT_BFLOAT16})
_PAIRS = frozenset({DataType.DT_COMPLEX64, DataType.DT_COMPLEX128})


def tensor_to_array(tensor: Any) -> _Array:
    """The array that a TensorProto (ours or the stock one) describes; a read-only view of `tensor_content` where that is set.

    As in TensorFlow, fewer values than elements repeat the last one, and none stand for zeros. Raises InvalidArgument for a
    tensor that cannot be, Unimplemented for a type that cannot be fed.
    """
    try:
        dtype = DataType(tensor.dtype)
    except ValueError as error:
        raise InvalidArgument(f"Tensor has unknown dtype {tensor.dtype}") from error
    if dtype is DataType.DT_INVALID:
        raise InvalidArgument("Tensor has no dtype")
    numpy_type = to_numpy(dtype)
    shape = _shape(tensor.tensor_shape)
    elements = math.prod(shape)
    if dtype is DataType.DT_STRING:
        return _strings(list(tensor.string_val), elements, shape)
    content = tensor.tensor_content
    if content:
        if len(content) != elements * numpy_type.itemsize:
            raise InvalidArgument(
                f"Tensor of type {dtype.label} and shape {list(shape)} needs {elements * numpy_type.itemsize} bytes of "
                f"tensor_content, but has {len(content)}"
            )
        return np.frombuffer(content, numpy_type).reshape(shape)
    return _filled(_values(tensor, dtype, numpy_type), elements, numpy_type).reshape(shape)


def array_to_tensor(array: _Array, dtype: DataType, *, as_content: bool) -> Any:
    """A TensorProto of `array`, which has the numpy type of `dtype`: one value an element in the typed field, or raw `tensor_content`.

    Strings always go into `string_val`.
    """
    tensor = TensorProto()
    tensor.dtype = dtype
    tensor.tensor_shape.SetInParent()
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    if dtype is DataType.DT_STRING:
        tensor.string_val.extend(value if isinstance(value, bytes) else str(value).encode() for value in array.ravel().tolist())
        return tensor
    if as_content:
        tensor.tensor_content = array.tobytes()
        return tensor
    flat = np.ascontiguousarray(array).ravel()
    if dtype in _FLOAT8:
        tensor.float8_val = flat.tobytes()
        return tensor
    name, wire_type = _FIELDS[dtype]
    if dtype in _BITS:
        flat = flat.view(np.uint16).astype(wire_type)
    elif dtype in _PAIRS:
        flat = flat.view(wire_type)
    # tolist() makes Python numbers in C; extending by them is several times faster than by numpy scalars.
    getattr(tensor, name).extend(flat.tolist())
    return tensor


def _shape(message: Any) -> tuple[int, ...]:
    if message.unknown_rank:
        raise InvalidArgument("Tensor has a shape of unknown rank")
    shape = tuple(dim.size for dim in message.dim)
    if any(size < 0 for size in shape):
        raise InvalidArgument(f"Tensor has a negative dimension: {list(shape)}")
    if len(shape) > 64:
        raise InvalidArgument(f"Tensor has {len(shape)} dimensions; 64 at most can be fed")
    return shape


def _values(tensor: Any, dtype: DataType, numpy_type: np.dtype[np.generic]) -> _Array:
    if dtype in _FLOAT8:
        return np.frombuffer(tensor.float8_val, numpy_type)
    if dtype not in _FIELDS:
        raise InvalidArgument(f"Tensor of type {dtype.label} has no tensor_content")
    name, wire_type = _FIELDS[dtype]
    values: _Array = np.array(getattr(tensor, name), wire_type)
    if dtype in _BITS:
        return values.astype(np.uint16).view(numpy_type)
    if dtype in _PAIRS:
        if values.size % 2:
            raise InvalidArgument(f"Tensor of type {dtype.label} has {values.size} values, which are no pairs")
        return values.view(numpy_type)
    return values.astype(numpy_type, copy=False)


def _filled(values: _Array, elements: int, numpy_type: np.dtype[np.generic]) -> _Array:
    if values.size == elements:
        return values
    if values.size > elements:
        raise InvalidArgument(f"Tensor has {values.size} values for {elements} elements")
    if elements * numpy_type.itemsize > MAX_FILLED_BYTES:
        raise InvalidArgument(f"Tensor has {values.size} values for {elements} elements; send as many as there are elements")
    filled: _Array = np.zeros(elements, numpy_type)
    if values.size:
        filled[: values.size] = values
        filled[values.size :] = values[-1]
    return filled


def _strings(values: list[bytes], elements: int, shape: tuple[int, ...]) -> _Array:
    if len(values) > elements:
        raise InvalidArgument(f"Tensor has {len(values)} values for {elements} elements")
    if len(values) < elements:
        if elements * 8 > MAX_FILLED_BYTES:
            raise InvalidArgument(f"Tensor has {len(values)} values for {elements} elements; send as many as there are elements")
        values.extend([values[-1] if values else b""] * (elements - len(values)))
    return string_array(values, shape)
