"""Quantized numbers: plain integers everywhere else, and types of TensorFlow's own in a session's arrays.

TensorFlow tells qint8 from int8 by a structured numpy type of one field, and refuses to feed the one for the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tensorflow.python.framework import dtypes

from servables.servable import Array
from servables.tensors import DataType, to_numpy

QUANTIZED: Mapping[DataType, np.dtype[Any]] = {
    data_type: np.dtype(dtypes.as_dtype(data_type.value).as_numpy_dtype)
    for data_type in (DataType.DT_QINT8, DataType.DT_QUINT8, DataType.DT_QINT16, DataType.DT_QUINT16, DataType.DT_QINT32)
}
_PLAIN = {numpy_type: to_numpy(data_type) for data_type, numpy_type in QUANTIZED.items()}


def quantizing(function: Callable[..., list[Any]], data_types: Sequence[DataType]) -> Callable[..., list[Any]]:
    """`function`, for plain integers where it takes an argument of a quantized type; others go in as they are."""

    def call(*arrays: Array) -> list[Any]:
        return function(*[_quantized(array, data_type) for array, data_type in zip(arrays, data_types, strict=True)])

    return call


def plain(array: Array) -> Array:
    """A session's output as the integers that it holds, if it is quantized."""
    numpy_type = _PLAIN.get(array.dtype)
    return array if numpy_type is None else array.view(numpy_type)


def _quantized(array: Array, data_type: DataType) -> Array:
    quantized = QUANTIZED.get(data_type)
    return array if quantized is None or array.dtype != to_numpy(data_type) else array.view(quantized)
