"""Calls that make a version run batches of given sizes, of rows that a client has sent or, where there are none, of zeros."""

from __future__ import annotations

import math

import numpy as np

from cluster.core.errors import Unimplemented
from servables.frontend.inference import SignatureCall
from servables.servable import Array
from servables.signatures import Signature, TensorInfo
from servables.tensors import DataType, string_array, to_numpy

Kind = tuple[str, frozenset[str], frozenset[tuple[str, str, tuple[int, ...]]]]


def kind_of(call: SignatureCall) -> Kind:
    """Equal for calls that batches of the same size make run alike: same signature, outputs, dtypes and inner shapes."""
    inputs = frozenset((alias, array.dtype.str, array.shape[1:]) for alias, array in call.inputs.items())
    return call.signature_name, frozenset(call.outputs), inputs


def resized(call: SignatureCall, rows: int) -> SignatureCall | None:
    """The call with its first row `rows` times; None for one that has no rows to repeat."""
    if not call.inputs or any(array.ndim == 0 or not len(array) for array in call.inputs.values()):
        return None
    inputs = {alias: np.repeat(array[:1], rows, axis=0) for alias, array in call.inputs.items()}
    return SignatureCall(call.signature_name, inputs, call.outputs)


def made_up(name: str, signature: Signature) -> SignatureCall | None:
    """A call of one row of zeros and empty strings; None for a signature that takes no batches of any size.

    Inner dimensions of unknown size are 1. A signature need not accept such a row.
    """
    inputs: dict[str, Array] = {}
    for alias, info in signature.inputs.items():
        row = _row(info)
        if row is None:
            return None
        inputs[alias] = row
    return SignatureCall(name, inputs, tuple(signature.outputs)) if inputs else None


def _row(info: TensorInfo) -> Array | None:
    shape = (-1,) if info.shape is None else info.shape
    if not shape or shape[0] != -1:
        return None
    row_shape = (1, *(1 if size < 0 else size for size in shape[1:]))
    if info.dtype is DataType.DT_STRING:
        return string_array([b""] * math.prod(row_shape), row_shape)
    try:
        return np.zeros(row_shape, to_numpy(info.dtype))
    except Unimplemented:
        return None
