"""The frame format: many calls, or many replies, as one run of bytes between a frontend and a replica.

    header    magic, version, kind, number of entries, sizes of all that follows
    metadata  for each call:   id, time left, layout
              for each reply:  id, status, layout
              a layout says what is the same in call after call, so that it is made and read once: the signature name and output
              aliases of a call, then dtype, shape and alias of each tensor; the sizes of string tensors come behind it
    data      the tensors' bytes in the same order, each at the next multiple of 64 from the frame's start

Little-endian, as the machines we run on. A string tensor's data are its elements' ends as uint64, then the elements.
Numbers decode to views of the frame, read-only if the frame is; no size is believed before the bytes are there, so decoding
allocates no more than a small multiple of the frame's own size.

Both ends are processes of one server, so their versions are the same; the decoders trust nothing all the same.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cluster.core.errors import AspiredError, Code, DataLoss, InvalidArgument, Status
from servables.call import Call, Reply
from servables.tensors import DataType, from_numpy, string_array, to_numpy

Buffer = bytes | bytearray | memoryview
"""Bytes that need not be copied; `len` counts bytes."""

_Array = NDArray[Any]

ALIGNMENT_BYTES = 64
_MAGIC = b"ASPF"
_VERSION = 2
_CALLS, _REPLIES = 1, 2
_COPIED_BYTES = 16 * 1024  # below this, copying a tensor is cheaper than one more buffer
_CACHED_LAYOUT_BYTES = 1024  # clients choose the shapes, and so what is kept

_HEADER = struct.Struct("<4sHHIQQ")  # magic, version, kind, entries, metadata's end, frame's end
_CALL = struct.Struct("<QdI")  # id, seconds left (nan: for ever), size of the layout
_REPLY = struct.Struct("<QIII")  # id, status code, size of the message, size of the layout
_TENSOR = struct.Struct("<HHI")  # dtype, rank, size of the alias
_SIZE = struct.Struct("<Q")
_SHAPES = [struct.Struct(f"<{rank}Q") for rank in range(65)]
_UINT32 = struct.Struct("<I")
_PADDING = [bytes(size) for size in range(ALIGNMENT_BYTES)]

_STRING = int(DataType.DT_STRING)
_NUMPY_STRING = np.dtype(np.object_)
_STRING_END = np.dtype("<u8")
_OK = Status()

# What malformed bytes make struct, numpy, str and Code raise.
_MALFORMED = (struct.error, ValueError, TypeError, OverflowError, AspiredError)


def encode_calls(calls: Sequence[Call]) -> list[Buffer]:
    """A frame of calls, in pieces to be sent one after the other. Large tensors are not copied: leave them be until it is sent.

    Raises InvalidArgument for an array of a type that TensorFlow has not.
    """
    writer = _Writer()
    metadata = writer.metadata
    for call in calls:
        tensors, string_sizes = writer.add_data(call.inputs)
        layout = _encode_layout(tensors, call.signature_name, call.outputs)
        time_left_s = math.nan if call.timeout_s is None else call.timeout_s
        metadata += (_CALL.pack(call.call_id, time_left_s, len(layout)), layout, *string_sizes)
    return writer.frame(_CALLS, len(calls))


def decode_calls(frame: Buffer) -> list[Call]:
    """The calls of a frame; their arrays are views of it.

    Raises InvalidArgument for what is no frame of calls, DataLoss for a broken one.
    """
    reader = _Reader(frame, _CALLS)
    try:
        calls = [reader.call() for _ in range(reader.entries)]
    except _MALFORMED as error:
        raise DataLoss(f"Malformed frame: {error}") from error
    reader.check_end()
    return calls


def encode_replies(replies: Sequence[Reply]) -> list[Buffer]:
    """As `encode_calls`, but a reply whose outputs cannot be sent becomes an Internal error, so it costs the others nothing."""
    writer = _Writer()
    metadata = writer.metadata
    for reply in replies:
        code, message, outputs = reply.status.code, reply.status.message, reply.outputs
        mark = writer.mark()
        try:
            tensors, string_sizes = writer.add_data(outputs)
        except AspiredError as error:
            writer.rewind(mark)
            code, message = Code.INTERNAL, f"An output of the servable cannot be sent: {error.message}"
            tensors, string_sizes = (), ()
        layout = _encode_layout(tensors)
        encoded = message.encode("utf-8", "surrogatepass") if message else b""
        metadata += (_REPLY.pack(reply.call_id, code, len(encoded), len(layout)), encoded, layout, *string_sizes)
    return writer.frame(_REPLIES, len(replies))


def decode_replies(frame: Buffer) -> list[Reply]:
    """As `decode_calls`."""
    reader = _Reader(frame, _REPLIES)
    try:
        replies = [reader.reply() for _ in range(reader.entries)]
    except _MALFORMED as error:
        raise DataLoss(f"Malformed frame: {error}") from error
    reader.check_end()
    return replies


def join(buffers: Iterable[Buffer]) -> bytes:
    """The frame as one piece."""
    return b"".join(buffers)


class _Writer:
    """Collects metadata and data apart; `frame` puts them together."""

    __slots__ = ("data", "metadata", "size_bytes")

    def __init__(self) -> None:
        self.metadata: list[bytes] = []
        self.data: list[Buffer] = []
        self.size_bytes = 0  # of the data, padding included

    def add_data(self, tensors: Mapping[str, _Array]) -> tuple[tuple[_TensorKey, ...], Sequence[bytes]]:
        """Takes the tensors' bytes; returns what their layout is to say, and the sizes that it does not say."""
        data = self.data
        keys: list[_TensorKey] = []
        string_sizes: list[bytes] = []
        for alias, array in tensors.items():
            code = _CODES.get(array.dtype)
            if code is None:
                code, array = _native(alias, array)
            raw: Buffer
            if code == _STRING:
                raw = _encode_strings(alias, array)
                string_sizes.append(_SIZE.pack(len(raw)))
            else:
                raw = array.tobytes() if array.nbytes <= _COPIED_BYTES else _raw_bytes(array)
            keys.append((alias, code, array.shape))
            size = len(raw)
            padding = -size % ALIGNMENT_BYTES
            data.append(raw)
            if padding:
                data.append(_PADDING[padding])
            self.size_bytes += size + padding
        return tuple(keys), string_sizes

    def mark(self) -> tuple[int, int]:
        return len(self.data), self.size_bytes

    def rewind(self, mark: tuple[int, int]) -> None:
        """Drops what was added since `mark`."""
        data, self.size_bytes = mark
        del self.data[data:]

    def frame(self, kind: int, entries: int) -> list[Buffer]:
        metadata = b"".join(self.metadata)
        metadata_end = _HEADER.size + len(metadata)
        padding = -metadata_end % ALIGNMENT_BYTES
        end = metadata_end + padding + self.size_bytes
        head = b"".join((_HEADER.pack(_MAGIC, _VERSION, kind, entries, metadata_end, end), metadata, _PADDING[padding]))
        if self.size_bytes <= _COPIED_BYTES:
            return [b"".join((head, *self.data))]
        return [head, *self.data]


