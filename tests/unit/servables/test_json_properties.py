"""What must hold for any document: the quick ways through the codec and the exact ones give the same answer."""

from __future__ import annotations

import json
import math
import string
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from cluster.core.errors import AspiredError, InvalidArgument
from servables.json_codec import PredictBody, encode_predictions, number_arrays, predict_body
from servables.json_codec.decimals import decimal_json, float32_texts, float64_texts
from servables.json_codec.document import read_object
from servables.json_codec.reader import read
from servables.json_codec.tensor_values import dense_array, read_tensor, to_array
from servables.signatures import TensorInfo
from servables.tensors import DataType

untimed = settings(deadline=None)


DTYPES = [
    DataType.DT_FLOAT,
    DataType.DT_DOUBLE,
    DataType.DT_INT8,
    DataType.DT_UINT8,
    DataType.DT_INT16,
    DataType.DT_INT32,
    DataType.DT_INT64,
    DataType.DT_UINT32,
    DataType.DT_UINT64,
    DataType.DT_BOOL,
    DataType.DT_STRING,
    DataType.DT_HALF,
]
INT_EDGES = [sign * (1 << bits) + offset for bits in (7, 8, 15, 31, 32, 63, 64) for sign in (-1, 1) for offset in (-1, 0, 1)]

decimal_texts = st.from_regex(r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
short_decimal_texts = st.from_regex(r"-?(0|[1-9][0-9]{0,9})(\.[0-9]{1,9})?([eE][+-]?[0-3]?[0-9])?", fullmatch=True)
strings = st.text() | st.sampled_from(["b64", ":", "instances", "a:b", '"', "\\u003a"])
base64_objects = st.builds(lambda text: {"b64": text}, st.sampled_from(["aGk=", "aGk", " aG k=", "a", "*", "é"]) | strings)
integers = st.integers() | st.sampled_from(INT_EDGES) | st.integers(-3, 300)
numbers = integers | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | strings
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(strings, inner, max_size=4), max_leaves=20
)


@st.composite
def tensor_values(draw: st.DrawFn) -> Any:
    """Mostly dense values of one kind, sometimes with a flaw."""
    leaf = draw(st.sampled_from([numbers, integers, strings, base64_objects, strings | base64_objects, st.booleans(), scalars]))

    def build(shape: list[int]) -> Any:
        if not shape or draw(st.integers(0, 60)) == 0:
            return draw(leaf)
        size = shape[0] + (draw(st.integers(0, 60)) == 0)
        return [build(shape[1:]) for _ in range(size)]

    return build(draw(st.lists(st.integers(0, 3), max_size=3)))


@st.composite
def predict_bodies(draw: st.DrawFn) -> tuple[bytes, dict[str, TensorInfo]]:
    aliases = draw(st.lists(st.sampled_from(["x", "y", "b64"]), min_size=1, max_size=3, unique=True))
    inputs = {alias: TensorInfo(alias, draw(st.sampled_from(DTYPES)), None) for alias in aliases}
    named = st.dictionaries(st.sampled_from(aliases), tensor_values(), min_size=len(aliases) - draw(st.booleans()))
    if draw(st.booleans()):
        body = {"instances": draw(st.lists(named, max_size=4) | st.lists(tensor_values(), max_size=4) | tensor_values())}
    else:
        body = {"inputs": draw(named | tensor_values())}
    return json.dumps(body, ensure_ascii=draw(st.booleans())).encode(), inputs


@st.composite
def number_bodies(draw: st.DrawFn) -> tuple[bytes, dict[str, TensorInfo]]:
    """Numbers in all spellings and dense lists of them, sometimes with a flaw, in all layouts of a body."""
    flawed = draw(st.integers(0, 2)) == 0
    spellings = draw(st.sampled_from([integers.map(str), short_decimal_texts, short_decimal_texts | st.just("-0")]))
    flaws = st.sampled_from(["1e39", "1e999", "NaN", "-Infinity", "01", "true", '"1,2"', "{}", "[]"])
    leaf = st.one_of(*[spellings] * 9, flaws) if flawed else spellings
    separator = draw(st.sampled_from([",", ", ", " ,\n"]))

    def build(shape: list[int]) -> str:
        if not shape or (flawed and draw(st.integers(0, 40)) == 0):
            return draw(leaf)
        size = shape[0] + (flawed and draw(st.integers(0, 20)) == 0)
        return "[" + separator.join([build(shape[1:]) for _ in range(size)]) + "]"

    def tensor() -> str:
        return build(draw(st.lists(st.integers(0 if flawed else 1, 4), min_size=1, max_size=4)))

    def named() -> str:
        return "{" + separator.join(f'"{alias}" : {tensor()}' for alias in draw(st.permutations(aliases))) + "}"

    aliases = draw(st.lists(st.sampled_from(["x", "y", "b64"]), min_size=1, max_size=2, unique=True))
    inputs = {
        alias: TensorInfo(alias, draw(st.sampled_from([*DTYPES, *[DataType.DT_FLOAT, DataType.DT_DOUBLE] * 6])), None)
        for alias in aliases
    }
    layout = draw(st.integers(0, 3))
    if layout == 0:
        member = f'"instances": {tensor()}'
    elif layout == 1:
        member = f'"instances": [{separator.join(named() for _ in range(draw(st.integers(1, 3))))}]'
    else:
        member = f'"inputs":{named() if layout == 2 else tensor()}'
    others = ['"signature_name": "s"', '"more": [1, 2]', '"signature_name": [1]', '"a\\"b": 1', '"taken out: 0": 1', member]
    members = [member, *draw(st.lists(st.sampled_from(others[: 6 if flawed else 2]), max_size=1))]
    end = draw(st.sampled_from(["}", "} ", "}]", "}\0", "\n}\n}"])) if flawed else "}"
    return f"{{{separator.join(draw(st.permutations(members)))}{end}".encode(), inputs


