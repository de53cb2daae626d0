"""The frame format: what goes in comes out, and nothing else is believed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from cluster.core.errors import Code, DataLoss, InvalidArgument, Status
from servables.call import Call, Reply
from servables.frame import ALIGNMENT_BYTES, decode_calls, decode_replies, encode_calls, encode_replies, join
from servables.tensors import DataType, string_array, to_numpy

Array = NDArray[Any]

NAMES = st.text(max_size=8)
NUMBERS = st.sampled_from("?bBhHiIqQefdFD").flatmap(
    lambda code: npst.arrays(np.dtype(code), npst.array_shapes(min_dims=0, min_side=0))
)
STRINGS = st.lists(st.binary(max_size=20), max_size=5).map(string_array)
TENSORS = st.dictionaries(NAMES, NUMBERS | STRINGS, max_size=3)
CALLS = st.lists(
    st.builds(
        Call,
        call_id=st.integers(0, 2**64 - 1),
        signature_name=NAMES,
        inputs=TENSORS,
        outputs=st.lists(NAMES, max_size=3).map(tuple),
        timeout_s=st.none() | st.floats(allow_nan=False),
    ),
    max_size=3,
)
REPLIES = st.lists(
    st.builds(
        Reply,
        call_id=st.integers(0, 2**64 - 1),
        outputs=TENSORS,
        status=st.builds(Status, code=st.sampled_from(Code), message=st.text(max_size=20)),
    ),
    max_size=3,
)


def call(inputs: Mapping[str, Array], timeout_s: float | None = None) -> Call:
    return Call(7, "serving_default", inputs, ("y",), timeout_s)


def assert_same_tensors(actual: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    assert list(actual) == list(expected)
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype
        np.testing.assert_array_equal(actual[name], array, strict=True)


def calls_frame(*inputs: Array) -> bytes:
    return join(encode_calls([call({f"x{index}": array}) for index, array in enumerate(inputs)]))


@given(CALLS)
def test_calls_survive(calls: list[Call]) -> None:
    decoded = decode_calls(join(encode_calls(calls)))
    assert len(decoded) == len(calls)
    for actual, expected in zip(decoded, calls, strict=True):
        assert actual._replace(inputs={}) == expected._replace(inputs={})
        assert_same_tensors(actual.inputs, expected.inputs)


@given(REPLIES)
def test_replies_survive(replies: list[Reply]) -> None:
    decoded = decode_replies(join(encode_replies(replies)))
    assert len(decoded) == len(replies)
    for actual, expected in zip(decoded, replies, strict=True):
        assert (actual.call_id, actual.status) == (expected.call_id, expected.status)
        assert_same_tensors(actual.outputs, expected.outputs)


@pytest.mark.parametrize(
    "data_type", sorted(set(DataType) - {DataType.DT_INVALID, DataType.DT_STRING, DataType.DT_RESOURCE, DataType.DT_VARIANT})
)
@pytest.mark.parametrize("count", [3, 100_000])
def test_every_type_survives(data_type: DataType, count: int) -> None:
    array = (np.arange(count) % 2).astype(to_numpy(data_type))
    (decoded,) = decode_calls(calls_frame(array))
    assert decoded.inputs["x0"].dtype == array.dtype
    assert decoded.inputs["x0"].tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.int32).reshape(3, 4).T,
        np.arange(10.0)[::-2],
        np.broadcast_to(np.float32(2), (3, 5)),
        np.array([1.5, -2.5], ">f8"),
        np.array(3.0),
        np.arange(1_000_000, dtype=np.float32).reshape(1000, 1000).T,
        string_array([b"a", b"", b"\x00\xff", b"dd"], (2, 2)).T,
        string_array([], (0,)),
        string_array([b"scalar"], ()),
    ],
    ids=["transposed", "reversed", "broadcast", "big-endian", "scalar", "large", "strings", "no strings", "one string"],
)
def test_layout_does_not_matter(array: Array) -> None:
    (decoded,) = decode_calls(calls_frame(array))
    assert decoded.inputs["x0"].shape == array.shape
    assert decoded.inputs["x0"].tolist() == array.tolist()


def test_numbers_are_aligned_views_of_the_frame() -> None:
    frame = calls_frame(np.ones(3, np.float32), np.ones(5, np.complex128))
    start = np.frombuffer(frame, np.uint8).ctypes.data
    for decoded, name in zip(decode_calls(frame), ("x0", "x1"), strict=True):
        array = decoded.inputs[name]
        assert not array.flags.owndata
        assert not array.flags.writeable
        assert (array.ctypes.data - start) % ALIGNMENT_BYTES == 0


def test_large_tensors_are_not_copied() -> None:
    array = np.zeros(1_000_000, np.float32)
    buffers = encode_calls([call({"x": array})])
    assert any(
        isinstance(buffer, memoryview) and np.shares_memory(np.frombuffer(buffer, np.uint8), array) for buffer in buffers
    )
    assert sum(map(len, buffers)) == len(join(buffers))


def test_small_frames_are_one_piece() -> None:
    assert len(encode_calls([call({"x": np.zeros((1, 1), np.float32)})] * 10)) == 1


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, lambda frame: np.frombuffer(frame, np.uint8).data])
def test_any_kind_of_buffer_decodes(wrap: Callable[[bytes], Any]) -> None:
    frame = wrap(calls_frame(np.arange(3.0), string_array([b"a", b"bc"])))
    first, second = decode_calls(frame)
    assert first.inputs["x0"].tolist() == [0.0, 1.0, 2.0]
    assert second.inputs["x1"].tolist() == [b"a", b"bc"]


@pytest.mark.parametrize("timeout_s", [None, 0.0, -1.0, 0.25, float("inf")])
def test_time_left_survives(timeout_s: float | None) -> None:
    (decoded,) = decode_calls(join(encode_calls([call({}, timeout_s)])))
    assert decoded.timeout_s == timeout_s


def test_a_message_with_a_lone_surrogate_survives() -> None:
    reply = Reply(1, {}, Status(Code.INVALID_ARGUMENT, "bad \ud800 name"))
    assert decode_replies(join(encode_replies([reply]))) == [reply]


@pytest.mark.parametrize(
    "array", [np.array(["text"], np.object_), np.array([1], np.object_), np.array(["x"]), np.array([], "M8[s]")]
)
def test_a_call_that_cannot_be_sent_is_refused(array: Array) -> None:
    with pytest.raises(InvalidArgument, match="x0"):
        calls_frame(array)


def test_a_reply_that_cannot_be_sent_becomes_an_error_of_its_own() -> None:
    good, bad = np.ones(3, np.float32), np.array(["text"], np.object_)
    replies = decode_replies(
        join(encode_replies([Reply(1, {"y": good}), Reply(2, {"y": good, "z": bad}), Reply(3, {"y": good})]))
    )
    assert [reply.call_id for reply in replies] == [1, 2, 3]
    assert [reply.status.code for reply in replies] == [Code.OK, Code.INTERNAL, Code.OK]
    assert replies[1].outputs == {}
    assert "z: elements of a string tensor must be bytes" in replies[1].status.message
    assert replies[2].outputs["y"].tolist() == good.tolist()


@pytest.mark.parametrize("frame", [b"", b"ASPF", bytes(200), join(encode_replies([])), b"X" + join(encode_calls([]))[1:]])
def test_what_is_no_frame_of_calls_is_refused(frame: bytes) -> None:
    with pytest.raises(InvalidArgument, match="Not a frame"):
        decode_calls(frame)


@pytest.mark.parametrize("damage", [lambda frame: frame[:-1], lambda frame: frame + b"\x00", lambda frame: frame[:40]])
def test_a_frame_of_another_length_than_it_says_is_refused(damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(DataLoss, match="Malformed frame"):
        decode_calls(damage(calls_frame(np.ones(100))))


def patched(frame: bytes, at: int, layout: str, *values: int) -> bytes:
    changed = bytearray(frame)
    struct.pack_into(layout, changed, at, *values)
    return bytes(changed)


HEADER_BYTES, CALL_BYTES, TARGET_BYTES = 28, 24, 4 + len("serving_default") + 4 + 1
TENSOR_AT = HEADER_BYTES + CALL_BYTES + TARGET_BYTES
SHAPE_AT = TENSOR_AT + 8


@pytest.mark.parametrize(
    ("at", "layout", "value"),
    [
        pytest.param(8, "<I", 2**32 - 1, id="more calls than there are"),
        pytest.param(8, "<I", 0, id="fewer calls than there are"),
        pytest.param(12, "<Q", 2**63, id="metadata beyond the end"),
        pytest.param(HEADER_BYTES + 16, "<I", 2**32 - 1, id="long layout"),
        pytest.param(HEADER_BYTES + 16, "<I", 0, id="no layout"),
        pytest.param(HEADER_BYTES + 20, "<I", 2**32 - 1, id="long target"),
        pytest.param(HEADER_BYTES + 20, "<I", 0, id="no target"),
        pytest.param(TENSOR_AT, "<H", 0, id="no type"),
        pytest.param(TENSOR_AT, "<H", 999, id="unknown type"),
        pytest.param(TENSOR_AT, "<H", DataType.DT_RESOURCE, id="type without arrays"),
        pytest.param(TENSOR_AT, "<H", DataType.DT_QINT32, id="type never written"),
        pytest.param(TENSOR_AT, "<H", DataType.DT_STRING, id="numbers as strings"),
        pytest.param(TENSOR_AT + 2, "<H", 2, id="higher rank"),
        pytest.param(TENSOR_AT + 2, "<H", 65535, id="highest rank"),
        pytest.param(TENSOR_AT + 4, "<I", 2**32 - 1, id="long alias"),
        pytest.param(SHAPE_AT, "<Q", 2**63, id="huge shape"),
        pytest.param(SHAPE_AT, "<Q", 400, id="larger shape"),
    ],
)
def test_sizes_are_not_believed(at: int, layout: str, value: int) -> None:
    frame = calls_frame(np.arange(4, dtype=np.float32))
    with pytest.raises(DataLoss, match="Malformed frame"):
        decode_calls(patched(frame, at, layout, value))


@pytest.mark.parametrize("size", [0, 23, 2**64 - 1])
def test_sizes_of_string_tensors_are_not_believed(size: int) -> None:
    frame = calls_frame(string_array([b"a", b"b", b"cc"]))
    with pytest.raises(DataLoss):
        decode_calls(patched(frame, frame.index(struct.pack("<Q", 28), SHAPE_AT), "<Q", size))


@pytest.mark.parametrize("ends", [(3, 1, 4), (1, 2, 9), (2**63, 2**63, 4)], ids=["falling", "beyond", "huge"])
def test_ends_of_strings_are_not_believed(ends: Sequence[int]) -> None:
    frame = calls_frame(string_array([b"a", b"b", b"cc"]))
    with pytest.raises(DataLoss, match="ends of a tensor's strings"):
        decode_calls(patched(frame, frame.rindex(struct.pack("<3Q", 1, 2, 4)), "<3Q", *ends))


@given(st.binary(max_size=300))
def test_arbitrary_bytes_never_surprise(frame: bytes) -> None:
    for decode in (decode_calls, decode_replies):
        with pytest.raises((InvalidArgument, DataLoss)):
            decode(frame)


@st.composite
def damaged(draw: st.DrawFn, frames: st.SearchStrategy[bytes]) -> bytes:
    """A frame with some of its bytes changed, and perhaps cut or longer, with a header that says so."""
    frame = bytearray(draw(frames))
    for position, byte in draw(st.lists(st.tuples(st.integers(0, len(frame) - 1), st.integers(0, 255)), max_size=6)):
        frame[position] = byte
    if draw(st.booleans()):
        frame = frame[: draw(st.integers(HEADER_BYTES, len(frame)))] + draw(st.binary(max_size=70))
        struct.pack_into("<Q", frame, 20, len(frame))
    return bytes(frame)


@given(damaged(CALLS.map(lambda calls: join(encode_calls(calls)))))
def test_damaged_calls_never_surprise(frame: bytes) -> None:
    try:
        calls = decode_calls(frame)
    except (InvalidArgument, DataLoss):
        return
    assert sum(array.nbytes for call in calls for array in call.inputs.values()) <= len(frame) * 8


@given(damaged(REPLIES.map(lambda replies: join(encode_replies(replies)))))
def test_damaged_replies_never_surprise(frame: bytes) -> None:
    try:
        replies = decode_replies(frame)
    except (InvalidArgument, DataLoss):
        return
    assert sum(array.nbytes for reply in replies for array in reply.outputs.values()) <= len(frame) * 8
