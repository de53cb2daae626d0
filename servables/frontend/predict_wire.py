"""Predict's messages straight between bytes and arrays: a reader and a writer of protobuf's wire format.

    read_predict_request(request_bytes)      -> what the request says, or None
    write_predict_response(prediction, ...)  -> the bytes of a PredictResponse

Making messages of a small request and taking them apart again costs several times what is in it. The reader knows only the
way that protobuf's own writers go: each field once, in order, tensors with a shape. Whatever else may be in a request, and
all that is wrong with one, is left to the message classes: the reader says None, and who asked parses the message. Parts that
come again and again, as a model's name or a tensor's type and shape, are parsed once by the message classes, and remembered by
their bytes.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from cluster.core.errors import AspiredError
from cluster.core.servable_id import ServableId
from cluster.protos import ModelSpec as ModelSpecMessage
from cluster.protos import PredictRequest, PredictResponse, TensorProto
from servables.frontend.inference import ModelSpec, Prediction
from servables.proto_codec import array_to_tensor, tensor_to_array, varint
from servables.servable import Array
from servables.tensors import DataType, to_numpy

Buffer = bytes | memoryview

_REMEMBERED = 4096  # parts of each kind
_LONGEST_REMEMBERED = 0x7F  # bytes of a part; their number takes one byte then
_COPIED_BYTES = 16 * 1024  # below this, copying an array is cheaper than a view of it
_MAX_RANK = 32


def _tag(message_type: Any, field: str) -> int:
    """What stands before a field that says its length."""
    return int(message_type.DESCRIPTOR.fields_by_name[field].number << 3 | 2)


_MODEL_SPEC, _INPUTS, _OUTPUT_FILTER = (_tag(PredictRequest, name) for name in ("model_spec", "inputs", "output_filter"))
_OUTPUTS = _tag(PredictResponse, "outputs")
_KEY, _VALUE = 0x0A, 0x12  # of every map's entries
_SHAPE, _CONTENT = (_tag(TensorProto, name) for name in ("tensor_shape", "tensor_content"))
_DTYPE = 0x08  # before a number, not a length
_OUTPUTS_TAG, _VALUE_TAG = bytes((_OUTPUTS,)), bytes((_VALUE,))
_DATA_TYPES = frozenset(DataType)

# Types whose values in their typed field are an array's bytes.
_PACKED = {
    DataType.DT_FLOAT: _tag(TensorProto, "float_val"),
    DataType.DT_DOUBLE: _tag(TensorProto, "double_val"),
    DataType.DT_COMPLEX64: _tag(TensorProto, "scomplex_val"),
    DataType.DT_COMPLEX128: _tag(TensorProto, "dcomplex_val"),
    DataType.DT_BOOL: _tag(TensorProto, "bool_val"),
}


class PredictFields(NamedTuple):
    """What a PredictRequest says. An input is an array, which may be a view of the request's bytes, or a TensorProto."""

    spec: ModelSpec
    inputs: dict[str, Array | TensorProto]
    output_filter: list[str]


class _Unusual(Exception):
    """Not for this reader."""


def read_predict_request(request_bytes: bytes) -> PredictFields | None:
    """The fields of a request; None when only its message class can tell what they are, or what is wrong with it."""
    try:
        return _request(request_bytes)
    except (_Unusual, IndexError, UnicodeDecodeError, DecodeError, AspiredError):
        return None


def input_array(value: Array | TensorProto) -> Array:
    """One of the inputs, as `tensor_to_array` reads it, and with its errors."""
    return value if isinstance(value, np.ndarray) else tensor_to_array(value)


def write_predict_response(prediction: Prediction, *, tensor_content: bool) -> bytes:
    """The serialized PredictResponse. `tensor_content`: tensors carry raw bytes in place of typed fields.

    Raises InvalidArgument for an output that is no tensor.
    """
    pieces: list[Buffer] = []
    for alias, array in prediction.outputs.items():
        head, values = _tensor_pieces(array, prediction.signature.outputs[alias].dtype, tensor_content)
        key = _map_key(alias)
        size = len(head) + len(values)
        value = _VALUE_TAG + varint(size)
        pieces += (_OUTPUTS_TAG, varint(len(key) + len(value) + size), key, value, head, values)
    pieces.append(_answering_spec(prediction.id, prediction.signature_name))
    return b"".join(pieces)


def _request(data: bytes) -> PredictFields:
    spec: ModelSpec | None = None
    inputs: dict[str, Array | TensorProto] = {}
    output_filter: list[str] = []
    at, end = 0, len(data)
    while at < end:
        tag = data[at]
        size = data[at + 1]
        at += 2
        if size > 0x7F:
            size, at = _long_size(data, at - 1)
        stop = at + size
        if stop > end:
            raise _Unusual
        if tag == _INPUTS:
            _read_input(data, at, stop, inputs)
        elif tag == _MODEL_SPEC and spec is None and size <= _LONGEST_REMEMBERED:
            spec = _model_spec(data[at:stop])
        elif tag == _OUTPUT_FILTER and size <= _LONGEST_REMEMBERED:
            output_filter.append(_name(data[at:stop]))
        else:
            raise _Unusual
        at = stop
    if spec is None:
        raise _Unusual
    return PredictFields(spec, inputs, output_filter)