@untimed
@given(documents, st.booleans())
def test_reader_agrees_with_orjson(document: Any, ensure_ascii: bool) -> None:
    text = json.dumps(document, ensure_ascii=ensure_ascii).encode()
    assert repr(read(text)) == repr(orjson.loads(text))


@untimed
@given(decimal_texts)
@example("0.1e1")
@example("18446744073709551615")
@example("18446744073709551616")
@example("-9223372036854775809")
def test_reader_agrees_with_orjson_on_numbers(text: str) -> None:
    for body in (f"[{text}]", f"[{text}, {text} ,true]"):
        try:
            expected = orjson.loads(body)
        except orjson.JSONDecodeError:
            with pytest.raises(InvalidArgument, match=r"Number too big to be stored in double\. at offset: 1"):
                read(body.encode())
        else:
            assert repr(read(body.encode())) == repr(expected)


@untimed
@given(st.data())
def test_equal_names_never_slip_through(data: st.DataObject) -> None:
    name = st.sampled_from(["a", "a:", "\\u0061", "\\u003a", "instances"])
    members = st.lists(st.tuples(name, st.sampled_from(['"\\u003a"', '":"', "1", "[1, 2]"])), max_size=4)
    inner = members.map(lambda pairs: "{" + ",".join(f'"{key}": {value}' for key, value in pairs) + "}")
    outer = data.draw(st.lists(st.tuples(name, inner | inner.map(lambda text: f"[{text}]")), max_size=3))
    body = ("{" + ",".join(f'"{key}": {value}' for key, value in outer) + "}").encode()
    assert read_object(body) == read(body)


@untimed
@given(st.data())
def test_any_bytes_are_read_alike_or_refused(data: st.DataObject) -> None:
    body = bytearray(json.dumps({"instances": data.draw(documents)}).encode())
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b"", b"\0", b"\xff", b'"', b"[", b"}", b",", b":", b"-", b"e", b"\\", b"\\u", b"NaN", b"Inf"])
        )
    assert outcome_of(lambda: read_object(bytes(body))) == outcome_of(lambda: exact_object(bytes(body)))


@untimed
@given(tensor_values(), st.sampled_from(DTYPES))
def test_dense_array_is_what_the_values_one_by_one_are(value: Any, dtype: DataType) -> None:
    quick = dense_array(value, dtype)
    try:
        shape, values = read_tensor(value, dtype)
    except AspiredError:
        assert quick is None
        return
    if dtype is not DataType.DT_HALF:  # which has no values, nor arrays of none
        assert quick is not None
        assert_identical(quick, to_array(values, shape, dtype))


