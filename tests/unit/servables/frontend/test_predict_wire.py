"""The reader and the writer of the wire format say what protobuf's messages say, or leave it to them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from cluster.core.errors import AspiredError, InvalidArgument
from cluster.core.servable_id import ServableId
from cluster.protos import PredictRequest, PredictResponse, TensorProto
from servables.frontend.inference import ModelSpec, Prediction
from servables.frontend.predict_wire import PredictFields, input_array, read_predict_request, write_predict_response
from servables.proto_codec import array_to_tensor, tensor_to_array, varint
from servables.signatures import Signature, TensorInfo
from servables.tensors import DataType, from_numpy, string_array, to_numpy

FED = sorted(set(DataType) - {DataType.DT_INVALID, DataType.DT_RESOURCE, DataType.DT_VARIANT})
NUMPY_TYPES = [numpy_type for numpy_type in map(to_numpy, FED) if numpy_type.isbuiltin == 1 and numpy_type != np.object_]
ARRAYS = st.sampled_from(NUMPY_TYPES).flatmap(lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, min_side=0)))
NAMES = st.sampled_from(["", "x", "half_plus_two", "é", "a" * 127, "a" * 128, "a" * 300])
MUTATIONS = 20_000
TAGS_AND_SIZES = b"\x00\x01\x02\x03\x08\x0a\x12\x1a\x22\x2a\x80\x81"
"""What random bytes seldom are."""


def half_plus_two(**fields: Any) -> PredictRequest:
    request = PredictRequest(**fields)
    request.model_spec.name = "half_plus_two"
    request.inputs["x"].CopyFrom(array_to_tensor(np.ones(3, np.float32), DataType.DT_FLOAT, as_content=False))
    return request


def two_values(data_type: DataType) -> NDArray[Any]:
    if data_type is DataType.DT_STRING:
        return string_array([b"one", b"\xff\x00"], (2, 1))
    return np.array([[1], [0]]).astype(to_numpy(data_type))


def outcome(read: Callable[[Any], NDArray[Any]], value: Any) -> object:
    """What tells one array from another, NaNs too; or the error that there is none."""
    try:
        array = read(value)
    except AspiredError as error:
        return type(error), error.message
    return array.dtype, array.shape, array.tolist() if array.dtype.hasobject else array.tobytes()


def assert_says(fields: PredictFields, request: PredictRequest) -> None:
    assert request.HasField("model_spec")
    choice = request.model_spec.WhichOneof("version_choice")
    assert fields.spec == ModelSpec(
        request.model_spec.name,
        request.model_spec.version.value if choice == "version" else None,
        request.model_spec.version_label if choice == "version_label" else None,
        request.model_spec.signature_name,
    )
    assert fields.output_filter == list(request.output_filter)
    assert fields.inputs.keys() == set(request.inputs)
    for alias, value in fields.inputs.items():
        assert outcome(input_array, value) == outcome(tensor_to_array, request.inputs[alias])


@st.composite
def requests(draw: st.DrawFn) -> PredictRequest:
    request = PredictRequest()
    spec = request.model_spec
    spec.SetInParent()
    spec.name, spec.signature_name = draw(NAMES), draw(NAMES)
    match draw(st.integers(0, 2)):
        case 1:
            spec.version.value = draw(st.integers(-(2**63), 2**63 - 1))
        case 2:
            spec.version_label = draw(NAMES)
    for alias, array in draw(st.dictionaries(NAMES, ARRAYS, max_size=3)).items():
        tensor = array_to_tensor(array, from_numpy(array.dtype), as_content=draw(st.booleans()))
        request.inputs[alias].CopyFrom(tensor)
    request.output_filter.extend(draw(st.lists(NAMES, max_size=3)))
    return request


@given(requests())
def test_what_is_read_is_what_the_message_says(request_message: PredictRequest) -> None:
    fields = read_predict_request(request_message.SerializeToString())
    if fields is not None:
        assert_says(fields, request_message)


@pytest.mark.parametrize("as_content", [False, True])
@pytest.mark.parametrize("data_type", FED)
def test_a_usual_request_is_read_whatever_its_type(data_type: DataType, as_content: bool) -> None:
    request = half_plus_two(output_filter=["y"])
    request.inputs["x"].CopyFrom(array_to_tensor(two_values(data_type), data_type, as_content=as_content))
    fields = read_predict_request(request.SerializeToString())
    assert fields is not None
    assert_says(fields, request)


@pytest.mark.parametrize(
    ("dtype", "as_content"),
    [(np.float32, False), (np.float64, False), (np.float32, True), (np.int64, True), (np.uint8, True), (np.float16, True)],
)
def test_values_in_one_run_are_a_view_of_the_request(dtype: type[np.generic], as_content: bool) -> None:
    request = half_plus_two()
    array = np.arange(784).reshape(2, 392).astype(dtype)
    request.inputs["x"].CopyFrom(array_to_tensor(array, from_numpy(array.dtype), as_content=as_content))
    request_bytes = request.SerializeToString()
    fields = read_predict_request(request_bytes)
    assert fields is not None
    read = fields.inputs["x"]
    assert isinstance(read, np.ndarray)
    np.testing.assert_array_equal(read, array, strict=True)
    assert np.shares_memory(read, np.frombuffer(request_bytes, np.uint8))
    assert not read.flags.writeable


@pytest.mark.parametrize(
    "request_message",
    [
        PredictRequest(),
        half_plus_two(client_id=b"a"),
        half_plus_two(output_filter=["a" * 128]),
        half_plus_two(predict_streamed_options={"return_single_response": True}),
    ],
    ids=["no model_spec", "client_id", "a long name", "predict_streamed_options"],
)
def test_the_unusual_is_left_to_the_message(request_message: PredictRequest) -> None:
    assert read_predict_request(request_message.SerializeToString()) is None


def test_a_tensor_with_too_few_values_is_left_to_its_message() -> None:
    """It is not expanded before its model is known to exist."""
    request = half_plus_two()
    request.inputs["x"].tensor_shape.dim[0].size = 1 << 25
    fields = read_predict_request(request.SerializeToString())
    assert fields is not None
    assert isinstance(fields.inputs["x"], TensorProto)
    assert input_array(fields.inputs["x"]).shape == (1 << 25,)


@pytest.mark.parametrize(
    "twice",
    [
        half_plus_two().SerializeToString() + PredictRequest(model_spec={"signature_name": "s"}).SerializeToString(),
        half_plus_two().SerializeToString() + PredictRequest(inputs={"x": TensorProto(dtype=1)}).SerializeToString(),
    ],
    ids=["model_spec", "an input"],
)
def test_a_field_that_comes_twice_is_what_the_message_makes_of_it(twice: bytes) -> None:
    fields = read_predict_request(twice)
    if fields is not None:
        assert_says(fields, PredictRequest.FromString(twice))


def of_tensor(encoded: bytes) -> bytes:
    """A request with this TensorProto as its input `x`, and a field behind it."""
    entry = b"\x0a\x01x\x12" + varint(len(encoded)) + encoded
    return b"\x0a\x03\x0a\x01m\x12" + varint(len(entry)) + entry + b"\x1a\x08" + b"y" * 8


FLOAT, SCALAR, ONE = b"\x08\x01", b"\x12\x00", b"\x12\x04\x12\x02\x08\x01"
PACKED = b"\x2a\x04\x00\x00\x80\x3f"
MINUS_ONE = b"\x12\x0b\x08" + b"\xff" * 9 + b"\x01"
HUGE = b"\x12\x06\x08\x80\x80\x80\x80\x40"


@pytest.mark.parametrize(
    "encoded",
    [
        # A dtype of two bytes: the shape is not where it usually is, and a value lies before the run.
        pytest.param(b"\x08\x81\x12" + FLOAT + SCALAR + b"\x2d\x00\x00\x00\x40" + PACKED, id="a long dtype"),
        pytest.param(b"\x08\x0a" + ONE + b"\x5a\x01\x02", id="a boolean of 2"),
        pytest.param(b"\x08\x07" + ONE + b"\x22\x08\x07" + b"s" * 7, id="a string in eight bytes of content"),
        pytest.param(FLOAT + b"\x12\x02\x18\x01" + PACKED, id="unknown rank"),
        pytest.param(FLOAT + ONE + PACKED + b"\x08\x03", id="another dtype behind the values"),
        pytest.param(FLOAT + ONE + b"\x22" + PACKED[1:] + b"\x22\x04\x00\x00\x00\x40", id="content twice"),
        pytest.param(FLOAT + ONE + PACKED[:-2], id="values that end behind the tensor"),
        pytest.param(FLOAT + b"\x12\x1a" + MINUS_ONE * 2 + PACKED, id="-1 by -1"),
        pytest.param(FLOAT + b"\x12\x14\x12\x02\x08\x00" + HUGE * 2 + b"\x22\x00", id="a zero next to huge sizes"),
    ],
)
def test_a_tensor_that_only_looks_usual_is_what_its_message_says(encoded: bytes) -> None:
    request_bytes = of_tensor(encoded)
    fields = read_predict_request(request_bytes)
    try:
        message = PredictRequest.FromString(request_bytes)
    except DecodeError:
        assert fields is None
        return
    assert fields is not None
    assert_says(fields, message)


def mutated(chance: random.Random, valid: bytes) -> bytes:
    changed = bytearray(valid)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(changed) + 1)
        upto = min(len(changed), at + chance.randrange(6))
        match chance.randrange(5):
            case 0:
                changed[at:upto] = b""
            case 1:
                changed[at:at] = changed[at:upto] * chance.randint(1, 3)
            case 2:
                changed[at:at] = chance.randbytes(chance.randrange(6))
            case 3:
                changed[at:upto] = chance.randbytes(upto - at)
            case _:
                # Tags and small sizes, which random bytes seldom are.
                changed[at:upto] = bytes(
                    chance.choice(b"\x00\x01\x02\x03\x08\x0a\x12\x1a\x22\x2a\x80\x81") for _ in range(upto - at)
                )
    return bytes(changed)


def valid_requests() -> list[bytes]:
    plain, full = half_plus_two(), half_plus_two(output_filter=["y", "z"])
    full.model_spec.version.value = 7
    full.model_spec.signature_name = "s"
    for alias, data_type, as_content in (
        ("a", DataType.DT_INT64, False),
        ("b", DataType.DT_STRING, False),
        ("c", DataType.DT_BOOL, True),
        ("d", DataType.DT_COMPLEX64, False),
        ("e", DataType.DT_DOUBLE, True),
    ):
        full.inputs[alias].CopyFrom(array_to_tensor(two_values(data_type), data_type, as_content=as_content))
    scalar = half_plus_two()
    scalar.inputs["x"].CopyFrom(array_to_tensor(np.array(1.0), DataType.DT_DOUBLE, as_content=False))
    return [bytes(message.SerializeToString()) for message in (plain, full, scalar)]


def test_what_is_read_of_mutated_requests_is_what_the_message_says() -> None:
    chance = random.Random(0)
    valid = valid_requests()
    read = 0
    for _ in range(MUTATIONS):
        request_bytes = mutated(chance, chance.choice(valid))
        fields = read_predict_request(request_bytes)
        if fields is None:
            continue
        read += 1
        try:
            message = PredictRequest.FromString(request_bytes)
        except DecodeError:
            pytest.fail(f"{request_bytes.hex()} is no message, and was read")
        assert_says(fields, message)
    assert read > MUTATIONS // 100


def prediction(**outputs: tuple[DataType, NDArray[Any]]) -> Prediction:
    infos = {alias: TensorInfo(f"{alias}:0", dtype, None) for alias, (dtype, _) in outputs.items()}
    arrays = {alias: array for alias, (_, array) in outputs.items()}
    return Prediction(ServableId("model", 12), "serving_default", Signature("", {}, infos), {}, arrays)


def expected_response(answered: Prediction, *, tensor_content: bool) -> PredictResponse:
    response = PredictResponse()
    response.model_spec.name, response.model_spec.version.value = answered.id.name, answered.id.version
    response.model_spec.signature_name = answered.signature_name
    for alias, array in answered.outputs.items():
        dtype = answered.signature.outputs[alias].dtype
        response.outputs[alias].CopyFrom(array_to_tensor(array, dtype, as_content=tensor_content))
    return response


@given(st.dictionaries(st.sampled_from(["y", "z", "é", "a" * 200]), ARRAYS, max_size=3), st.booleans())
def test_a_response_is_the_message_of_its_tensors(outputs: dict[str, NDArray[Any]], tensor_content: bool) -> None:
    answered = prediction(**{alias: (from_numpy(array.dtype), array) for alias, array in outputs.items()})
    written = PredictResponse.FromString(write_predict_response(answered, tensor_content=tensor_content))
    expected = expected_response(answered, tensor_content=tensor_content)
    assert written.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


@pytest.mark.parametrize("tensor_content", [False, True])
@pytest.mark.parametrize("data_type", FED)
def test_every_type_is_written(data_type: DataType, tensor_content: bool) -> None:
    answered = prediction(y=(data_type, two_values(data_type)))
    written = PredictResponse.FromString(write_predict_response(answered, tensor_content=tensor_content))
    assert written == expected_response(answered, tensor_content=tensor_content)


@settings(max_examples=20)
@given(st.sampled_from([(10_000,), (100, 100), (70, 70, 2)]), st.booleans(), st.booleans())
def test_large_arrays_are_written_in_their_own_order(shape: tuple[int, ...], turned: bool, tensor_content: bool) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    answered = prediction(y=(DataType.DT_FLOAT, array.T if turned else array))
    written = PredictResponse.FromString(write_predict_response(answered, tensor_content=tensor_content))
    assert written == expected_response(answered, tensor_content=tensor_content)


def test_an_output_of_another_type_is_cast_as_the_message_casts_it() -> None:
    answered = prediction(y=(DataType.DT_FLOAT, np.arange(3.0)))
    written = PredictResponse.FromString(write_predict_response(answered, tensor_content=False))
    assert list(written.outputs["y"].float_val) == [0.0, 1.0, 2.0]
    assert written.outputs["y"].dtype == DataType.DT_FLOAT


def test_text_is_no_string_tensor() -> None:
    with pytest.raises(InvalidArgument, match="must be bytes"):
        write_predict_response(prediction(y=(DataType.DT_STRING, np.array(["text"], object))), tensor_content=False)
