"""Classify and Regress: what to run, and what comes of it (TF Serving: `servables/tensorflow/{classifier,regressor}.cc`).

Both feed serialized tf.Examples to the signature's one input and get a row of results for each. What the signature's
`method_name` says is looked at only on request: TF2 exports always say predict.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf import text_format
from numpy.typing import NDArray

from cluster.core.errors import Internal, InvalidArgument, Unimplemented
from servables.signatures import (
    CLASSIFY_METHOD_NAME,
    DEFAULT_SIGNATURE_NAME,
    PREDICT_METHOD_NAME,
    REGRESS_METHOD_NAME,
    Signature,
    signature_def,
)
from servables.tensors import DataType, from_numpy, to_numpy

_INPUTS = "inputs"
_CLASSES = "classes"
_SCORES = "scores"
_OUTPUTS = "outputs"
_METHOD_NAMES = (PREDICT_METHOD_NAME, CLASSIFY_METHOD_NAME, REGRESS_METHOD_NAME)

_Array = NDArray[Any]


def check_prediction_method(signature: Signature) -> None:
    """Raises Internal, as TF Serving does, for a signature whose `method_name` is none of TF Serving's."""
    if signature.method_name not in _METHOD_NAMES:
        raise Internal(
            f"Expected prediction signature method_name to be one of {{{', '.join(_METHOD_NAMES)}}}. "
            f"Was: {signature.method_name}"
        )


def classification_call(
    signatures: Mapping[str, Signature], signature_name: str, examples: _Array, check_method_name: bool = False
) -> tuple[str, dict[str, _Array], tuple[str, ...]]:
    """What classifies `examples`: the signature's name ("" means the default one), its inputs, and the outputs to ask for.

    Raises InvalidArgument for a signature that cannot classify.
    """
    name, signature = _find(signatures, signature_name)
    if check_method_name:
        _check_method("classification", signature, CLASSIFY_METHOD_NAME)
    _check_single_input(signature)
    if len(signature.outputs) not in (1, 2):
        raise InvalidArgument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if _INPUTS not in signature.inputs:
        raise InvalidArgument(f"No classification inputs found in SignatureDef: {_text(signature)}")
    outputs = tuple(alias for alias in (_CLASSES, _SCORES) if alias in signature.outputs)
    if not outputs:
        raise InvalidArgument(
            f'Expected classification signature outputs to contain at least one of "{_CLASSES}" or "{_SCORES}". '
            f"Signature was: {_text(signature)}"
        )
    return name, {_INPUTS: examples}, outputs


def classifications(signature: Signature, outputs: Mapping[str, _Array], rows: int) -> list[list[tuple[bytes, float]]]:
    """For each of the `rows` examples, a label and a score for each class.

    Labels are what the graph made, UTF-8 or not: a protocol decodes them. A model without classes gives empty labels, one
    without scores gives 0. Raises InvalidArgument for outputs that are not as Classify needs them.
    """
    labels = _matrix(signature, outputs, _CLASSES, DataType.DT_STRING, rows)
    scores = _matrix(signature, outputs, _SCORES, DataType.DT_FLOAT, rows)
    if labels is None:
        labels = np.full_like(scores, b"", np.object_)
    if scores is None:
        scores = np.zeros(labels.shape, np.float32)
    if labels.shape[1] != scores.shape[1]:
        raise InvalidArgument(
            f"Tensors class and score should match in dim_size(1). Got {labels.shape[1]} vs. {scores.shape[1]}"
        )
    pairs = zip(labels.tolist(), scores.tolist(), strict=True)
    return [list(zip(row_labels, row_scores, strict=True)) for row_labels, row_scores in pairs]


def regression_call(
    signatures: Mapping[str, Signature], signature_name: str, examples: _Array, check_method_name: bool = False
) -> tuple[str, dict[str, _Array], tuple[str, ...]]:
    """As `classification_call`, for a value for each of `examples`."""
    name, signature = _find(signatures, signature_name)
    if check_method_name:
        _check_method("regression", signature, REGRESS_METHOD_NAME)
    _check_single_input(signature)
    if len(signature.outputs) != 1:
        raise InvalidArgument("Expected one output Tensor.")
    if _INPUTS not in signature.inputs:
        raise InvalidArgument(f"No regression inputs found in SignatureDef: {_text(signature)}")
    if _OUTPUTS not in signature.outputs:
        raise InvalidArgument(f"No regression outputs found in SignatureDef: {_text(signature)}")
    return name, {_INPUTS: examples}, (_OUTPUTS,)


def regressions(signature: Signature, outputs: Mapping[str, _Array], rows: int) -> list[float]:
    """The value of each of the `rows` examples. Raises InvalidArgument for an output that is not as Regress needs it."""
    (alias,) = signature.outputs
    output = outputs[alias]
    if not (output.ndim == 1 or (output.ndim == 2 and output.shape[1] == 1)):
        raise InvalidArgument(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape(output)}"
        )
    if output.shape[0] != rows:
        raise InvalidArgument(f"Input batch size did not match output batch size: {rows} vs. {output.shape[0]}")
    if output.dtype != np.float32:
        raise InvalidArgument(f"Expected output Tensor of DT_FLOAT.  Got: {_type_name(output)}")
    values: list[float] = output.ravel().tolist()
    return values


def _find(signatures: Mapping[str, Signature], signature_name: str) -> tuple[str, Signature]:
    name = signature_name or DEFAULT_SIGNATURE_NAME
    signature = signatures.get(name)
    if signature is None:
        raise InvalidArgument(f"No signature was found with the name: {name}")
    return name, signature


def _check_method(kind: str, signature: Signature, expected: str) -> None:
    if signature.method_name != expected:
        raise InvalidArgument(f"Expected {kind} signature method_name to be {expected}. Was: {signature.method_name}")


def _check_single_input(signature: Signature) -> None:
    if len(signature.inputs) != 1:
        raise InvalidArgument("Expected one input Tensor.")


def _matrix(signature: Signature, outputs: Mapping[str, _Array], alias: str, dtype: DataType, rows: int) -> _Array | None:
    """The output `alias`, checked; None if the signature has none."""
    if alias not in signature.outputs:
        return None
    output = outputs[alias]
    if output.ndim != 2:
        raise InvalidArgument(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(output)}")
    if output.dtype != to_numpy(dtype):
        raise InvalidArgument(f"Expected {alias} Tensor of {dtype.name}. Got: {_type_name(output)}")
    if output.shape[0] != rows:
        raise InvalidArgument(f"Expected {alias} output batch size of {rows}. Got: {output.shape[0]}")
    return output


def _text(signature: Signature) -> str:
    return text_format.MessageToString(signature_def(signature))


def _shape(array: _Array) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _type_name(array: _Array) -> str:
    try:
        return from_numpy(array.dtype).name
    except Unimplemented:
        return str(array.dtype)
