"""TensorFlow's data types and the numpy types that carry them."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.core.errors import Unimplemented


class DataType(enum.IntEnum):
    """TensorFlow's `DataType`; the numbers are the wire's."""

    DT_INVALID = 0
    DT_FLOAT = 1
    DT_DOUBLE = 2
    DT_INT32 = 3
    DT_UINT8 = 4
    DT_INT16 = 5
    DT_INT8 = 6
    DT_STRING = 7
    DT_COMPLEX64 = 8
    DT_INT64 = 9
    DT_BOOL = 10
    DT_QINT8 = 11
    DT_QUINT8 = 12
    DT_QINT32 = 13
    DT_BFLOAT16 = 14
    DT_QINT16 = 15
    DT_QUINT16 = 16
    DT_UINT16 = 17
    DT_COMPLEX128 = 18
    DT_HALF = 19
    DT_RESOURCE = 20
    DT_VARIANT = 21
    DT_UINT32 = 22
    DT_UINT64 = 23
    DT_FLOAT8_E5M2 = 24
    DT_FLOAT8_E4M3FN = 25
    DT_FLOAT8_E4M3FNUZ = 26
    DT_FLOAT8_E4M3B11FNUZ = 27
    DT_FLOAT8_E5M2FNUZ = 28
    DT_INT4 = 29
    DT_UINT4 = 30
    DT_INT2 = 31
    DT_UINT2 = 32
    DT_FLOAT4_E2M1FN = 33

    @property
    def label(self) -> str:
        """The name that TensorFlow uses in messages: `float`, `int32`, `string`."""
        return self.name.removeprefix("DT_").lower()


_NUMPY: dict[DataType, np.dtype[Any]] = {
    DataType.DT_FLOAT: np.dtype(np.float32),
    DataType.DT_DOUBLE: np.dtype(np.float64),
    DataType.DT_INT32: np.dtype(np.int32),
    DataType.DT_UINT8: np.dtype(np.uint8),
    DataType.DT_INT16: np.dtype(np.int16),
    DataType.DT_INT8: np.dtype(np.int8),
    DataType.DT_STRING: np.dtype(np.object_),
    DataType.DT_COMPLEX64: np.dtype(np.complex64),
    DataType.DT_INT64: np.dtype(np.int64),
    DataType.DT_BOOL: np.dtype(np.bool_),
    DataType.DT_UINT16: np.dtype(np.uint16),
    DataType.DT_COMPLEX128: np.dtype(np.complex128),
    DataType.DT_HALF: np.dtype(np.float16),
    DataType.DT_UINT32: np.dtype(np.uint32),
    DataType.DT_UINT64: np.dtype(np.uint64),
}
_FROM_NUMPY = {numpy_type: data_type for data_type, numpy_type in _NUMPY.items()}
# Quantized numbers are plain ones to numpy, so these have no way back.
_NUMPY |= {
    DataType.DT_QINT8: np.dtype(np.int8),
    DataType.DT_QUINT8: np.dtype(np.uint8),
    DataType.DT_QINT16: np.dtype(np.int16),
    DataType.DT_QUINT16: np.dtype(np.uint16),
    DataType.DT_QINT32: np.dtype(np.int32),
}
# What numpy lacks; TensorFlow brings ml_dtypes with it, a client may not have it.
_ML_DTYPES = {
    DataType.DT_BFLOAT16: "bfloat16",
    DataType.DT_FLOAT8_E5M2: "float8_e5m2",
    DataType.DT_FLOAT8_E4M3FN: "float8_e4m3fn",
    DataType.DT_FLOAT8_E4M3FNUZ: "float8_e4m3fnuz",
    DataType.DT_FLOAT8_E4M3B11FNUZ: "float8_e4m3b11fnuz",
    DataType.DT_FLOAT8_E5M2FNUZ: "float8_e5m2fnuz",
    DataType.DT_INT4: "int4",
    DataType.DT_UINT4: "uint4",
    DataType.DT_INT2: "int2",
    DataType.DT_UINT2: "uint2",
    DataType.DT_FLOAT4_E2M1FN: "float4_e2m1fn",
}
_FROM_ML_DTYPES = {name: data_type for data_type, name in _ML_DTYPES.items()}


def to_numpy(data_type: DataType) -> np.dtype[Any]:
    """The numpy type of a tensor's elements. Strings are objects, each of them `bytes`.

    Raises Unimplemented for a type that no array can hold (resource, variant), or only one of ml_dtypes, if that is absent.
    """
    known = _NUMPY.get(data_type)
    if known is not None:
        return known
    name = _ML_DTYPES.get(data_type)
    if name is None:
        raise Unimplemented(f"Tensors of type {data_type.label} cannot be sent or received")
    try:
        import ml_dtypes

        numpy_type: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    except (ImportError, AttributeError) as error:
        raise Unimplemented(f"Tensors of type {data_type.label} need a newer ml_dtypes package") from error
    _NUMPY[data_type] = numpy_type
    return numpy_type


def from_numpy(numpy_type: np.dtype[Any]) -> DataType:
    """The TensorFlow type of arrays of `numpy_type`, whatever its byte order. Raises Unimplemented when there is none."""
    data_type = _FROM_NUMPY.get(numpy_type)
    if data_type is None:
        data_type = _FROM_NUMPY.get(numpy_type.newbyteorder("=")) or _FROM_ML_DTYPES.get(numpy_type.name)
    if data_type is None:
        raise Unimplemented(f"Arrays of type {numpy_type} cannot be sent or received")
    return data_type


def string_array(values: Sequence[bytes], shape: tuple[int, ...] | None = None) -> NDArray[np.object_]:
    """A string tensor of `values`; flat unless `shape` says otherwise."""
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array if shape is None else array.reshape(shape)
