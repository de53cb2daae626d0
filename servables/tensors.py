"""TensorFlow's data types, and the numpy types that carry them."""

from __future__ import annotations

import enum

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


_NUMPY: dict[DataType, np.dtype[np.generic]] = {
    DataType.DT_FLOAT: np.dtype(np.float32),
    DataType.DT_DOUBLE: np.dtype(np.float64),
    DataType.DT_INT32: np.dtype(np.int32),
    DataType.DT_UINT8: np.dtype(np.uint8),
    DataType.DT_INT16: np.dtype(np.int16),
    DataType.DT_INT8: np.dtype(np.int8),
    DataType.DT_STRING: np.dtype(object),
    DataType.DT_COMPLEX64: np.dtype(np.complex64),
    DataType.DT_INT64: np.dtype(np.int64),
    DataType.DT_BOOL: np.dtype(np.bool_),
    DataType.DT_QINT8: np.dtype(np.int8),
    DataType.DT_QUINT8: np.dtype(np.uint8),
    DataType.DT_QINT32: np.dtype(np.int32),
    DataType.DT_QINT16: np.dtype(np.int16),
    DataType.DT_QUINT16: np.dtype(np.uint16),
    DataType.DT_UINT16: np.dtype(np.uint16),
    DataType.DT_COMPLEX128: np.dtype(np.complex128),
    DataType.DT_HALF: np.dtype(np.float16),
    DataType.DT_UINT32: np.dtype(np.uint32),
    DataType.DT_UINT64: np.dtype(np.uint64),
}
# Types that numpy itself does not have; ml_dtypes comes with TensorFlow.
_ML_DTYPES: dict[DataType, str] = {
    DataType.DT_BFLOAT16: "bfloat16",
    DataType.DT_FLOAT8_E5M2: "float8_e5m2",
    DataType.DT_FLOAT8_E4M3FN: "float8_e4m3fn",
    DataType.DT_FLOAT8_E4M3FNUZ: "float8_e4m3fnuz",
    DataType.DT_FLOAT8_E4M3B11FNUZ: "float8_e4m3b11fnuz",
    DataType.DT_FLOAT8_E5M2FNUZ: "float8_e5m2fnuz",
    DataType.DT_INT4: "int4",
    DataType.DT_UINT4: "uint4",
}
# The first of several TensorFlow types that share a numpy type is the plain one.
_FROM_NUMPY: dict[np.dtype[np.generic], DataType] = {}
for _data_type, _numpy_type in _NUMPY.items():
    _FROM_NUMPY.setdefault(_numpy_type, _data_type)


def to_numpy(data_type: DataType) -> np.dtype[np.generic]:
    """The numpy type of a tensor's elements; strings are objects (`bytes`). Raises Unimplemented for what numpy cannot hold."""
    known = _NUMPY.get(data_type)
    if known is not None:
        return known
    name = _ML_DTYPES.get(data_type)
    if name is None:
        raise Unimplemented(f"Tensors of type {data_type.label} cannot be sent or received")
    try:
        import ml_dtypes
    except ImportError as error:
        raise Unimplemented(f"Tensors of type {data_type.label} need the package ml_dtypes") from error
    found: np.dtype[np.generic] = np.dtype(getattr(ml_dtypes, name))
    _NUMPY[data_type] = found
    _FROM_NUMPY.setdefault(found, data_type)
    return found


def from_numpy(numpy_type: np.dtype[np.generic]) -> DataType:
    """The TensorFlow type for arrays of `numpy_type`; text and bytes of any width are strings. Raises Unimplemented."""
    known = _FROM_NUMPY.get(numpy_type)
    if known is not None:
        return known
    if numpy_type.kind in "SU":
        return DataType.DT_STRING
    for data_type, name in _ML_DTYPES.items():
        if numpy_type.name == name:
            return data_type
    swapped = _FROM_NUMPY.get(numpy_type.newbyteorder("="))
    if swapped is None:
        raise Unimplemented(f"Arrays of type {numpy_type} cannot be sent or received")
    return swapped


def string_array(values: list[bytes], shape: tuple[int, ...] | None = None) -> NDArray[np.object_]:
    """An array of strings; flat unless `shape` says otherwise."""
    array = np.empty(len(values), object)
    array[:] = values
    return array if shape is None else array.reshape(shape)