class _Reader:
    """Walks through metadata and data side by side."""

    __slots__ = ("_data_at", "_end", "_frame", "_metadata_end", "_position", "entries")

    def __init__(self, frame: Buffer, kind: int) -> None:
        self._frame = frame if type(frame) is bytes else memoryview(frame).cast("B")
        size = len(self._frame)
        if size < _HEADER.size:
            raise InvalidArgument(f"Not a frame: {size} bytes")
        magic, version, found_kind, self.entries, self._metadata_end, self._end = _HEADER.unpack_from(self._frame)
        if magic != _MAGIC or version != _VERSION or found_kind != kind:
            raise InvalidArgument(f"Not a frame of version {_VERSION} and kind {kind}")
        if self._end != size or not _HEADER.size <= self._metadata_end <= size:
            raise DataLoss(f"Malformed frame: {size} bytes of {self._end}")
        self._position = _HEADER.size
        self._data_at = self._metadata_end + -self._metadata_end % ALIGNMENT_BYTES

    def call(self) -> Call:
        call_id, time_left_s, layout_size = _CALL.unpack_from(self._frame, self._position)
        self._position += _CALL.size
        signature_name, outputs, tensors = _decode_call_layout(self._bytes(layout_size))
        arrays = self._arrays(tensors)
        return Call(call_id, signature_name, arrays, outputs, None if time_left_s != time_left_s else time_left_s)

    def reply(self) -> Reply:
        call_id, code, message_size, layout_size = _REPLY.unpack_from(self._frame, self._position)
        self._position += _REPLY.size
        status = _OK
        if code or message_size:
            status = Status(Code(code), self._bytes(message_size).decode("utf-8", "surrogatepass"))
        return Reply(call_id, self._arrays(_decode_reply_layout(self._bytes(layout_size))), status)

    def check_end(self) -> None:
        """What the header announced has been read, and no more."""
        if self._position != self._metadata_end or self._data_at != self._end:
            raise DataLoss("Malformed frame: its sizes do not add up")

    def _arrays(self, tensors: Sequence[_TensorLayout]) -> dict[str, _Array]:
        arrays: dict[str, _Array] = {}
        frame, end = self._frame, self._end
        for alias, dtype, shape, size in tensors:
            if dtype is None:
                (size,) = _SIZE.unpack(self._bytes(_SIZE.size))
            at = self._data_at
            after = at + size
            self._data_at = after = after + -after % ALIGNMENT_BYTES
            if after > end:
                raise DataLoss("a tensor goes on behind the end")
            if dtype is None:
                arrays[alias] = _decode_strings(frame, at, size, shape)
            else:
                arrays[alias] = np.ndarray(shape, dtype, frame, at)
        return arrays

    def _bytes(self, size: int) -> bytes:
        start = self._position
        self._position = end = start + size
        if end > self._metadata_end:
            raise DataLoss("metadata goes on behind its end")
        return bytes(self._frame[start:end])


