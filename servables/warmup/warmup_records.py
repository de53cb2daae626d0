"""The recorded requests that a version brings along (TF Serving: `servables/tensorflow/saved_model_warmup{,_util}.cc`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from cluster.core.errors import DataLoss, InvalidArgument, Unimplemented
from cluster.protos import PredictionLog
from servables.classification import classification_call, classifications, regression_call, regressions
from servables.examples import input_to_examples
from servables.frontend.inference import SignatureCall, Signatures, predict_call
from servables.proto_codec import tensor_to_array
from servables.servable import Array
from servables.signatures import CLASSIFY_METHOD_NAME, REGRESS_METHOD_NAME
from servables.tf_record import read_records

REQUESTS_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")
"""Where a version keeps them: a TFRecord file of PredictionLogs, under the version's directory."""
MAX_RECORDS = 1000

Outputs = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class WarmupCall:
    """One run that a record asks for. `check` raises AspiredError for outputs that could not be answered with."""

    call: SignatureCall
    check: Callable[[Outputs], object]


def read_warmup_records(version_path: str) -> Iterator[Any]:
    """The version's PredictionLogs in their order; none when it brings no file.

    Raises, when it comes to it: DataLoss for a file that is damaged or no TFRecord file, InvalidArgument for a record that is
    no PredictionLog and for one too many.
    """
    path = os.path.join(version_path, REQUESTS_FILE)
    try:
        file = open(path, "rb")  # noqa: SIM115  # closed below, when the iteration ends
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataLoss(f"Cannot read {path}: {error.strerror or error}") from error
    with file:
        try:
            for number, record in enumerate(read_records(file), start=1):
                if number > MAX_RECORDS:
                    raise InvalidArgument(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}")
                yield _parsed(record, number, path)
        except DataLoss as error:
            raise DataLoss(f"{error.message} of {path}. Please verify your warmup data is in TFRecord format.") from error


def warmup_calls(log: Any, signatures: Signatures) -> list[WarmupCall]:
    """The runs that a PredictionLog's request stands for; of its model_spec only the signature's name counts.

    Raises what the request would be answered with, and Unimplemented for a kind that is not replayed.
    """
    kind = log.WhichOneof("log_type")
    match kind:
        case "predict_log":
            return [_predict(log.predict_log.request, signatures)]
        case "classify_log":
            return [_classify(log.classify_log.request, signatures)]
        case "regress_log":
            return [_regress(log.regress_log.request, signatures)]
        case "multi_inference_log":
            return _multi_inference(log.multi_inference_log.request, signatures)
        case _:
            raise Unimplemented(f"Unsupported log_type for warmup: {kind or 'none is set'}")


def _parsed(record: bytes, number: int, path: str) -> Any:
    try:
        return PredictionLog.FromString(record)
    except DecodeError as error:
        raise InvalidArgument(f"Failed to parse warmup record: number {number} from {path} is no PredictionLog") from error


def _predict(request: Any, signatures: Signatures) -> WarmupCall:
    name = request.model_spec.signature_name
    call = predict_call(signatures, name, request.inputs, request.output_filter, tensor_to_array)
    return WarmupCall(call, lambda outputs: None)


def _classify(request: Any, signatures: Signatures) -> WarmupCall:
    return _classification(input_to_examples(request.input), request.model_spec.signature_name, signatures)


def _regress(request: Any, signatures: Signatures) -> WarmupCall:
    return _regression(input_to_examples(request.input), request.model_spec.signature_name, signatures)


def _multi_inference(request: Any, signatures: Signatures) -> list[WarmupCall]:
    examples = input_to_examples(request.input)
    return [_task(task, examples, signatures) for task in request.tasks]


def _task(task: Any, examples: Array, signatures: Signatures) -> WarmupCall:
    if task.method_name == CLASSIFY_METHOD_NAME:
        return _classification(examples, task.model_spec.signature_name, signatures)
    if task.method_name == REGRESS_METHOD_NAME:
        return _regression(examples, task.model_spec.signature_name, signatures)
    raise Unimplemented(f"Unsupported signature method_name: {task.method_name}")


def _classification(examples: Array, signature_name: str, signatures: Signatures) -> WarmupCall:
    call = SignatureCall(*classification_call(signatures, signature_name, examples))
    signature = signatures[call.signature_name]
    return WarmupCall(call, lambda outputs: classifications(signature, outputs, len(examples)))


def _regression(examples: Array, signature_name: str, signatures: Signatures) -> WarmupCall:
    call = SignatureCall(*regression_call(signatures, signature_name, examples))
    signature = signatures[call.signature_name]
    return WarmupCall(call, lambda outputs: regressions(signature, outputs, len(examples)))
