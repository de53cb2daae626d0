"""Types, tensors, signatures and examples, compared with TensorFlow itself. This module imports it, which takes seconds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework.tensor_pb2 import TensorProto as StockTensorProto
from tensorflow.core.protobuf import meta_graph_pb2

from cluster.protos import ExampleListWithContext, Input, TensorProto
from servables.examples import input_to_examples
from servables.proto_codec import array_to_tensor, tensor_to_array
from servables.signatures import decode_signatures, encode_signatures
from servables.tensors import DataType, from_numpy, string_array, to_numpy

FED = sorted(set(DataType) - {DataType.DT_INVALID, DataType.DT_RESOURCE, DataType.DT_VARIANT})
# In TensorFlow's Python, quantized numbers are structured arrays.
PLAIN = [data_type for data_type in FED if "QINT" not in data_type.name and "QUINT" not in data_type.name]
# What its Python cannot read from typed fields; its runtime can.
UNREADABLE = {DataType.DT_FLOAT8_E4M3FNUZ, DataType.DT_FLOAT8_E4M3B11FNUZ, DataType.DT_FLOAT8_E5M2FNUZ}


def sample(data_type: DataType) -> NDArray[Any]:
    if data_type is DataType.DT_STRING:
        return string_array([b"a", b"\xff\x00", b"", b"ccc"], (2, 2))
    return np.array([[0, 1], [1, 0]]).astype(to_numpy(data_type))


def to_stock(message: TensorProto) -> Any:
    return StockTensorProto.FromString(message.SerializeToString())


@pytest.mark.parametrize("data_type", FED)
def test_labels_and_numbers(data_type: DataType) -> None:
    stock = tf.dtypes.as_dtype(data_type.value)
    assert stock.name == {DataType.DT_HALF: "float16", DataType.DT_DOUBLE: "float64", DataType.DT_FLOAT: "float32"}.get(
        data_type, data_type.label
    )


@pytest.mark.parametrize("data_type", PLAIN)
def test_numpy_types(data_type: DataType) -> None:
    assert to_numpy(data_type) == np.dtype(tf.dtypes.as_dtype(data_type.value).as_numpy_dtype)


@pytest.mark.parametrize(
    ("data_type", "as_content"),
    [(kind, content) for kind in PLAIN for content in (False, True) if content or kind not in UNREADABLE],
)
def test_python_reads_what_we_write(data_type: DataType, as_content: bool) -> None:
    array = sample(data_type)
    read = tf.make_ndarray(to_stock(array_to_tensor(array, data_type, as_content=as_content)))
    assert read.dtype == array.dtype
    assert read.tolist() == array.tolist()


@pytest.mark.parametrize("as_values", [False, True], ids=["content", "values"])
@pytest.mark.parametrize("data_type", PLAIN)
def test_we_read_what_tensorflow_writes(data_type: DataType, as_values: bool) -> None:
    array = sample(data_type)
    written = tf.make_tensor_proto(array.tolist() if as_values else array, data_type.value, shape=array.shape)
    read = tensor_to_array(TensorProto.FromString(written.SerializeToString()))
    assert read.dtype == array.dtype
    assert read.tolist() == array.tolist()
    assert tensor_to_array(written).tolist() == array.tolist()


def fields(**values: Any) -> dict[str, Any]:
    return values


@pytest.mark.parametrize(
    ("data_type", "shape", "values"),
    [
        (DataType.DT_FLOAT, (2, 2), fields(float_val=[1.0, 2.0])),
        (DataType.DT_FLOAT, (3,), fields(float_val=[])),
        (DataType.DT_FLOAT, (1,), fields(float_val=[1.0, 2.0])),
        (DataType.DT_INT8, (2,), fields(int_val=[300, -200])),
        (DataType.DT_UINT16, (2,), fields(int_val=[70000, -1])),
        (DataType.DT_HALF, (3,), fields(half_val=[0x3C00, 0x4000])),
        (DataType.DT_BFLOAT16, (2,), fields(half_val=[0x3F80])),
        (DataType.DT_COMPLEX64, (3,), fields(scomplex_val=[1.0, 2.0, 3.0, 4.0])),
        (DataType.DT_COMPLEX128, (1,), fields(dcomplex_val=[1.0, 2.0, 3.0])),
        (DataType.DT_BOOL, (3,), fields(bool_val=[False, True])),
        (DataType.DT_STRING, (3,), fields(string_val=[b"a", b"b"])),
        (DataType.DT_STRING, (2,), fields()),
        (DataType.DT_STRING, (2,), fields(tensor_content=b"\x01\x02abb")),
        (DataType.DT_INT64, (0, 2), fields(int64_val=[5])),
        (DataType.DT_FLOAT8_E5M2, (3,), fields(float8_val=b"\x3c\x40")),
    ],
)
def test_few_and_surplus_values_are_read_as_the_runtime_reads_them(
    data_type: DataType, shape: tuple[int, ...], values: dict[str, Any]
) -> None:
    message = StockTensorProto(dtype=data_type.value, tensor_shape=tf.TensorShape(shape).as_proto(), **values)
    run = tf.raw_ops.ParseTensor(serialized=message.SerializeToString(), out_type=data_type.value).numpy()
    read = tensor_to_array(message)
    assert read.shape == run.shape
    assert read.tolist() == run.tolist()


@pytest.mark.parametrize("as_content", [False, True])
@pytest.mark.parametrize("data_type", PLAIN)
def test_the_runtime_reads_what_we_write(data_type: DataType, as_content: bool) -> None:
    array = sample(data_type)
    encoded = array_to_tensor(array, data_type, as_content=as_content).SerializeToString()
    run = tf.raw_ops.ParseTensor(serialized=encoded, out_type=data_type.value).numpy()
    assert run.astype(object).tolist() == array.astype(object).tolist()
    assert from_numpy(run.dtype) is data_type


def test_signatures_of_an_export() -> None:
    definition = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
    definition.inputs["x"].CopyFrom(
        meta_graph_pb2.TensorInfo(name="x:0", dtype=1, tensor_shape=tf.TensorShape([None, 3]).as_proto())
    )
    definition.outputs["y"].CopyFrom(
        meta_graph_pb2.TensorInfo(name="y:0", dtype=9, tensor_shape=tf.TensorShape(None).as_proto())
    )
    definition.defaults["x"].CopyFrom(tf.make_tensor_proto(np.ones((1, 3), np.float32)))
    entry = bytes([1 << 3 | 2, 1]) + b"s" + bytes([2 << 3 | 2, definition.ByteSize()]) + definition.SerializeToString()
    signatures = decode_signatures(bytes([1 << 3 | 2, len(entry)]) + entry)
    assert signatures["s"].inputs["x"].shape == (-1, 3)
    assert signatures["s"].outputs["y"].shape is None
    assert signatures["s"].defaults["x"].tolist() == [[1.0, 1.0, 1.0]]
    assert decode_signatures(encode_signatures(signatures))["s"].outputs == signatures["s"].outputs


def test_a_context_is_merged_as_the_graph_parses_it() -> None:
    def example(**values: float) -> bytes:
        features = {name: tf.train.Feature(float_list=tf.train.FloatList(value=[value])) for name, value in values.items()}
        encoded: bytes = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
        return encoded

    with_context = ExampleListWithContext()
    with_context.context.ParseFromString(example(x=1.0, c=9.0))
    with_context.examples.add().ParseFromString(example(x=2.0))
    examples = input_to_examples(Input(example_list_with_context=with_context))
    spec = {name: tf.io.FixedLenFeature((), tf.float32) for name in ("x", "c")}
    parsed = tf.io.parse_example(tf.constant(examples.tolist()), spec)
    assert (parsed["x"].numpy().tolist(), parsed["c"].numpy().tolist()) == ([2.0], [9.0])