def _read_input(data: bytes, at: int, end: int, inputs: dict[str, Array | TensorProto]) -> None:
    """One entry of the map: a short key, then its tensor."""
    key_size = data[at + 1]
    key_end = at + 2 + key_size
    if data[at] != _KEY or key_size > _LONGEST_REMEMBERED or key_end >= end or data[key_end] != _VALUE:
        raise _Unusual
    size, start = _long_size(data, key_end + 1)
    if start + size != end:
        raise _Unusual
    inputs[_name(data[at + 2 : key_end])] = _tensor(data, start, end)


def _tensor(data: bytes, start: int, end: int) -> Array | TensorProto:
    """The array of a type, a shape, and all values in one run; the message if there is anything else."""
    # dtype and shape are `08 <type> 12 <size> <shape>`.
    if end - start >= 4 and data[start] == _DTYPE and data[start + 2] == _SHAPE and data[start + 3] <= _LONGEST_REMEMBERED:
        values_at = start + 4 + data[start + 3]
        if values_at + 1 < end:
            layout = _layout(data[start:values_at])
            if layout is not None and data[values_at] in layout.tags:
                size, at = _long_size(data, values_at + 1)
                if size == layout.size_bytes and at + size == end:
                    return np.ndarray(layout.shape, layout.numpy_type, data, at)
    return TensorProto.FromString(data[start:end])


def _long_size(data: bytes, at: int) -> tuple[int, int]:
    """The length that is written at `at`, and where it ends."""
    size = shift = 0
    while True:
        byte = data[at]
        at += 1
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            return size, at
        shift += 7
        if shift > 28:
            raise _Unusual


class _Layout(NamedTuple):
    """How a tensor's values lie that come in one run, and the fields that may hold them."""

    shape: tuple[int, ...]
    numpy_type: np.dtype[Any]
    size_bytes: int
    tags: tuple[int, ...]


@lru_cache(_REMEMBERED)
def _layout(head: bytes) -> _Layout | None:
    """Of a tensor that begins so; None if its values need more than a look."""
    tensor = TensorProto.FromString(head)
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if tensor.tensor_shape.unknown_rank or len(shape) > _MAX_RANK or any(size <= 0 for size in shape):
        return None
    # Over a client's bytes an array of strings would be an array of pointers that the client has chosen.
    if head[1] > 0x7F or tensor.dtype not in _DATA_TYPES or tensor.dtype == DataType.DT_STRING:
        return None
    dtype = DataType(tensor.dtype)
    numpy_type = to_numpy(dtype)
    # A boolean may come as any number, whose bytes are no array's.
    tags = (_CONTENT, _PACKED[dtype]) if dtype in _PACKED and dtype is not DataType.DT_BOOL else (_CONTENT,)
    return _Layout(shape, numpy_type, math.prod(shape) * numpy_type.itemsize, tags)


@lru_cache(_REMEMBERED)
def _model_spec(encoded: bytes) -> ModelSpec:
    message = ModelSpecMessage.FromString(encoded)
    choice = message.WhichOneof("version_choice")
    version = message.version.value if choice == "version" else None
    label = message.version_label if choice == "version_label" else None
    return ModelSpec(message.name, version, label, message.signature_name)


@lru_cache(_REMEMBERED)
def _name(encoded: bytes) -> str:
    return encoded.decode()


def _tensor_pieces(array: Array, dtype: DataType, as_content: bool) -> tuple[bytes, Buffer]:
    """A TensorProto's bytes: what says its type, shape and size, and its values."""
    tag = _CONTENT if as_content and dtype is not DataType.DT_STRING else _PACKED.get(dtype)
    if tag is None:
        return b"", bytes(array_to_tensor(array, dtype, as_content=as_content).SerializeToString())
    array = np.asarray(array, to_numpy(dtype))
    return _tensor_head(dtype, array.shape, tag, array.nbytes), _raw_bytes(array)


def _raw_bytes(array: Array) -> Buffer:
    if array.nbytes <= _COPIED_BYTES:
        return array.tobytes()
    # By way of uint8, because ml_dtypes' types have no buffer protocol.
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


@lru_cache(_REMEMBERED)
def _tensor_head(dtype: DataType, shape: tuple[int, ...], tag: int, size_bytes: int) -> bytes:
    tensor = TensorProto(dtype=dtype)
    tensor.tensor_shape.SetInParent()
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return b"".join((tensor.SerializeToString(), bytes((tag,)), varint(size_bytes)))


@lru_cache(_REMEMBERED)
def _map_key(alias: str) -> bytes:
    encoded = alias.encode()
    return b"".join((bytes((_KEY,)), varint(len(encoded)), encoded))


@lru_cache(_REMEMBERED)
def _answering_spec(servable: ServableId, signature_name: str) -> bytes:
    response = PredictResponse()
    response.model_spec.name = servable.name
    response.model_spec.version.value = servable.version
    response.model_spec.signature_name = signature_name
    return bytes(response.SerializeToString())