_TensorKey = tuple[str, int, tuple[int, ...]]
"""What a layout says of a tensor: alias, dtype's number, shape."""


class _TensorLayout(NamedTuple):
    """`dtype` None: strings, whose `size` is not known from here."""

    alias: str
    dtype: np.dtype[Any] | None
    shape: tuple[int, ...]
    size: int


_CallLayout = tuple[str, tuple[str, ...], tuple[_TensorLayout, ...]]


@lru_cache(maxsize=4096)
def _encode_layout(tensors: tuple[_TensorKey, ...], signature_name: str | None = None, outputs: tuple[str, ...] = ()) -> bytes:
    """A call's layout, or a reply's, which has no signature."""
    parts = []
    if signature_name is not None:
        target = _encode_target(signature_name, outputs)
        parts += [_UINT32.pack(len(target)), target]
    for alias, code, shape in tensors:
        name = alias.encode("utf-8", "surrogatepass")
        parts += [_TENSOR.pack(code, len(shape), len(name)), _SHAPES[len(shape)].pack(*shape), name]
    return b"".join(parts)


def _decode_call_layout(layout: bytes) -> _CallLayout:
    return _short_call_layout(layout) if len(layout) <= _CACHED_LAYOUT_BYTES else _read_call_layout(layout)


def _decode_reply_layout(layout: bytes) -> tuple[_TensorLayout, ...]:
    return _short_reply_layout(layout) if len(layout) <= _CACHED_LAYOUT_BYTES else _read_tensors(layout)


def _read_call_layout(layout: bytes) -> _CallLayout:
    (target_size,) = _UINT32.unpack_from(layout)
    position = _UINT32.size + target_size
    if position > len(layout):
        raise DataLoss("a call's target goes on behind the end")
    return *_decode_target(layout[_UINT32.size : position]), _read_tensors(layout, position)


