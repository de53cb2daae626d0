"""The API as TF Serving's gRPC messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from google.protobuf.message import DecodeError

from cluster.client.codec import Codec
from cluster.client.examples import Example, Kind, read_features
from cluster.client.exchange import WireRequest
from cluster.client.model_metadata import ModelMetadata
from cluster.client.model_spec import ModelSpec
from cluster.client.model_status import VersionStatus
from cluster.client.results import Array, Class, Classifications, Prediction, Regressions
from cluster.core.errors import Code, DataLoss, Internal, InvalidArgument
from cluster.core.servable_state import PublicState
from cluster.protos import (
    ClassificationRequest,
    ClassificationResponse,
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    GetModelStatusRequest,
    GetModelStatusResponse,
    PredictRequest,
    PredictResponse,
    RegressionRequest,
    RegressionResponse,
)
from cluster.protos import Example as ExampleProto
from servables.proto_codec import array_to_tensor, tensor_to_array
from servables.signatures import Signature, decode_signatures

PREDICTION_SERVICE = "/tensorflow.serving.PredictionService"
_MODEL_SERVICE = "/tensorflow.serving.ModelService"


class GrpcCodec(Codec):
    def encode_predict(
        self,
        spec: ModelSpec,
        signature_name: str,
        signature: Signature,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
    ) -> WireRequest:
        request = PredictRequest(output_filter=outputs)
        fill_model_spec(request.model_spec, spec, signature_name)
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(array_to_tensor(array, signature.inputs[name].dtype, as_content=True))
        return WireRequest("", f"{PREDICTION_SERVICE}/Predict", request.SerializeToString())

    def decode_prediction(self, body: bytes, signature: Signature, outputs: Sequence[str]) -> Prediction:
        with _reading("Predict"):
            response = PredictResponse.FromString(body)
            arrays = {name: tensor_to_array(tensor) for name, tensor in response.outputs.items()}
            return Prediction(arrays, response.model_spec.version.value)

    def encode_classify(
        self, spec: ModelSpec, signature_name: str, examples: Sequence[Example], context: Example | None
    ) -> WireRequest:
        request = ClassificationRequest()
        fill_model_spec(request.model_spec, spec, signature_name)
        _fill_input(request.input, examples, context)
        return WireRequest("", f"{PREDICTION_SERVICE}/Classify", request.SerializeToString())

    def decode_classifications(self, body: bytes) -> Classifications:
        with _reading("Classify"):
            response = ClassificationResponse.FromString(body)
        rows = (tuple(Class(c.label, c.score) for c in row.classes) for row in response.result.classifications)
        return Classifications(tuple(rows), response.model_spec.version.value)

    def encode_regress(
        self, spec: ModelSpec, signature_name: str, examples: Sequence[Example], context: Example | None
    ) -> WireRequest:
        request = RegressionRequest()
        fill_model_spec(request.model_spec, spec, signature_name)
        _fill_input(request.input, examples, context)
        return WireRequest("", f"{PREDICTION_SERVICE}/Regress", request.SerializeToString())

    def decode_regressions(self, body: bytes) -> Regressions:
        with _reading("Regress"):
            response = RegressionResponse.FromString(body)
        return Regressions(tuple(row.value for row in response.result.regressions), response.model_spec.version.value)

    def encode_status(self, spec: ModelSpec) -> WireRequest:
        request = GetModelStatusRequest()
        fill_model_spec(request.model_spec, spec)
        return WireRequest("", f"{_MODEL_SERVICE}/GetModelStatus", request.SerializeToString())

    def decode_statuses(self, body: bytes) -> list[VersionStatus]:
        with _reading("GetModelStatus"):
            response = GetModelStatusResponse.FromString(body)
            statuses = [
                VersionStatus(
                    version=entry.version,
                    state=PublicState(entry.state),
                    code=Code(entry.status.error_code),
                    message=entry.status.error_message,
                )
                for entry in response.model_version_status
            ]
        return sorted(statuses, key=lambda status: status.version, reverse=True)

    def encode_metadata(self, spec: ModelSpec) -> WireRequest:
        request = GetModelMetadataRequest(metadata_field=["signature_def"])
        fill_model_spec(request.model_spec, spec)
        return WireRequest("", f"{PREDICTION_SERVICE}/GetModelMetadata", request.SerializeToString())

    def decode_metadata(self, body: bytes) -> ModelMetadata:
        with _reading("GetModelMetadata"):
            response = GetModelMetadataResponse.FromString(body)
            signatures = decode_signatures(response.metadata["signature_def"].value)
            return ModelMetadata(signatures, response.model_spec.version.value)


def fill_model_spec(message: Any, spec: ModelSpec, signature_name: str = "") -> None:
    """Writes what the spec names into a `ModelSpec` message."""
    message.name = spec.name
    message.signature_name = signature_name
    if spec.version is not None:
        message.version.value = spec.version
    elif spec.label is not None:
        message.version_label = spec.label


def _fill_input(message: Any, examples: Sequence[Example], context: Example | None) -> None:
    if context is None:
        message.example_list.examples.extend(map(_example_proto, examples))
    else:
        message.example_list_with_context.context.CopyFrom(_example_proto(context))
        message.example_list_with_context.examples.extend(map(_example_proto, examples))


def _example_proto(example: Example) -> Any:
    if isinstance(example, bytes):
        try:
            return ExampleProto.FromString(example)
        except DecodeError as error:
            raise InvalidArgument(f"The bytes are not a serialized tf.Example: {error}") from error
    message = ExampleProto()
    for name, feature in read_features(example).items():
        entry = message.features.feature[name]
        if feature.kind is not Kind.NONE:
            getattr(entry, feature.kind.value).value.extend(feature.values)
    return message


@contextmanager
def _reading(method: str) -> Iterator[None]:
    try:
        yield
    except (DecodeError, ValueError, DataLoss, InvalidArgument) as error:
        raise Internal(f"Cannot read the {method} reply: {error}") from error
