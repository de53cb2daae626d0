"""Classify and Regress over a Predict-like call (TF Serving: `servables/tensorflow/{classifier,regressor}.cc`)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cluster.core.errors import InvalidArgument
from servables.signatures import DEFAULT_SIGNATURE_NAME, Signature
from servables.tensors import DataType

_INPUTS = "inputs"
_CLASSES = "classes"
_SCORES = "scores"
_OUTPUTS = "outputs"

_Arrays = Mapping[str, NDArray[np.generic]]


def classification_call(
    signatures: Mapping[str, Signature], signature_name: str, examples: NDArray[np.object_]
) -> tuple[str, dict[str, NDArray[np.generic]], tuple[str, ...]]:
    """Signature name, inputs and outputs of the call that classifies `examples`. Raises InvalidArgument."""
    name, signature = _find(signatures, signature_name)
    if len(signature.inputs) != 1:
        raise InvalidArgument("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise InvalidArgument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if _INPUTS not in signature.inputs:
        raise InvalidArgument(f"No classification inputs found in SignatureDef: {_describe(signature)}")
    outputs = tuple(alias for alias in (_CLASSES, _SCORES) if alias in signature.outputs)
    if not outputs:
        raise InvalidArgument(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {_describe(signature)}"
        )
    return name, {_INPUTS: examples}, outputs


def classifications(outputs: _Arrays, rows: int) -> list[list[tuple[bytes, float]]]:
    """One list of (label, score) for each of `rows` examples. What the model does not give is an empty label or a score of 0."""
    classes, scores = outputs.get(_CLASSES), outputs.get(_SCORES)
    for name, tensor in ((_CLASSES, classes), (_SCORES, scores)):
        if tensor is None:
            continue
        if tensor.ndim != 2:
            raise InvalidArgument(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(tensor)}")
        wanted = np.dtype(object) if name == _CLASSES else np.dtype(np.float32)
        if tensor.dtype != wanted:
            label = DataType.DT_STRING.name if name == _CLASSES else DataType.DT_FLOAT.name
            raise InvalidArgument(f"Expected {name} Tensor of {label}. Got: {tensor.dtype}")
        if tensor.shape[0] != rows:
            raise InvalidArgument(f"Expected {name} output batch size of {rows}. Got: {tensor.shape[0]}")
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise InvalidArgument(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    known = classes if classes is not None else scores
    assert known is not None  # classification_call asks for one of them
    labels = classes.tolist() if classes is not None else [[b""] * known.shape[1]] * rows
    values = scores.tolist() if scores is not None else [[0.0] * known.shape[1]] * rows
    return [list(zip(*row, strict=True)) for row in zip(labels, values, strict=True)]


def regression_call(
    signatures: Mapping[str, Signature], signature_name: str, examples: NDArray[np.object_]
) -> tuple[str, dict[str, NDArray[np.generic]], tuple[str, ...]]:
    """Signature name, inputs and outputs of the call that regresses `examples`. Raises InvalidArgument."""
    name, signature = _find(signatures, signature_name)
    if len(signature.inputs) != 1:
        raise InvalidArgument("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise InvalidArgument("Expected one output Tensor.")
    if _INPUTS not in signature.inputs:
        raise InvalidArgument(f"No regression inputs found in SignatureDef: {_describe(signature)}")
    if _OUTPUTS not in signature.outputs:
        raise InvalidArgument(f"No regression outputs found in SignatureDef: {_describe(signature)}")
    return name, {_INPUTS: examples}, (_OUTPUTS,)


def regressions(outputs: _Arrays, rows: int) -> list[float]:
    """One value for each of `rows` examples."""
    values = outputs[_OUTPUTS]
    if not (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        raise InvalidArgument(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape(values)}"
        )
    if values.shape[0] != rows:
        raise InvalidArgument(f"Input batch size did not match output batch size: {rows} vs. {values.shape[0]}")
    if values.dtype != np.float32:
        raise InvalidArgument(f"Expected output Tensor of DT_FLOAT. Got: {values.dtype}")
    flat: list[float] = values.reshape(-1).tolist()
    return flat


def _find(signatures: Mapping[str, Signature], name: str) -> tuple[str, Signature]:
    name = name or DEFAULT_SIGNATURE_NAME
    signature = signatures.get(name)
    if signature is None:
        raise InvalidArgument(f"No signature was found with the name: {name}")
    return name, signature


def _describe(signature: Signature) -> str:
    inputs = ", ".join(sorted(signature.inputs))
    outputs = ", ".join(sorted(signature.outputs))
    return f"inputs {{{inputs}}} outputs {{{outputs}}} method_name {signature.method_name}"


def _shape(tensor: NDArray[np.generic]) -> str:
    return "[" + ",".join(map(str, tensor.shape)) + "]"