def _read_tensors(layout: bytes, position: int = 0) -> tuple[_TensorLayout, ...]:
    tensors = []
    while position < len(layout):
        code, rank, name_size = _TENSOR.unpack_from(layout, position)
        if rank >= len(_SHAPES):
            raise DataLoss(f"a tensor of rank {rank}")
        position += _TENSOR.size
        shape = _SHAPES[rank].unpack_from(layout, position)
        position += 8 * rank + name_size
        if position > len(layout):
            raise DataLoss("a name goes on behind the end")
        alias = layout[position - name_size : position].decode("utf-8", "surrogatepass")
        if code == _STRING:
            tensors.append(_TensorLayout(alias, None, shape, 0))
        else:
            dtype = _DTYPES.get(code) or _dtype(code)
            tensors.append(_TensorLayout(alias, dtype, shape, math.prod(shape) * dtype.itemsize))
    return tuple(tensors)


_short_call_layout = lru_cache(maxsize=4096)(_read_call_layout)
_short_reply_layout = lru_cache(maxsize=4096)(_read_tensors)


def _encode_target(signature_name: str, outputs: tuple[str, ...]) -> bytes:
    names = [name.encode("utf-8", "surrogatepass") for name in (signature_name, *outputs)]
    return b"".join(part for name in names for part in (_UINT32.pack(len(name)), name))


def _decode_target(encoded: bytes) -> tuple[str, tuple[str, ...]]:
    names = []
    position = 0
    while position < len(encoded):
        (size,) = _UINT32.unpack_from(encoded, position)
        start = position + _UINT32.size
        position = start + size
        if position > len(encoded):
            raise DataLoss("a name goes on behind the end")
        names.append(encoded[start:position].decode("utf-8", "surrogatepass"))
    if not names:
        raise DataLoss("a call without a signature")
    return names[0], tuple(names[1:])


# Filled as types come up, since those of ml_dtypes are imported on demand.
_DTYPES: dict[int, np.dtype[Any]] = {}
_CODES: dict[np.dtype[Any], int] = {_NUMPY_STRING: _STRING}


def _dtype(code: int) -> np.dtype[Any]:
    dtype = to_numpy(DataType(code))
    # Only the one of several types that an encoder writes.
    if from_numpy(dtype) != code:
        raise DataLoss(f"type {code}")
    _DTYPES[code] = dtype
    return dtype


def _native(alias: str, array: _Array) -> tuple[int, _Array]:
    """The code of a type seen for the first time, or of an array in foreign byte order, with the array in ours."""
    try:
        data_type = from_numpy(array.dtype)
    except AspiredError as error:
        raise InvalidArgument(f"{alias}: {error.message}") from error
    dtype = to_numpy(data_type)
    _CODES[dtype] = int(data_type)
    return int(data_type), array.astype(dtype, copy=False)


def _raw_bytes(array: _Array) -> Buffer:
    # By way of uint8, because ml_dtypes' types have no buffer protocol.
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _encode_strings(alias: str, array: _Array) -> bytes:
    elements = array.ravel().tolist()
    try:
        ends = np.fromiter(accumulate(map(len, elements)), _STRING_END, len(elements))
        return b"".join((ends.tobytes(), *elements))
    except TypeError as error:
        raise InvalidArgument(f"{alias}: elements of a string tensor must be bytes") from error


def _decode_strings(frame: bytes | memoryview, at: int, size: int, shape: tuple[int, ...]) -> NDArray[np.object_]:
    count = math.prod(shape)
    first = 8 * count
    if first > size:
        raise DataLoss(f"{size} bytes for a tensor of string{list(shape)}")
    ends = np.ndarray((count,), _STRING_END, frame, at)
    if (int(ends[-1]) if count else 0) != size - first or (ends[1:] < ends[:-1]).any():
        raise DataLoss("the ends of a tensor's strings")
    text = bytes(frame[at + first : at + size])
    starts = [0, *ends.tolist()]
    return string_array([text[start:end] for start, end in pairwise(starts)], shape)
