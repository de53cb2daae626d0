"""The reply to `:predict` (json_tensor.cc, MakeJsonFromTensors).

The layout is RapidJSON's pretty print with four spaces. In row format what a row holds is on one line; in columnar format every
value has its own line.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from cluster.core.errors import InvalidArgument
from servables.json_codec.decimals import decimal_json, float32_texts, float64_texts, is_bulk
from servables.json_codec.strings import string_json
from servables.tensors import DataType, from_numpy

_BYTES_SUFFIX = "_bytes"
_INDENT = b"    "

_FLOAT_TEXTS = {np.dtype(np.float32): float32_texts, np.dtype(np.float64): float64_texts}
_PLAIN_DTYPES = frozenset(map(np.dtype, (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint32, np.uint64, np.bool_)))


def encode_predictions(outputs: Mapping[str, NDArray[Any]], row_format: bool) -> bytes:
    """The reply body for tensors by output alias; strings are arrays of bytes objects, or of NumPy's own string types.

    Raises InvalidArgument: no outputs, a type that JSON has no text for and, in row format, outputs that are not batches of
    one size.
    """
    if not outputs:
        raise InvalidArgument("Cannot convert empty tensor map to JSON")
    return _encode_rows(outputs) if row_format else _encode_columns(outputs)


def _encode_rows(outputs: Mapping[str, NDArray[Any]]) -> bytes:
    batch_size = _batch_size(outputs)
    if batch_size == 0:
        return b'{\n    "predictions": []\n}'
    if len(outputs) == 1:
        ((alias, tensor),) = outputs.items()
        return b'{\n    "predictions": [%b\n    ]\n}' % _elements(tensor, alias)
    columns = [
        [b"            %b: %b" % (string_json(alias.encode()), row) for row in _rows(tensor, alias)]
        for alias, tensor in outputs.items()
    ]
    rows = b",".join([b"\n        {\n%b\n        }" % b",\n".join(row) for row in zip(*columns, strict=True)])
    return b'{\n    "predictions": [%b\n    ]\n}' % rows


def _batch_size(outputs: Mapping[str, NDArray[Any]]) -> int:
    batch_size = -1
    for alias, tensor in outputs.items():
        if tensor.ndim == 0:
            raise InvalidArgument(f"Tensor name: {alias} has no shape information ")
        if batch_size not in (-1, tensor.shape[0]):
            raise InvalidArgument(
                f"Tensor name: {alias} has inconsistent batch size: {tensor.shape[0]} expecting: {batch_size}"
            )
        batch_size = tensor.shape[0]
    return batch_size


def _encode_columns(outputs: Mapping[str, NDArray[Any]]) -> bytes:
    if len(outputs) == 1:
        ((alias, tensor),) = outputs.items()
        return b'{\n    "outputs": %b\n}' % _expanded(tensor, alias, 1)
    members = [
        b"\n        %b: %b" % (string_json(alias.encode()), _expanded(tensor, alias, 2)) for alias, tensor in outputs.items()
    ]
    return b'{\n    "outputs": {%b\n    }\n}' % b",".join(members)


def _elements(tensor: NDArray[Any], alias: str) -> bytes:
    """The elements of a batch on one line, without the brackets around them."""
    if tensor.dtype in _PLAIN_DTYPES:
        return _plain_json(tensor)[1:-1].replace(b",", b", ")
    to_texts = _FLOAT_TEXTS.get(tensor.dtype)
    if to_texts is not None:
        if is_bulk(tensor.size):
            return decimal_json(tensor)[1:-1].replace(b",", b", ")
        if tensor.ndim == 1:
            return ", ".join(to_texts(tensor.tolist())).encode()
    return b", ".join(_group_in_line(_texts(tensor, alias, 1), tensor.shape))


def _rows(tensor: NDArray[Any], alias: str) -> list[bytes]:
    return _group_in_line(_texts(tensor, alias, 2), tensor.shape)


def _group_in_line(texts: list[bytes], shape: tuple[int, ...]) -> list[bytes]:
    """Joins the texts of all values, dimension by dimension from the innermost, to the texts of the elements of the first."""
    for axis in range(len(shape) - 1, 0, -1):
        size = shape[axis]
        texts = [
            b"[%b]" % b", ".join(texts[start : start + size])
            for start in (range(0, len(texts), size) if size else range(prod(shape[:axis])))
        ]
    return texts


def _expanded(tensor: NDArray[Any], alias: str, depth: int) -> bytes:
    """A tensor with each value on its own line, inside `depth` containers."""
    texts = _texts(tensor, alias, depth)
    shape = tensor.shape
    for axis in range(tensor.ndim - 1, -1, -1):
        size = shape[axis]
        if size == 0:
            texts = [b"[]"] * prod(shape[:axis])
            continue
        line = b"\n" + _INDENT * (depth + axis + 1)
        end = b"\n" + _INDENT * (depth + axis)
        separator = b"," + line
        texts = [b"[%b%b%b]" % (line, separator.join(texts[start : start + size]), end) for start in range(0, len(texts), size)]
    return texts[0]


def _texts(tensor: NDArray[Any], alias: str, depth: int) -> list[bytes]:
    """The text of every value, in row-major order; the tensor is inside `depth` containers."""
    if tensor.size == 0:
        return []
    to_texts = _FLOAT_TEXTS.get(tensor.dtype)
    if to_texts is not None:
        if is_bulk(tensor.size):
            return decimal_json(tensor.reshape(-1))[1:-1].split(b",")
        return ",".join(to_texts(tensor.reshape(-1).tolist())).encode().split(b",")
    if tensor.dtype in _PLAIN_DTYPES:
        return _plain_json(tensor.reshape(-1))[1:-1].split(b",")
    data_type = from_numpy(tensor.dtype)
    if data_type is DataType.DT_STRING:
        strings = (np.char.encode(tensor, "utf-8") if tensor.dtype.kind == "U" else tensor).reshape(-1).tolist()
        if not alias.endswith(_BYTES_SUFFIX):
            return list(map(string_json, strings))
        indent = _INDENT * (depth + tensor.ndim)
        return [b'{\n%b    "b64": "%b"\n%b}' % (indent, base64.b64encode(string), indent) for string in strings]
    raise InvalidArgument(f"Failed to write JSON value for tensor type: {data_type.label}")


def _plain_json(tensor: NDArray[Any]) -> bytes:
    return orjson.dumps(np.ascontiguousarray(tensor), option=orjson.OPT_SERIALIZE_NUMPY)
