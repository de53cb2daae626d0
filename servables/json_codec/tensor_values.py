"""JSON values to dense arrays, by the rules of TF Serving's json_tensor.cc (FillTensorProto, AddValueToTensor).

A value is a scalar, or lists nested to one depth with one size at each level; the shape is that of the first elements. Two ways
lead to the same array: `dense_array` works level by level, with one test for all values of a level, and knows only that
something is wrong; `read_tensor` goes value by value and knows what.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.core.errors import InvalidArgument, Unimplemented
from servables.json_codec.base64_objects import decode_base64_object, is_base64_object
from servables.json_codec.quotation import quoted, type_name
from servables.json_codec.reader import JsonValue
from servables.tensors import DataType, string_array

Shape = tuple[int, ...]

MAX_RANK = 31  # with a batch dimension added, what a NumPy 1 array can have; TensorFlow's own limit is 254
_LIST = {list}
_ARRAY = {np.ndarray}
_INT = frozenset({int})
_NUMBER = frozenset({int, float})


@dataclass(frozen=True, slots=True)
class _Numbers:
    """The JSON numbers that a type takes, one by one or as a NumberArray (`servables.json_codec.number_arrays`).

    `typecode` is that of the C array they are converted in, which checks the range: 32 bits for the narrow integers too,
    which then lose their upper bits, as in TF Serving. Doubles out of a float's range become infinite.
    """

    kinds: frozenset[type]
    typecode: str
    dtype: type[np.generic]

    def accepts(self, value: JsonValue) -> bool:
        if type(value) not in self.kinds:
            return False
        try:
            self.to_array([value])
        except OverflowError:
            return False
        return True

    def to_array(self, values: Sequence[Any]) -> NDArray[Any]:
        """Raises OverflowError for an integer out of range."""
        return np.asarray(array(self.typecode, values)).astype(self.dtype, copy=False)

    def convert(self, numbers: NDArray[Any]) -> NDArray[Any] | None:
        """As `to_array`, but None where that or `accepts` would refuse."""
        if self.kinds == _NUMBER:
            with np.errstate(over="ignore"):
                return numbers.astype(np.float64, copy=False).astype(self.dtype, copy=False)
        limits = np.iinfo(self.typecode)
        if numbers.dtype != np.int64 or int(numbers.min()) < limits.min or int(numbers.max()) > limits.max:
            return None
        return numbers.astype(self.dtype, copy=False)


_NUMBERS = {
    DataType.DT_FLOAT: _Numbers(_NUMBER, "f", np.float32),
    DataType.DT_DOUBLE: _Numbers(_NUMBER, "d", np.float64),
    DataType.DT_INT8: _Numbers(_INT, "i", np.int8),
    DataType.DT_UINT8: _Numbers(_INT, "i", np.uint8),
    DataType.DT_INT16: _Numbers(_INT, "i", np.int16),
    DataType.DT_INT32: _Numbers(_INT, "i", np.int32),
    DataType.DT_INT64: _Numbers(_INT, "q", np.int64),
    DataType.DT_UINT32: _Numbers(_INT, "I", np.uint32),
    DataType.DT_UINT64: _Numbers(_INT, "Q", np.uint64),
}
_STRING_KINDS = {str, dict}
_BOOL_KINDS = {bool}


def dense_array(value: JsonValue | NDArray[Any], dtype: DataType) -> NDArray[Any] | None:
    """The tensor that `value` is, or None when it is not one: `read_tensor` then says why.

    Numbers may come as a NumberArray, or in a list of them; those `read_tensor` does not know.
    """
    if isinstance(value, np.ndarray):
        numbers = _NUMBERS.get(dtype)
        return None if numbers is None else numbers.convert(value)
    level: list[JsonValue]
    if type(value) is list:
        level = value
        shape = [len(value)]
        kinds = set(map(type, level))
        while kinds == _LIST:
            sizes = set(map(len, level))  # type: ignore[arg-type]
            if len(sizes) > 1 or len(shape) == MAX_RANK:
                return None
            shape.append(sizes.pop())
            level = list(chain.from_iterable(level))  # type: ignore[arg-type]
            kinds = set(map(type, level))
    else:
        level = [value]
        shape = []
        kinds = {type(value)}

    numbers = _NUMBERS.get(dtype)
    if numbers is not None:
        if kinds == _ARRAY:
            return _stack(level, numbers)
        if not kinds <= numbers.kinds:
            return None
        try:
            flat = numbers.to_array(level)
        except OverflowError:
            return None
    elif dtype is DataType.DT_STRING and kinds <= _STRING_KINDS:
        try:
            flat = string_array([_read_leaf(leaf, dtype) for leaf in level])
        except InvalidArgument:
            return None
    elif dtype is DataType.DT_BOOL and kinds <= _BOOL_KINDS:
        flat = np.array(level, dtype=np.bool_)
    else:
        return None
    return flat if len(shape) == 1 else flat.reshape(shape)


def read_tensor(value: JsonValue, dtype: DataType) -> tuple[Shape, list[Any]]:
    """The shape of `value` and its values in order, ready for `to_array`.

    Raises InvalidArgument (ragged, wrong type, bad base64) or Unimplemented (a type that JSON has no values for).
    """
    shape = _shape_of_first_elements(value)
    if len(shape) > MAX_RANK:
        raise InvalidArgument(f"Lists are nested {len(shape)} deep, tensors have at most {MAX_RANK} dimensions")
    values: list[Any] = []
    _fill(value, 0, shape, dtype, values)
    return shape, values


def to_array(values: Sequence[Any], shape: Shape, dtype: DataType) -> NDArray[Any]:
    """The array of values that `read_tensor` returned."""
    numbers = _NUMBERS.get(dtype)
    if numbers is not None:
        return numbers.to_array(values).reshape(shape)
    if dtype is DataType.DT_STRING:
        return string_array(list(values), shape)
    if dtype is DataType.DT_BOOL:
        return np.array(values, dtype=np.bool_).reshape(shape)
    raise _unsupported([], dtype)


def _stack(rows: Sequence[Any], numbers: _Numbers) -> NDArray[Any] | None:
    shapes = {row.shape for row in rows}
    if len(shapes) > 1 or len(shapes.pop()) == MAX_RANK:
        return None
    converted = [numbers.convert(row) for row in rows]
    return None if any(row is None for row in converted) else np.stack(converted)  # type: ignore[arg-type]


def _shape_of_first_elements(value: JsonValue) -> Shape:
    shape: list[int] = []
    while type(value) is list:
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _fill(value: JsonValue, level: int, shape: Shape, dtype: DataType, values: list[Any]) -> None:
    rank = len(shape)
    if type(value) is not list:
        if level != rank:
            raise InvalidArgument(
                f"JSON Value: {quoted(value)} found at incorrect level: {level + 1} in the JSON DOM. Expected at level: {rank}"
            )
        values.append(_read_leaf(value, dtype))
        return
    if level >= rank:
        raise InvalidArgument(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != shape[level]:
        raise InvalidArgument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for element in value:
        _fill(element, level + 1, shape, dtype, values)


def _read_leaf(value: JsonValue, dtype: DataType) -> Any:
    numbers = _NUMBERS.get(dtype)
    if numbers is not None:
        if numbers.accepts(value):
            return value
    elif dtype is DataType.DT_STRING:
        if type(value) is str or is_base64_object(value):
            return _string(value)
        if type(value) is dict:
            raise InvalidArgument(f"JSON Value: {quoted(value)} not formatted correctly for base64 data")
    elif dtype is DataType.DT_BOOL:
        if type(value) is bool:
            return value
    elif type(value) is not dict:
        raise _unsupported(value, dtype)
    raise InvalidArgument(f"JSON Value: {quoted(value)} Type: {type_name(value)} is not of expected type: {dtype.label}")


def _unsupported(value: JsonValue, dtype: DataType) -> Unimplemented:
    return Unimplemented(f"Conversion of JSON Value: {quoted(value)} to type: {dtype.label}")


def _string(leaf: Any) -> bytes:
    return leaf.encode("utf-8", "surrogateescape") if type(leaf) is str else decode_base64_object(leaf)
