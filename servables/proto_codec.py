"""TensorProtos to numpy arrays and back (TensorFlow: `Tensor::FromProto`, `core/framework/tensor.cc`).

A TensorProto's values are raw bytes in `tensor_content`, or one by one in the typed field of its dtype; a client may send
either.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.core.errors import InvalidArgument
from cluster.protos import TensorProto
from servables.tensors import DataType, string_array, to_numpy

MAX_EXPANDED_BYTES = 256 << 20
"""How large a tensor may be that has fewer values than elements.

TensorFlow knows no limit but memory, so that a request of some bytes can ask for all there is. Larger tensors have to be sent
in full.
"""

_Array = NDArray[Any]

_MAX_RANK = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32  # NumPy's; TensorFlow's is 254
_MAX_BYTES = 2**63 - 1
_FEW = 32


def tensor_to_array(tensor: Any) -> _Array:
    """The array that a TensorProto describes, read-only if that saves a copy; strings are an object array of `bytes`.

    As in TensorFlow, missing values repeat the last one, no value at all means zeros (or empty strings), surplus values are
    ignored and integers lose their upper bits. `tensor` may be of our own class or of TensorFlow's. Raises InvalidArgument
    for what is no tensor, Unimplemented for a dtype that cannot be fed.
    """
    data_type = _data_type(tensor.dtype)
    numpy_type = to_numpy(data_type)
    shape = _shape(tensor.tensor_shape, numpy_type.itemsize)
    count = math.prod(shape)
    if count == 0:
        return np.empty(shape, numpy_type)
    content = tensor.tensor_content
    if data_type is DataType.DT_STRING:
        strings = _split_strings(content, count) if content else tensor.string_val
        return _expand_strings(strings, count, shape)
    if content:
        if len(content) != count * numpy_type.itemsize:
            raise InvalidArgument(
                f"tensor_content of {len(content)} bytes for {count} elements of type {data_type.label}, "
                f"which take {count * numpy_type.itemsize}"
            )
        return np.frombuffer(content, numpy_type).reshape(shape)
    return _expand(_FIELDS[data_type].read(tensor, numpy_type), count, shape, numpy_type)


def array_to_tensor(array: _Array, dtype: DataType, *, as_content: bool) -> TensorProto:
    """The TensorProto of `array`, whose type is that of `dtype` (another one is cast).

    With `as_content` it holds raw bytes, else one value for each element in the typed field: so TF Serving answers, and some
    clients count the values. Strings always go one by one. Raises InvalidArgument for strings that are not bytes.
    """
    tensor = TensorProto(dtype=dtype)
    shape = tensor.tensor_shape
    shape.SetInParent()
    for size in array.shape:
        shape.dim.add(size=size)
    if dtype is DataType.DT_STRING:
        try:
            tensor.string_val.extend(array.ravel().tolist())
        except TypeError as error:
            raise InvalidArgument(f"Elements of a string tensor must be bytes: {error}") from error
        return tensor
    array = np.asarray(array, to_numpy(dtype))
    if as_content:
        tensor.tensor_content = array.tobytes()
    elif array.size:
        _FIELDS[dtype].write(tensor, array)
    return tensor


def _data_type(number: int) -> DataType:
    try:
        data_type = DataType(number)
    except ValueError:
        raise InvalidArgument(f"Tensor of unknown type {number}") from None
    if data_type is DataType.DT_INVALID:
        raise InvalidArgument("Tensor without a type")
    return data_type


def _shape(message: Any, itemsize: int) -> tuple[int, ...]:
    if message.unknown_rank:
        raise InvalidArgument("Tensor of unknown rank")
    shape = tuple([dim.size for dim in message.dim])
    if len(shape) > _MAX_RANK:
        raise InvalidArgument(f"Tensor of rank {len(shape)}; at most {_MAX_RANK} is possible")
    if any(size < 0 for size in shape):
        raise InvalidArgument(f"Tensor with a negative dimension: {list(shape)}")
    # Sizes next to a zero count too: NumPy cannot hold such an array either.
    if math.prod(filter(None, shape)) * itemsize > _MAX_BYTES:
        raise InvalidArgument(f"Tensor with too many elements: {list(shape)}")
    return shape


def _expand(values: _Array, count: int, shape: tuple[int, ...], numpy_type: np.dtype[Any]) -> _Array:
    if values.size >= count:
        return values[:count].reshape(shape)
    _check_expansion(values.size, count, count * numpy_type.itemsize)
    if values.size <= 1:
        one = values[0] if values.size else np.zeros((), numpy_type)
        return np.broadcast_to(one, shape)
    expanded = np.empty(count, numpy_type)
    expanded[: values.size] = values
    expanded[values.size :] = values[-1]
    return expanded.reshape(shape)


def _expand_strings(values: Any, count: int, shape: tuple[int, ...]) -> NDArray[np.object_]:
    if len(values) >= count:
        return string_array(values[:count], shape)
    last = values[-1] if len(values) else b""
    missing = count - len(values)
    _check_expansion(len(values), count, count * 8 + missing * len(last))
    return string_array([*values, *[last] * missing], shape)


def _check_expansion(values: int, count: int, size_bytes: int) -> None:
    if size_bytes > MAX_EXPANDED_BYTES:
        raise InvalidArgument(
            f"Tensor of {count} elements with {values} values, {size_bytes} bytes when expanded; "
            f"more than {MAX_EXPANDED_BYTES} must be sent in full"
        )


def _split_strings(content: bytes, count: int) -> list[bytes]:
    """Strings in `tensor_content`: all their sizes as varints, then all their bytes (TensorFlow: `DecodeStringList`)."""
    sizes = []
    size = shift = start = 0
    for position, byte in enumerate(content):
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte & 0x80:
            if shift > 28:
                break
            continue
        sizes.append(size)
        size = shift = 0
        if len(sizes) == count:
            start = position + 1
            break
    if len(sizes) != count or start + sum(sizes) != len(content):
        raise InvalidArgument(f"tensor_content of {len(content)} bytes does not hold {count} strings")
    strings = []
    for size in sizes:
        strings.append(content[start : start + size])
        start += size
    return strings


@dataclass(frozen=True, slots=True)
class _Field:
    """How a type's elements are kept in its typed field."""

    read: Callable[[Any, np.dtype[Any]], _Array]
    write: Callable[[Any, _Array], None]


