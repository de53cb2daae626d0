"""TFLite models as the converter makes them, each of a few hundred bytes, and some that it makes no more."""

# TensorFlow has no types, and its classes and decorators are used throughout.
# mypy: disable-error-code="misc, untyped-decorator"

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

tf.get_logger().setLevel("ERROR")

_FLOATS = tf.TensorSpec([None], tf.float32, "x")


class Module(tf.Module):
    """Signatures of several types, two of which keep state."""

    def __init__(self) -> None:
        super().__init__()
        self.counter = tf.Variable(0.0)

    @tf.function(input_signature=[_FLOATS])
    def half_plus_two(self, x: Any) -> dict[str, Any]:
        return {"y": x / 2 + 2}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "words"), tf.TensorSpec([None], tf.int32, "order")])
    def pick(self, words: Any, order: Any) -> dict[str, Any]:
        return {"picked": tf.gather(words, order), "order": order + 0}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "rows"), tf.TensorSpec([], tf.float32, "scale")])
    def project(self, rows: Any, scale: Any) -> dict[str, Any]:
        return {"sum": tf.linalg.matmul(rows, tf.constant([[1.0], [1.0]])) * scale}

    @tf.function(input_signature=[tf.TensorSpec([1, 2], tf.float32, "row")])
    def one_row(self, row: Any) -> dict[str, Any]:
        return {"twice": row * 2.0}

    @tf.function(input_signature=[_FLOATS, tf.TensorSpec([None], tf.float32, "y")])
    def add(self, x: Any, y: Any) -> dict[str, Any]:
        return {"sum": x + y}

    @tf.function(input_signature=[_FLOATS])
    def noisy(self, x: Any) -> dict[str, Any]:
        return {"y": x + tf.random.uniform(tf.shape(x))}

    @tf.function(input_signature=[_FLOATS])
    def counting(self, x: Any) -> dict[str, Any]:
        return {"count": self.counter.assign_add(1.0) + tf.reduce_sum(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def parse(self, examples: Any) -> dict[str, Any]:
        return {"x": tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([], tf.float32)})["x"]}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
    def dense(self, x: Any) -> dict[str, Any]:
        return {"y": tf.linalg.matmul(x, tf.constant([[1.0], [2.0]]))}


def convert(directory: Path, **methods: str) -> bytes:
    """A model with signatures: name -> method of `Module`. `directory` is for what lies between."""
    return bytes(_converter(directory, methods).convert())


def convert_custom(directory: Path, *, select: bool) -> bytes:
    """`parse`, whose op TFLite lacks: as one of TensorFlow's own, or as a custom one."""
    converter = _converter(directory, {"serving_default": "parse"})
    if select:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    else:
        converter.allow_custom_ops = True
    return bytes(converter.convert())


def convert_quantized(directory: Path, dtype: Any) -> bytes:
    """`dense` on integers of `dtype`, uint8 or int8, for values from 0 to 1 each."""
    converter = _converter(directory, {"serving_default": "dense"})
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    converter.representative_dataset = lambda: (("serving_default", {"x": row[None]}) for row in corners)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = dtype
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that int8 input needs a data set, which it has
        return bytes(converter.convert())


def recurrent() -> bytes:
    """`y` = the `x` of this run and of the one before: an SVDF op, which keeps the latter in a variable tensor."""
    ones, twos = np.ones((1, 1), np.float32).tobytes(), np.ones((1, 2), np.float32).tobytes()
    subgraph = schema.SubGraphT(
        tensors=[
            _tensor("x", [1, 1]),
            _tensor("weights_feature", [1, 1], buffer=1),
            _tensor("weights_time", [1, 2], buffer=2),
            _tensor("state", [1, 2], isVariable=True),
            _tensor("y", [1, 1]),
        ],
        inputs=[0],
        outputs=[4],
        operators=[
            schema.OperatorT(
                inputs=[0, 1, 2, -1, 3],
                outputs=[4],
                builtinOptionsType=schema.BuiltinOptions.SVDFOptions,
                builtinOptions=schema.SVDFOptionsT(rank=1),
            )
        ],
    )
    code = schema.BuiltinOperator.SVDF
    return _pack(
        schema.ModelT(
            version=3,
            operatorCodes=[schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code)],
            subgraphs=[subgraph],
            buffers=[schema.BufferT(), *(schema.BufferT(data=list(values)) for values in (ones, twos))],
        )
    )


def without_signatures(content: bytes) -> bytes:
    """The model as converters of TensorFlow 1 made it."""
    model = schema.ModelT.InitFromPackedBuf(content)
    model.signatureDefs = []
    return _pack(model)


def write(content: bytes, version: Path) -> Path:
    """Makes a version's directory of the model."""
    version.mkdir(parents=True)
    (version / "model.tflite").write_bytes(content)
    return version


def _converter(directory: Path, methods: dict[str, str]) -> Any:
    module = Module()
    tf.saved_model.save(module, str(directory), signatures={name: getattr(module, method) for name, method in methods.items()})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(directory), signature_keys=list(methods))
    converter.experimental_enable_resource_variables = True
    return converter


def _tensor(name: str, shape: list[int], **fields: Any) -> Any:
    return schema.TensorT(name=name, shape=shape, type=schema.TensorType.FLOAT32, **fields)


def _pack(model: Any) -> bytes:
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
