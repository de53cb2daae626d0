"""Signatures as values and as a SignatureDefMap."""

from __future__ import annotations

import numpy as np
import pytest

from cluster.core.errors import DataLoss
from cluster.protos import DataType as DataTypeProto
from cluster.protos import SignatureDefMap
from servables.signatures import PREDICT_METHOD_NAME, Signature, TensorInfo, decode_signatures, encode_signatures, signature_def
from servables.tensors import DataType, string_array

SIGNATURE = Signature(
    method_name=PREDICT_METHOD_NAME,
    inputs={
        "x": TensorInfo("x:0", DataType.DT_FLOAT, (-1, 3)),
        "mode": TensorInfo("mode:0", DataType.DT_STRING, ()),
        "any": TensorInfo("any:0", DataType.DT_BFLOAT16, None),
    },
    outputs={"y": TensorInfo("y:0", DataType.DT_INT64, (-1,))},
    defaults={"mode": string_array([b"fast"], ()), "x": np.ones((2, 3), np.float32)},
)


def test_signatures_survive() -> None:
    other = Signature("", {}, {})
    decoded = decode_signatures(encode_signatures({"serving_default": SIGNATURE, "other": other}))
    assert decoded.keys() == {"serving_default", "other"}
    assert decoded["other"] == other
    actual = decoded["serving_default"]
    assert (actual.method_name, actual.inputs, actual.outputs) == (SIGNATURE.method_name, SIGNATURE.inputs, SIGNATURE.outputs)
    assert actual.defaults.keys() == SIGNATURE.defaults.keys()
    for alias, default in SIGNATURE.defaults.items():
        np.testing.assert_array_equal(actual.defaults[alias], default, strict=True)


def test_equal_signatures_give_equal_bytes() -> None:
    reordered = Signature(
        SIGNATURE.method_name, dict(reversed(list(SIGNATURE.inputs.items()))), SIGNATURE.outputs, SIGNATURE.defaults
    )
    assert encode_signatures({"a": SIGNATURE, "b": reordered}) == encode_signatures({"b": SIGNATURE, "a": reordered})


def test_a_default_has_the_type_of_its_input() -> None:
    signature = Signature(
        "", {"q": TensorInfo("q:0", DataType.DT_QINT8, ())}, {}, {"q": np.array(1, np.int8), "stray": np.array(2, np.int8)}
    )
    definition = signature_def(signature)
    assert {alias: tensor.dtype for alias, tensor in definition.defaults.items()} == {
        "q": DataType.DT_QINT8,
        "stray": DataType.DT_INT8,
    }


def test_a_scalar_and_an_unknown_rank_differ() -> None:
    definition = signature_def(SIGNATURE)
    assert definition.inputs["mode"].HasField("tensor_shape")
    assert definition.inputs["any"].tensor_shape.unknown_rank


def test_sparse_and_composite_tensors_have_no_name() -> None:
    message = SignatureDefMap()
    inputs = message.signature_def["s"].inputs
    inputs["sparse"].coo_sparse.values_tensor_name = "values:0"
    inputs["sparse"].dtype = DataTypeProto.Value("DT_FLOAT")
    inputs["ragged"].composite_tensor.components.add(name="flat:0")
    decoded = decode_signatures(message.SerializeToString())["s"]
    assert decoded.inputs["sparse"] == TensorInfo("", DataType.DT_FLOAT, ())
    assert decoded.inputs["ragged"] == TensorInfo("", DataType.DT_INVALID, ())
    assert decode_signatures(encode_signatures({"s": decoded})) == {"s": decoded}


def test_a_reference_is_read_as_its_value() -> None:
    message = SignatureDefMap()
    message.signature_def["s"].outputs["v"].dtype = DataTypeProto.Value("DT_FLOAT_REF")
    assert decode_signatures(message.SerializeToString())["s"].outputs["v"].dtype is DataType.DT_FLOAT


def test_a_type_of_a_newer_tensorflow_is_invalid() -> None:
    message = SignatureDefMap()
    message.signature_def["s"].outputs["v"].dtype = 77
    assert decode_signatures(message.SerializeToString())["s"].outputs["v"].dtype is DataType.DT_INVALID


def test_other_bytes_are_refused() -> None:
    with pytest.raises(DataLoss, match="Not a SignatureDefMap"):
        decode_signatures(b"\xff\xff")
