"""What a servable takes and gives: TF Serving's SignatureDefs as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from cluster.core.errors import DataLoss
from cluster.protos import SignatureDef, SignatureDefMap
from servables.proto_codec import array_to_tensor, tensor_to_array
from servables.tensors import DataType, from_numpy

PREDICT_METHOD_NAME = "tensorflow/serving/predict"
CLASSIFY_METHOD_NAME = "tensorflow/serving/classify"
REGRESS_METHOD_NAME = "tensorflow/serving/regress"
DEFAULT_SIGNATURE_NAME = "serving_default"

_REFERENCE = 100
_DATA_TYPES = frozenset(DataType)


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One input or output. `name` is the tensor in the graph (`x:0`).

    A `shape` of None is of unknown rank, a dimension of -1 of unknown size.
    """

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
    """A serialized `tensorflow.serving.SignatureDefMap`: what a `ServableEntry` carries and GetModelMetadata answers.

    Equal signatures give equal bytes.
    """
    message = SignatureDefMap()
    for name, signature in signatures.items():
        message.signature_def[name].CopyFrom(signature_def(signature))
    return message.SerializeToString(deterministic=True)


def decode_signatures(encoded: bytes) -> dict[str, Signature]:
    """The signatures in a serialized `SignatureDefMap`, ours or TF Serving's. Raises DataLoss for what is none.

    A sparse or composite tensor has no name, since it is several tensors.
    """
    try:
        message = SignatureDefMap.FromString(encoded)
    except DecodeError as error:
        raise DataLoss(f"Not a SignatureDefMap: {error}") from error
    return {
        name: Signature(
            method_name=definition.method_name,
            inputs={alias: _tensor_info(info) for alias, info in definition.inputs.items()},
            outputs={alias: _tensor_info(info) for alias, info in definition.outputs.items()},
            defaults={alias: tensor_to_array(tensor) for alias, tensor in definition.defaults.items()},
        )
        for name, definition in message.signature_def.items()
    }


def signature_def(signature: Signature) -> SignatureDef:
    """The signature as TensorFlow writes it."""
    definition = SignatureDef(method_name=signature.method_name)
    for messages, infos in ((definition.inputs, signature.inputs), (definition.outputs, signature.outputs)):
        for alias, info in infos.items():
            _fill_tensor_info(messages[alias], info)
    for alias, default in signature.defaults.items():
        known = signature.inputs.get(alias)
        dtype = known.dtype if known else from_numpy(default.dtype)
        definition.defaults[alias].CopyFrom(array_to_tensor(default, dtype, as_content=False))
    return definition


def _fill_tensor_info(message: Any, info: TensorInfo) -> None:
    message.name = info.name
    message.dtype = info.dtype
    shape = message.tensor_shape
    if info.shape is None:
        shape.unknown_rank = True
        return
    shape.SetInParent()
    for size in info.shape:
        shape.dim.add(size=size)


def _tensor_info(message: Any) -> TensorInfo:
    # A reference, as a TF1 variable is one, yields its value; a newer TensorFlow's types stay unknown.
    number = message.dtype % _REFERENCE
    dtype = DataType(number) if number in _DATA_TYPES else DataType.DT_INVALID
    shape = message.tensor_shape
    return TensorInfo(message.name, dtype, None if shape.unknown_rank else tuple(dim.size for dim in shape.dim))
