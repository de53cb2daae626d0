"""SignatureDefs of a MetaGraphDef as our `Signature` values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from servables.signatures import Signature, TensorInfo
from servables.tensors import DataType

# Not for clients: TensorFlow keeps a SavedModel's initializer and training step as signatures.
_INTERNAL_KEYS = frozenset({"__saved_model_init_op", "__saved_model_train_op"})
_REF_OFFSET = 100


def serving_signature_defs(meta_graph: Any) -> dict[str, Any]:
    """The SignatureDefs that a client may call, by name."""
    return {name: definition for name, definition in meta_graph.signature_def.items() if name not in _INTERNAL_KEYS}


def to_signatures(signature_defs: Mapping[str, Any]) -> dict[str, Signature]:
    return {name: _to_signature(definition) for name, definition in signature_defs.items()}


def _to_signature(definition: Any) -> Signature:
    return Signature(
        method_name=definition.method_name,
        inputs={alias: _to_tensor_info(info) for alias, info in definition.inputs.items()},
        outputs={alias: _to_tensor_info(info) for alias, info in definition.outputs.items()},
        defaults={alias: tf.make_ndarray(value) for alias, value in definition.defaults.items()},
    )


def _to_tensor_info(info: Any) -> TensorInfo:
    # A TF1 variable as an output is a reference; what a client gets is its value.
    dtype = info.dtype - _REF_OFFSET if info.dtype > _REF_OFFSET else info.dtype
    shape = None if info.tensor_shape.unknown_rank else tuple(dimension.size for dimension in info.tensor_shape.dim)
    return TensorInfo(name=info.name, dtype=DataType(dtype), shape=shape)
