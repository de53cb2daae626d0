"""TF Serving's gRPC services, translated to `Inference` (`model_servers/{prediction,model}_service_impl.cc`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from cluster.config.model_config import model_server_config
from cluster.core.errors import InvalidArgument
from cluster.protos import (
    ClassificationRequest,
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    GetModelStatusRequest,
    MultiInferenceRequest,
    MultiInferenceResponse,
    PredictionLog,
    PredictRequest,
    RegressionRequest,
    ReloadConfigRequest,
    ReloadConfigResponse,
)
from servables.examples import input_to_examples
from servables.frontend.access_log import AccessLog
from servables.frontend.arrivals import Arrivals
from servables.frontend.grpc_method import GrpcMethod, GrpcService, UnaryMethod, UnaryUnary, parsed
from servables.frontend.held_bytes import HeldBytes
from servables.frontend.inference import (
    ExampleResults,
    Inference,
    InferenceTask,
    ModelSpec,
    Prediction,
    SignatureCall,
    Signatures,
    predict_call,
)
from servables.frontend.inference_messages import (
    classification_response,
    fill_classifications,
    fill_regressions,
    fill_servable,
    regression_response,
)
from servables.frontend.model_status import model_status_response
from servables.frontend.predict_wire import input_array, read_predict_request, write_predict_response
from servables.frontend.server_control import ServerControl
from servables.proto_codec import tensor_to_array
from servables.servable import Array
from servables.signatures import CLASSIFY_METHOD_NAME
from servables.stage_metrics import ENCODE

T = TypeVar("T")

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
_SIGNATURE_DEF = "signature_def"
_SIGNATURE_DEF_MAP_URL = "type.googleapis.com/tensorflow.serving.SignatureDefMap"


class GrpcServices:
    """The methods by name, each from a request's bytes to the answer's. `in_flight` counts those without an answer."""

    def __init__(
        self,
        inference: Inference,
        control: ServerControl,
        *,
        tensor_content: bool = False,
        access_log: AccessLog | None = None,
        arrivals: Arrivals | None = None,
        held: HeldBytes | None = None,
    ) -> None:
        """`tensor_content`: Predict answers carry raw bytes in place of typed fields, which clients must expect.

        `arrivals` is told of requests, for the router's sake. Requests that `held` has no room for until they are answered are
        refused.
        """
        self._inference = inference
        self._control = control
        self._tensor_content = tensor_content
        self._access_log = access_log
        self._arrivals = arrivals or Arrivals()
        self._held = held or HeldBytes(1 << 30)

    @property
    def in_flight(self) -> int:
        return self._arrivals.in_flight

    def services(self) -> Sequence[GrpcService]:
        """What a listener is to be given."""
        return (
            self._service(
                PREDICTION_SERVICE,
                {
                    "Predict": self.predict,
                    "Classify": self.classify,
                    "Regress": self.regress,
                    "GetModelMetadata": self.get_model_metadata,
                    "MultiInference": self.multi_inference,
                },
            ),
            self._service(
                MODEL_SERVICE,
                {
                    "GetModelStatus": self.get_model_status,
                    "HandleReloadConfigRequest": self.handle_reload_config_request,
                },
            ),
        )

    async def predict(self, request_bytes: bytes, timeout_s: float | None) -> bytes:
        began = time.perf_counter()
        fields = read_predict_request(request_bytes)
        if fields is not None:
            with self._inference.metrics.request("GRPC", fields.spec.name, "Predict"):
                return await self._predict(
                    fields.spec, fields.inputs, fields.output_filter, input_array, request_bytes, timeout_s, began
                )
        request = parsed(PredictRequest, request_bytes)
        with self._inference.metrics.request("GRPC", request.model_spec.name, "Predict"):
            spec = _model_spec(request)
            return await self._predict(
                spec, request.inputs, request.output_filter, tensor_to_array, request_bytes, timeout_s, began
            )

    async def _predict(
        self,
        spec: ModelSpec,
        inputs: Mapping[str, T],
        output_filter: Sequence[str],
        to_array: Callable[[T], Array],
        request_bytes: bytes,
        timeout_s: float | None,
        began: float,
    ) -> bytes:
        read_s = time.perf_counter() - began

        def decode(signatures: Signatures) -> SignatureCall:
            return predict_call(signatures, spec.signature_name, inputs, output_filter, to_array)

        prediction = await self._inference.predict(spec, decode, timeout_s, read_s=read_s)
        began = time.perf_counter()
        answer = write_predict_response(prediction, tensor_content=self._tensor_content)
        if prediction.timed:
            self._inference.stages.took(spec.name, ENCODE, time.perf_counter() - began)

        def make_log() -> Any:
            log = PredictionLog()
            log.predict_log.request.MergeFromString(request_bytes)
            log.predict_log.response.MergeFromString(answer)
            return log

        self._inference.log(prediction, make_log, len(request_bytes) + len(answer))
        return answer

    async def classify(self, request_bytes: bytes, timeout_s: float | None) -> bytes:
        request = parsed(ClassificationRequest, request_bytes)
        with self._inference.metrics.request("GRPC", request.model_spec.name, "Classify"):
            answer = await self._inference.classify(_model_spec(request), lambda: input_to_examples(request.input), timeout_s)
            return self._logged(answer, "classify_log", request, classification_response(answer), len(request_bytes))

    async def regress(self, request_bytes: bytes, timeout_s: float | None) -> bytes:
        request = parsed(RegressionRequest, request_bytes)
        with self._inference.metrics.request("GRPC", request.model_spec.name, "Regress"):
            answer = await self._inference.regress(_model_spec(request), lambda: input_to_examples(request.input), timeout_s)
            return self._logged(answer, "regress_log", request, regression_response(answer), len(request_bytes))

    async def get_model_metadata(self, request_bytes: bytes, timeout_s: float | None) -> bytes:
        request = parsed(GetModelMetadataRequest, request_bytes)
        spec = _model_spec(request)
        if not request.metadata_field:
            raise InvalidArgument("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != _SIGNATURE_DEF:
                raise InvalidArgument(f"Metadata field {field} is not supported")
        entry = self._inference.model_metadata(spec)
        response = GetModelMetadataResponse()
        fill_servable(response.model_spec, entry.id, "")
        # An entry carries its signatures as the serialized message, so they pass through unread.
        packed = response.metadata[_SIGNATURE_DEF]
        packed.type_url = _SIGNATURE_DEF_MAP_URL
        packed.value = entry.signatures
        return response.SerializeToString()

    async def get_model_status(self, request_bytes: bytes, timeout_s: float | None) -> bytes:
        request = parsed(GetModelStatusRequest, request_bytes)
        return model_status_response(self._inference.model_status(_model_spec(request))).SerializeToString()

    async def multi_inference(self, request_bytes: bytes, timeout_s: float | None) -> bytes:
        request = parsed(MultiInferenceRequest, request_bytes)
        tasks = [InferenceTask(_spec(task.model_spec), task.method_name) for task in request.tasks]
        answers = await self._inference.multi_inference(tasks, lambda: input_to_examples(request.input), timeout_s)
        response = MultiInferenceResponse()
        for task, answer in zip(tasks, answers, strict=True):
            result = response.results.add()
            fill_servable(result.model_spec, answer.id, answer.signature_name)
            if task.method_name == CLASSIFY_METHOD_NAME:
                fill_classifications(result.classification_result, answer.results)
            else:
                fill_regressions(result.regression_result, answer.results)
        return self._logged(answers[0], "multi_inference_log", request, response, len(request_bytes))

    async def handle_reload_config_request(self, request_bytes: bytes, timeout_s: float | None) -> bytes:
        request = parsed(ReloadConfigRequest, request_bytes)
        if request.config.WhichOneof("config") != "model_config_list":
            raise InvalidArgument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"
            )
        before = await self._totals(request.metric_names)
        status = await self._control.reload(model_server_config(request.config))
        if not status.ok:
            raise status.to_error()
        response = ReloadConfigResponse()
        response.status.SetInParent()
        after = await self._totals(request.metric_names)
        for name in request.metric_names:
            response.metric.add(name=name, int64_value_increase=int(after[name] - before[name]))
        return response.SerializeToString()

    async def _totals(self, metric_names: Collection[str]) -> Mapping[str, float]:
        """What the server has counted under these names, which are TF Serving's own: /tensorflow/serving/request_count."""
        if not metric_names:
            return {}
        totals = dict.fromkeys(metric_names, 0.0)
        for key, value in (await self._control.metrics()).items():
            name = key.metric.replace(":", "/")
            if name in totals and len(value) == 1:  # a histogram has no one value
                totals[name] += value[0]
        return totals

    def _logged(
        self,
        answered: Prediction | ExampleResults[Any],
        kind: str,
        request: Message,
        response: Message,
        request_size_bytes: int,
    ) -> bytes:
        """The answer's bytes; `kind` is the field of PredictionLog that holds both."""
        answer = response.SerializeToString()

        def make_log() -> Any:
            log = PredictionLog()
            getattr(log, kind).request.CopyFrom(request)
            getattr(log, kind).response.CopyFrom(response)
            return log

        self._inference.log(answered, make_log, request_size_bytes + len(answer))
        return answer

    def _service(self, name: str, methods: Mapping[str, UnaryMethod]) -> GrpcService:
        called = {key: self._method(f"{name}/{key}", method) for key, method in methods.items()}
        return GrpcService(name, called, self._arrivals.announce)

    def _method(self, name: str, method: UnaryMethod) -> GrpcMethod:
        async def call(request_bytes: bytes, timeout_s: float | None, _: str) -> bytes:
            size_bytes = len(request_bytes)
            self._arrivals.arrive()
            self._held.take(size_bytes)
            try:
                self._held.check(size_bytes)
                return await method(request_bytes, timeout_s)
            finally:
                self._held.give_back(size_bytes)
                self._arrivals.leave()

        return UnaryUnary(name, call if self._access_log is None else self._access_log.grpc(f"/{name}", call))


def _model_spec(request: Any) -> ModelSpec:
    """Any request's model_spec; which of its fields count is the operation's business."""
    if not request.HasField("model_spec"):
        raise InvalidArgument("Missing ModelSpec")
    return _spec(request.model_spec)


def _spec(spec: Any) -> ModelSpec:
    choice = spec.WhichOneof("version_choice")
    return ModelSpec(
        spec.name,
        spec.version.value if choice == "version" else None,
        spec.version_label if choice == "version_label" else None,
        spec.signature_name,
    )
