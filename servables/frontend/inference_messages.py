"""TF Serving's messages of what `Inference` takes and gives: the answers of gRPC, and both sides of a logged REST request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from cluster.core.servable_id import ServableId
from cluster.protos import (
    ClassificationRequest,
    ClassificationResponse,
    ClassifyLog,
    PredictionLog,
    PredictLog,
    PredictRequest,
    PredictResponse,
    RegressionRequest,
    RegressionResponse,
    RegressLog,
    SerializedExampleList,
    SerializedInput,
)
from servables.frontend.inference import ExampleResults, ModelSpec, Prediction
from servables.proto_codec import array_to_tensor
from servables.servable import Array


def predict_response(prediction: Prediction, *, tensor_content: bool) -> Any:
    """`tensor_content`: tensors carry raw bytes in place of typed fields."""
    response = PredictResponse()
    fill_servable(response.model_spec, prediction.id, prediction.signature_name)
    for alias, array in prediction.outputs.items():
        info = prediction.signature.outputs[alias]
        response.outputs[alias].CopyFrom(array_to_tensor(array, info.dtype, as_content=tensor_content))
    return response


def classification_response(answer: ExampleResults[Sequence[tuple[bytes, float]]]) -> Any:
    response = ClassificationResponse()
    fill_servable(response.model_spec, answer.id, answer.signature_name)
    fill_classifications(response.result, answer.results)
    return response


def regression_response(answer: ExampleResults[float]) -> Any:
    response = RegressionResponse()
    fill_servable(response.model_spec, answer.id, answer.signature_name)
    fill_regressions(response.result, answer.results)
    return response


def predict_log(spec: ModelSpec, prediction: Prediction) -> Any:
    """The PredictionLog of a prediction that was asked for by other means than a message."""
    request = PredictRequest()
    _fill_spec(request.model_spec, spec, prediction.signature_name)
    for alias, array in prediction.inputs.items():
        info = prediction.signature.inputs[alias]
        request.inputs[alias].CopyFrom(array_to_tensor(array, info.dtype, as_content=True))
    return PredictionLog(predict_log=PredictLog(request=request, response=predict_response(prediction, tensor_content=True)))


def classify_log(spec: ModelSpec, examples: Array, answer: ExampleResults[Sequence[tuple[bytes, float]]]) -> Any:
    request = ClassificationRequest()
    _fill_examples(request, spec, examples, answer.signature_name)
    return PredictionLog(classify_log=ClassifyLog(request=request, response=classification_response(answer)))


def regress_log(spec: ModelSpec, examples: Array, answer: ExampleResults[float]) -> Any:
    request = RegressionRequest()
    _fill_examples(request, spec, examples, answer.signature_name)
    return PredictionLog(regress_log=RegressLog(request=request, response=regression_response(answer)))


def fill_servable(spec: Any, servable: ServableId, signature_name: str) -> None:
    """Which version has answered, by which signature."""
    spec.name = servable.name
    spec.version.value = servable.version
    spec.signature_name = signature_name


def fill_classifications(result: Any, rows: Iterable[Iterable[tuple[bytes, float]]]) -> None:
    result.SetInParent()
    for pairs in rows:
        row = result.classifications.add()
        for label, score in pairs:
            row.classes.add(label=label.decode(errors="replace"), score=score)


def fill_regressions(result: Any, values: Iterable[float]) -> None:
    result.SetInParent()
    for value in values:
        result.regressions.add(value=value)


def _fill_spec(message: Any, spec: ModelSpec, signature_name: str) -> None:
    message.name = spec.name
    message.signature_name = signature_name
    if spec.version is not None:
        message.version.value = spec.version
    elif spec.label is not None:
        message.version_label = spec.label


def _fill_examples(request: Any, spec: ModelSpec, examples: Array, signature_name: str) -> None:
    _fill_spec(request.model_spec, spec, signature_name)
    # Examples are serialized already, and stay so in this twin of Input.
    serialized = SerializedInput(example_list=SerializedExampleList(examples=examples.tolist()))
    request.input.MergeFromString(serialized.SerializeToString())
