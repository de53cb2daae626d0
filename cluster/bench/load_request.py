"""One request that is sent again and again, encoded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.client.codec import Codec
from cluster.client.exchange import WireRequest
from cluster.client.grpc_codec import PREDICTION_SERVICE, GrpcCodec, fill_model_spec
from cluster.client.model_metadata import ModelMetadata
from cluster.client.model_spec import ModelSpec
from cluster.client.rest_codec import RestCodec, model_path
from cluster.client.results import Array
from cluster.client.signature_binding import bind_inputs, check_outputs
from cluster.client.target import Protocol
from cluster.core.errors import InvalidArgument
from servables.json_codec import PredictBody
from servables.proto_codec import tensor_to_array


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """`rows` is the size of the tensors' first dimension, 1 where they have no common one."""

    wire: WireRequest
    rows: int


class RequestEncoder:
    """Writes requests for one model in one protocol. All methods raise AspiredError for what the model cannot take.

    What was recorded in the target's own protocol is sent as it was recorded; only the model's name and version are the ones
    under test. What comes from the other protocol goes through tensors.
    """

    def __init__(self, protocol: Protocol, spec: ModelSpec, metadata: ModelMetadata) -> None:
        self._protocol = protocol
        self._codec: Codec = GrpcCodec() if protocol is Protocol.GRPC else RestCodec()
        self._spec = spec
        self._metadata = metadata

    def tensors(self, inputs: Mapping[str, Array] | Array, signature_name: str, outputs: Sequence[str] = ()) -> LoadRequest:
        """A predict request; `inputs` is the tensor of the only input, or those of each."""
        signature = self._metadata.signature(signature_name)
        check_outputs(outputs, signature)
        arrays = bind_inputs(inputs, signature)
        return LoadRequest(
            self._codec.encode_predict(self._spec, signature_name, signature, arrays, outputs), rows_of(arrays.values())
        )

    def predict_body(self, body: bytes) -> LoadRequest:
        """The JSON body of a :predict request."""
        parsed = PredictBody.parse(body)
        arrays = parsed.decode(self._metadata.signature(parsed.signature_name).inputs, parsed.signature_name)
        if self._protocol is Protocol.GRPC:
            return self.tensors(arrays, parsed.signature_name)
        return LoadRequest(WireRequest("POST", f"{model_path(self._spec)}:predict", body), rows_of(arrays.values()))

    def predict_message(self, request: Any) -> LoadRequest:
        """A PredictRequest."""
        arrays = {name: tensor_to_array(tensor) for name, tensor in request.inputs.items()}
        signature_name = request.model_spec.signature_name
        if self._protocol is Protocol.REST:
            return self.tensors(arrays, signature_name, list(request.output_filter))
        return self._message("Predict", request, signature_name, rows_of(arrays.values()))

    def logged(self, log: Any) -> LoadRequest:
        """The request of a PredictionLog."""
        match log.WhichOneof("log_type"):
            case "predict_log":
                return self.predict_message(log.predict_log.request)
            case "classify_log":
                return self._examples("Classify", log.classify_log.request)
            case "regress_log":
                return self._examples("Regress", log.regress_log.request)
            case kind:
                raise InvalidArgument(
                    f"it holds a {kind or 'log without a request'}; predict, classify and regress logs can be sent"
                )

    def _examples(self, method: str, request: Any) -> LoadRequest:
        if self._protocol is Protocol.REST:
            raise InvalidArgument(f"it holds a {method} request, which can only be sent over gRPC: give a grpc:// URL")
        kind = request.input.WhichOneof("kind")
        rows = len(getattr(request.input, kind).examples) if kind else 1
        return self._message(method, request, request.model_spec.signature_name, rows)

    def _message(self, method: str, request: Any, signature_name: str, rows: int) -> LoadRequest:
        request.model_spec.Clear()
        fill_model_spec(request.model_spec, self._spec, signature_name)
        return LoadRequest(WireRequest("", f"{PREDICTION_SERVICE}/{method}", request.SerializeToString()), rows)


def rows_of(arrays: Iterable[Array]) -> int:
    """The size of the first dimension that all arrays share, else 1."""
    sizes = {array.shape[0] if array.ndim else 1 for array in arrays}
    return sizes.pop() if len(sizes) == 1 else 1
