"""Classify and Regress: the checks of TF Serving, in its order and words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cluster.core.errors import InvalidArgument
from servables.classification import classification_call, classifications, regression_call, regressions
from servables.signatures import DEFAULT_SIGNATURE_NAME, PREDICT_METHOD_NAME, Signature, TensorInfo
from servables.tensors import DataType, string_array

Array = NDArray[Any]

EXAMPLES = string_array([b"one", b"two"])
_TYPES = {"inputs": DataType.DT_STRING, "classes": DataType.DT_STRING}


def signature(*, inputs: tuple[str, ...] = ("inputs",), outputs: tuple[str, ...]) -> Signature:
    def infos(names: tuple[str, ...]) -> dict[str, TensorInfo]:
        return {name: TensorInfo(f"{name}:0", _TYPES.get(name, DataType.DT_FLOAT), None) for name in names}

    return Signature(PREDICT_METHOD_NAME, infos(inputs), infos(outputs))


CLASSIFIER = signature(outputs=("scores", "classes"))
REGRESSOR = signature(outputs=("outputs",))
LABELS = string_array([b"cat", b"dog", b"cat", b"\xff"], (2, 2))
SCORES = np.array([[0.75, 0.25], [0.5, 0.5]], np.float32)


def refusal(text: str) -> str:
    return f"^{re.escape(text)}"


@pytest.mark.parametrize("name", ["", DEFAULT_SIGNATURE_NAME])
def test_classification_asks_for_classes_and_scores(name: str) -> None:
    call = classification_call({DEFAULT_SIGNATURE_NAME: CLASSIFIER}, name, EXAMPLES)
    assert call == (DEFAULT_SIGNATURE_NAME, {"inputs": EXAMPLES}, ("classes", "scores"))


@pytest.mark.parametrize("output", ["classes", "scores"])
def test_other_outputs_are_not_run(output: str) -> None:
    classifier = signature(outputs=("embedding", output))
    assert classification_call({"c": classifier}, "c", EXAMPLES)[2] == (output,)


@pytest.mark.parametrize(
    ("classifier", "text"),
    [
        (signature(inputs=("inputs", "more"), outputs=()), "Expected one input Tensor."),
        (signature(inputs=(), outputs=("classes",)), "Expected one input Tensor."),
        (signature(outputs=()), "Expected one or two output Tensors, found 0"),
        (signature(outputs=("a", "b", "classes")), "Expected one or two output Tensors, found 3"),
        (signature(inputs=("x",), outputs=("a",)), "No classification inputs found in SignatureDef: inputs {"),
        (
            signature(outputs=("a",)),
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            "Signature was: inputs {",
        ),
    ],
)
def test_a_signature_that_cannot_classify_is_refused(classifier: Signature, text: str) -> None:
    with pytest.raises(InvalidArgument, match=refusal(text)):
        classification_call({"s": classifier}, "s", EXAMPLES)


@pytest.mark.parametrize("make_call", [classification_call, regression_call])
def test_an_unknown_signature_is_an_invalid_argument(make_call: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^No signature was found with the name: missing$"):
        make_call({"c": CLASSIFIER}, "missing", EXAMPLES)
    with pytest.raises(InvalidArgument, match=r"^No signature was found with the name: serving_default$"):
        make_call({"c": CLASSIFIER}, "", EXAMPLES)


def test_each_row_gets_its_labels_and_scores() -> None:
    assert classifications(CLASSIFIER, {"classes": LABELS, "scores": SCORES}, 2) == [
        [(b"cat", 0.75), (b"dog", 0.25)],
        [(b"cat", 0.5), (b"\xff", 0.5)],
    ]


def test_missing_classes_are_empty_labels_and_missing_scores_are_zero() -> None:
    only_scores, only_classes = signature(outputs=("scores",)), signature(outputs=("classes", "other"))
    assert classifications(only_scores, {"scores": SCORES[:1]}, 1) == [[(b"", 0.75), (b"", 0.25)]]
    assert classifications(only_classes, {"classes": LABELS[:1]}, 1) == [[(b"cat", 0.0), (b"dog", 0.0)]]


def test_a_row_may_have_no_classes() -> None:
    assert classifications(signature(outputs=("scores",)), {"scores": SCORES[:, :0]}, 2) == [[], []]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"classes": LABELS[0]}, "Expected Tensor shape: [batch_size num_classes] but got [2]"),
        ({"scores": SCORES[:, :, None]}, "Expected Tensor shape: [batch_size num_classes] but got [2,2,1]"),
        ({"classes": SCORES}, "Expected classes Tensor of DT_STRING. Got: DT_FLOAT"),
        ({"scores": SCORES.astype(np.float64)}, "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE"),
        ({"scores": SCORES.astype("M8[s]")}, "Expected scores Tensor of DT_FLOAT. Got: datetime64[s]"),
        ({"classes": LABELS[:1]}, "Expected classes output batch size of 2. Got: 1"),
        ({"scores": SCORES[:1]}, "Expected scores output batch size of 2. Got: 1"),
        ({"scores": SCORES[:, :1]}, "Tensors class and score should match in dim_size(1). Got 2 vs. 1"),
    ],
)
def test_outputs_that_are_no_classification_are_refused(changes: Mapping[str, Array], text: str) -> None:
    with pytest.raises(InvalidArgument, match=refusal(text) + "$"):
        classifications(CLASSIFIER, {"classes": LABELS, "scores": SCORES, **changes}, 2)


def test_regression_asks_for_outputs() -> None:
    assert regression_call({"r": REGRESSOR}, "r", EXAMPLES) == ("r", {"inputs": EXAMPLES}, ("outputs",))


@pytest.mark.parametrize(
    ("regressor", "text"),
    [
        (signature(inputs=("inputs", "more"), outputs=()), "Expected one input Tensor."),
        (signature(outputs=("outputs", "more")), "Expected one output Tensor."),
        (signature(inputs=("x",), outputs=("y",)), "No regression inputs found in SignatureDef: inputs {"),
        (signature(outputs=("y",)), "No regression outputs found in SignatureDef: inputs {"),
    ],
)
def test_a_signature_that_cannot_regress_is_refused(regressor: Signature, text: str) -> None:
    with pytest.raises(InvalidArgument, match=refusal(text)):
        regression_call({"s": regressor}, "s", EXAMPLES)


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_each_row_gets_its_value(shape: tuple[int, ...]) -> None:
    output = np.array([1.5, 2.5, 3.5], np.float32).reshape(shape)
    assert regressions(REGRESSOR, {"outputs": output}, 3) == [1.5, 2.5, 3.5]


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (
            np.zeros((2, 2), np.float32),
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [2,2]",
        ),
        (np.zeros((), np.float32), "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got []"),
        (np.zeros(3, np.float32), "Input batch size did not match output batch size: 2 vs. 3"),
        (np.zeros(2, np.int64), "Expected output Tensor of DT_FLOAT.  Got: DT_INT64"),
    ],
)
def test_outputs_that_are_no_regression_are_refused(output: Array, text: str) -> None:
    with pytest.raises(InvalidArgument, match=refusal(text) + "$"):
        regressions(REGRESSOR, {"outputs": output}, 2)
