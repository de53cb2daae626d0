"""What a servable takes and gives: TF Serving's SignatureDefs as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster import protos
from servables.proto_codec import array_to_tensor, tensor_to_array
from servables.tensors import DataType, from_numpy

PREDICT_METHOD_NAME = "tensorflow/serving/predict"
CLASSIFY_METHOD_NAME = "tensorflow/serving/classify"
REGRESS_METHOD_NAME = "tensorflow/serving/regress"
DEFAULT_SIGNATURE_NAME = "serving_default"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One input or output. `name` is the tensor in the graph (`x:0`); `shape` None is of unknown rank, -1 an unknown dimension."""

    name: str
    dtype: DataType
    shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """One SignatureDef: aliases -> tensors. `defaults` are values for inputs that a request may leave out."""

    method_name: str
    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]
    defaults: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)


def encode_signatures(signatures: Mapping[str, Signature]) -> bytes:
    """A serialized `tensorflow.serving.SignatureDefMap`: what a `ServableEntry` carries and GetModelMetadata answers."""
    message = protos.SignatureDefMap()
    for name, signature in signatures.items():
        definition = message.signature_def[name]
        definition.method_name = signature.method_name
        for alias, info in signature.inputs.items():
            _write_info(definition.inputs[alias], info)
        for alias, info in signature.outputs.items():
            _write_info(definition.outputs[alias], info)
        for alias, default in signature.defaults.items():
            dtype = signature.inputs[alias].dtype if alias in signature.inputs else from_numpy(default.dtype)
            definition.defaults[alias].CopyFrom(array_to_tensor(default, dtype, as_content=False))
    encoded: bytes = message.SerializeToString(deterministic=True)
    return encoded


def decode_signatures(encoded: bytes) -> dict[str, Signature]:
    """The reverse of `encode_signatures`; also reads what TF Serving's GetModelMetadata answers."""
    message = protos.SignatureDefMap.FromString(encoded)
    return {
        name: Signature(
            definition.method_name,
            {alias: _read_info(info) for alias, info in definition.inputs.items()},
            {alias: _read_info(info) for alias, info in definition.outputs.items()},
            {alias: tensor_to_array(tensor) for alias, tensor in definition.defaults.items()},
        )
        for name, definition in message.signature_def.items()
    }


def _write_info(message: Any, info: TensorInfo) -> None:
    message.name = info.name
    message.dtype = info.dtype
    if info.shape is None:
        message.tensor_shape.unknown_rank = True
        return
    message.tensor_shape.SetInParent()
    for size in info.shape:
        message.tensor_shape.dim.add(size=size)


def _read_info(message: Any) -> TensorInfo:
    shape = None if message.tensor_shape.unknown_rank else tuple(dim.size for dim in message.tensor_shape.dim)
    try:
        dtype = DataType(message.dtype)
    except ValueError:  # a newer TensorFlow's
        dtype = DataType.DT_INVALID
    return TensorInfo(message.name, dtype, shape)