def _values(repeated: Any, element: type[np.generic]) -> _Array:
    # np.array is quick only with many values.
    count = len(repeated)
    return np.fromiter(repeated, element, count) if count < _FEW else np.array(repeated, element)


def _fixed_width(name: str, element: type[np.generic], parts: int = 1) -> _Field:
    """A field whose packed form is an array's bytes, so a whole array is written at once; `parts` numbers make one element."""
    number = TensorProto.DESCRIPTOR.fields_by_name[name].number
    tag = bytes([number << 3 | 2])

    def read(tensor: Any, numpy_type: np.dtype[Any]) -> _Array:
        values = _values(getattr(tensor, name), element)
        return values[: values.size // parts * parts].view(numpy_type)

    def write(tensor: Any, array: _Array) -> None:
        tensor.MergeFromString(b"".join((tag, varint(array.nbytes), array.tobytes())))

    return _Field(read, write)


def _varints(name: str, element: type[np.generic], bits: type[np.generic] | None = None) -> _Field:
    """A field of numbers; with `bits` they are the elements' bit patterns, else their values."""

    def read(tensor: Any, numpy_type: np.dtype[Any]) -> _Array:
        values = _values(getattr(tensor, name), element)
        return values.astype(bits).view(numpy_type) if bits else values.astype(numpy_type, copy=False)

    def write(tensor: Any, array: _Array) -> None:
        flat = array.ravel()
        # tolist makes Python numbers much faster than protobuf takes NumPy's, but knows not all types of ml_dtypes.
        getattr(tensor, name).extend((flat.view(bits) if bits else flat.astype(element, copy=False)).tolist())

    return _Field(read, write)


def _float8() -> _Field:
    def read(tensor: Any, numpy_type: np.dtype[Any]) -> _Array:
        return np.frombuffer(tensor.float8_val, numpy_type)

    def write(tensor: Any, array: _Array) -> None:
        tensor.float8_val = array.tobytes()

    return _Field(read, write)


def varint(number: int) -> bytes:
    """A number, not negative, as protobuf's wire format has it."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


_INT = _varints("int_val", np.int32)
_BITS = _varints("half_val", np.int32, np.uint16)
_FLOAT8 = _float8()
_FIELDS = {
    DataType.DT_FLOAT: _fixed_width("float_val", np.float32),
    DataType.DT_DOUBLE: _fixed_width("double_val", np.float64),
    DataType.DT_COMPLEX64: _fixed_width("scomplex_val", np.float32, parts=2),
    DataType.DT_COMPLEX128: _fixed_width("dcomplex_val", np.float64, parts=2),
    DataType.DT_BOOL: _fixed_width("bool_val", np.bool_),
    DataType.DT_INT64: _varints("int64_val", np.int64),
    DataType.DT_UINT32: _varints("uint32_val", np.uint32),
    DataType.DT_UINT64: _varints("uint64_val", np.uint64),
    DataType.DT_HALF: _BITS,
    DataType.DT_BFLOAT16: _BITS,
    **dict.fromkeys(
        (
            DataType.DT_INT32,
            DataType.DT_INT16,
            DataType.DT_INT8,
            DataType.DT_UINT16,
            DataType.DT_UINT8,
            DataType.DT_QINT32,
            DataType.DT_QINT16,
            DataType.DT_QINT8,
            DataType.DT_QUINT16,
            DataType.DT_QUINT8,
            DataType.DT_INT4,
            DataType.DT_UINT4,
            DataType.DT_INT2,
            DataType.DT_UINT2,
        ),
        _INT,
    ),
    **dict.fromkeys(
        (
            DataType.DT_FLOAT8_E5M2,
            DataType.DT_FLOAT8_E4M3FN,
            DataType.DT_FLOAT8_E4M3FNUZ,
            DataType.DT_FLOAT8_E4M3B11FNUZ,
            DataType.DT_FLOAT8_E5M2FNUZ,
            DataType.DT_FLOAT4_E2M1FN,
        ),
        _FLOAT8,
    ),
}