@settings(deadline=None, max_examples=400)
@given(predict_bodies() | number_bodies())
def test_quick_and_exact_decoding_agree(request: tuple[bytes, dict[str, TensorInfo]]) -> None:
    body, inputs = request
    quick = outcome_of(lambda: PredictBody.parse(body).decode(inputs, ""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(number_arrays, "MIN_BYTES", 1)
        arrays_apart = outcome_of(lambda: PredictBody.parse(body).decode(inputs, ""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict_body, "dense_array", lambda value, dtype: None)
        patch.setattr("servables.json_codec.document.orjson.loads", refuse)
        exact = outcome_of(lambda: PredictBody.parse(body).decode(inputs, ""))
    assert quick == exact
    assert arrays_apart == exact


@untimed
@given(hnp.arrays(np.uint32, st.integers(1, 40)))
def test_float_text_is_six_digits_or_nine(bits: NDArray[np.uint32]) -> None:
    values = bits.view(np.float32)
    expected = [reference_text(value, ".9g", np.float32) for value in values.tolist()]
    assert float32_texts(values.tolist()) == expected
    assert decimal_json(values) == f"[{','.join(expected)}]".encode()


@untimed
@given(st.lists(st.integers(1, 999_999_999_999), min_size=1), st.integers(-24, 12))
def test_float_text_near_decimals_is_six_digits_or_nine(significands: list[int], exponent: int) -> None:
    values = np.array([float(f"{significand}e{exponent}") for significand in significands], np.float32)
    expected = [reference_text(value, ".9g", np.float32) for value in values.tolist()]
    assert decimal_json(values) == f"[{','.join(expected)}]".encode()


@untimed
@given(hnp.arrays(np.float64, st.integers(1, 40)))
def test_double_text_is_six_digits_or_seventeen(values: NDArray[np.float64]) -> None:
    expected = [reference_text(value, ".17g", np.float64) for value in values.tolist()]
    assert float64_texts(values.tolist()) == expected
    assert decimal_json(values) == f"[{','.join(expected)}]".encode()


@untimed
@given(
    st.dictionaries(
        st.text(string.ascii_letters, min_size=1),
        st.sampled_from([np.float32, np.float64, np.int8, np.uint64, np.int64, np.bool_]),
        min_size=1,
        max_size=3,
    ),
    st.booleans(),
    st.data(),
)
def test_a_reply_sent_back_as_a_request_gives_the_same_tensors(
    dtypes: dict[str, type], rows: bool, data: st.DataObject
) -> None:
    batch_size = data.draw(st.integers(1, 30))
    outputs = {
        alias: data.draw(hnp.arrays(dtype, (batch_size, *data.draw(hnp.array_shapes(max_dims=2, max_side=3)))))
        for alias, dtype in dtypes.items()
    }
    reply = encode_predictions(outputs, rows)
    request = reply.replace(b'"predictions"', b'"instances"', 1) if rows else reply.replace(b'"outputs"', b'"inputs"', 1)
    inputs = {alias: TensorInfo(alias, data_type_of(tensor), None) for alias, tensor in outputs.items()}
    tensors = PredictBody.parse(request).decode(inputs, "")
    assert tensors.keys() == outputs.keys()
    for alias, tensor in tensors.items():
        assert_identical(tensor, outputs[alias])


def test_nesting_costs_no_call_stack() -> None:
    depth = 500_000
    body = b'{"instances": ' + b"[" * depth + b"]" * depth + b"}"
    parsed = PredictBody.parse(body)
    with pytest.raises(InvalidArgument, match="nested 499999 deep"):
        parsed.decode({"x": TensorInfo("x", DataType.DT_FLOAT, None)}, "")
    with pytest.raises(InvalidArgument, match=r"JSON Value: \[{256} Is not object"):
        PredictBody.parse(b"[" * depth + b"]" * depth)


def test_bytes_that_are_not_utf8_pass_through() -> None:
    body = b'{"instances": ["\xff\xfe", "\\udc80"]}'
    tensors = PredictBody.parse(body).decode({"x": TensorInfo("x", DataType.DT_STRING, None)}, "")
    assert tensors["x"].tolist() == [b"\xff\xfe", b"\xed\xb2\x80"]
    assert encode_predictions({"x": np.array([b"\xff\xfe"], object)}, True) == b'{\n    "predictions": ["\xff\xfe"\n    ]\n}'


def test_a_body_decodes_again_for_another_signature() -> None:
    body = PredictBody.parse(b'{"instances": [1, 2]}')
    assert body.decode({"x": TensorInfo("x", DataType.DT_FLOAT, None)}, "")["x"].dtype == np.float32
    assert body.decode({"y": TensorInfo("y", DataType.DT_INT64, None)}, "")["y"].tolist() == [1, 2]


def exact_object(body: bytes) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("servables.json_codec.document.orjson.loads", refuse)
        return read_object(body)


def refuse(body: bytes) -> Any:
    raise orjson.JSONDecodeError("not today", "", 0)


def outcome_of(action: Callable[[], Any]) -> str:
    """What an action returned or raised, comparable whatever is in it."""
    try:
        value = action()
    except AspiredError as error:
        return f"{error.code.name}: {error}"
    if isinstance(value, dict):
        return repr(
            [
                (name, content.dtype, content.shape, content.tolist()) if isinstance(content, np.ndarray) else (name, content)
                for name, content in value.items()
            ]
        )
    return repr(value)


def assert_identical(actual: NDArray[Any], expected: NDArray[Any]) -> None:
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(actual, expected)


def reference_text(value: float, long_format: str, dtype: type[np.floating[Any]]) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    with np.errstate(over="ignore"):
        text = format(value, "g")
        if dtype(text) != dtype(value):
            text = format(value, long_format)
    return text if "." in text or "e" in text else text + ".0"


def data_type_of(tensor: NDArray[Any]) -> DataType:
    return {
        "float32": DataType.DT_FLOAT,
        "float64": DataType.DT_DOUBLE,
        "int8": DataType.DT_INT8,
        "uint64": DataType.DT_UINT64,
        "int64": DataType.DT_INT64,
        "bool": DataType.DT_BOOL,
    }[tensor.dtype.name]
