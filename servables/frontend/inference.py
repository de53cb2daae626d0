"""TF Serving's operations, whatever protocol asked for them.

    Rest, GrpcServices --> Inference --> ServableRouter --> a replica

A protocol says which model it means (`ModelSpec`), how to read its request once the signatures are known (a callback),
and how to write the answer. What lies between happens here, once: resolving the version, the order of the checks,
the deadline, and resolving again when a version left while its request was on the way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from cluster.core.errors import (
    AspiredError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    NotServing,
    Unavailable,
    Unimplemented,
)
from cluster.core.metrics import MetricCells
from cluster.core.servable_id import ServableId
from cluster.core.servable_state import ServableState
from cluster.core.serving_map import ServableEntry
from servables.classification import (
    check_prediction_method,
    classification_call,
    classifications,
    regression_call,
    regressions,
)
from servables.frontend.access_log import note_model
from servables.frontend.request_metrics import RequestMetrics
from servables.frontend.servable_router import ServableRouter
from servables.request_log.request_log import MakeLog, RequestLog
from servables.servable import Array
from servables.signatures import (
    CLASSIFY_METHOD_NAME,
    DEFAULT_SIGNATURE_NAME,
    REGRESS_METHOD_NAME,
    Signature,
    decode_signatures,
)
from servables.stage_metrics import DECODE, StageMetrics

Signatures = Mapping[str, Signature]
T = TypeVar("T")
R = TypeVar("R")

_NO_EXAMPLES = np.empty(0, np.object_)
_RESOLVE_AGAIN_S = 0.05
_NOT_SERVING_PATIENCE_S = 30.0


class ModelSpec(NamedTuple):
    """Which model a request means. At most one of `version` and `label` is set; neither means the newest available."""

    name: str
    version: int | None = None
    label: str | None = None
    signature_name: str = ""


class SignatureCall(NamedTuple):
    """A request, read: what to run. `signature_name` is one that exists, `outputs` are aliases of it, never empty."""

    signature_name: str
    inputs: Mapping[str, Array]
    outputs: tuple[str, ...]


class Prediction(NamedTuple):
    """What came of a call, and which version of the model answered by which of its signatures.

    `timed`: the protocol says to `Inference.stages` how long it encodes.
    """

    id: ServableId
    signature_name: str
    signature: Signature
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    timed: bool = False


@dataclass(frozen=True, slots=True)
class ExampleResults(Generic[R]):
    """The answer to Classify (an `R` is the classes with their scores) or Regress (a value): one result for each example."""

    id: ServableId
    signature_name: str
    results: Sequence[R]


@dataclass(frozen=True, slots=True)
class InferenceTask:
    """One part of a MultiInference request: a signature, and whether to classify or regress with it (`method_name`)."""

    spec: ModelSpec
    method_name: str


DecodeCall = Callable[[Signatures], SignatureCall]
"""Reads a request against the signatures of the version that will answer it; called again if another version must.

Raises AspiredError for what is wrong with the request, checks in the protocol's order.
"""


class Inference:
    """The one handler behind REST and gRPC. Raises AspiredError with TF Serving's codes and texts.

    `check_method_names` lets an operation use only signatures whose `method_name` says that they are for it.
    `request_logs`: by model, of those that log.
    """

    def __init__(
        self,
        router: ServableRouter,
        metrics: RequestMetrics | None = None,
        check_method_names: bool = False,
        request_logs: Mapping[str, RequestLog] | None = None,
    ) -> None:
        self._router = router
        self.metrics = metrics or RequestMetrics(MetricCells())
        self.stages = StageMetrics(self.metrics.cells)
        self._check_method_names = check_method_names
        self._request_logs = {} if request_logs is None else request_logs
        # Keyed by content: all versions of a model usually share their signatures.
        self._signatures = lru_cache(maxsize=4096)(decode_signatures)

    def resolve(self, spec: ModelSpec) -> ServableEntry:
        """The version that would answer now (TF Serving: `ServerCore::ServableRequestFromModelSpec`)."""
        if not spec.name:
            raise InvalidArgument("ModelSpec has no name specified.")
        note_model(spec.name)
        entry = self._router.resolve(spec.name, spec.version, spec.label)
        note_model(entry.id.name, entry.id.version)
        return entry

    def check_room(self, spec: ModelSpec, timeout_s: float | None) -> None:
        """Raises Unavailable if too much waits for the version that would answer: for protocols that read costly bodies.

        What else may be wrong with the request is found when it is read.
        """
        if self._router.crowded:
            try:
                entry = self._router.resolve(spec.name, spec.version, spec.label)
            except AspiredError:
                return
            self._router.check_room(entry, timeout_s)

    async def predict(
        self, spec: ModelSpec, decode: DecodeCall, timeout_s: float | None, api: str = "Predict", read_s: float = 0.0
    ) -> Prediction:
        """Runs one call; `timeout_s` covers all of it, waiting and running included. `api` is what it is counted as.

        `read_s`: what the protocol has spent on the request's bytes before, part of the stage that decodes.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        timed = self.stages.sampled()
        while True:
            entry = self.resolve(spec)
            if self._router.crowded:
                self._router.check_room(entry, timeout_s)
            signatures = self._signatures(entry.signatures)
            decoding_since = time.perf_counter()
            call = decode(signatures)
            if self._check_method_names:
                check_prediction_method(signatures[call.signature_name])
            elapsed_s = loop.time() - began
            remaining_s = None if timeout_s is None else timeout_s - elapsed_s
            handed_over = time.perf_counter()
            if timed:
                self.stages.took(spec.name, DECODE, read_s + handed_over - decoding_since)
            try:
                outputs = await self._router.call(entry, call.signature_name, call.inputs, call.outputs, remaining_s, timed)
            except NotServing as refusal:
                if elapsed_s > _NOT_SERVING_PATIENCE_S:
                    raise Unavailable(
                        f"The replicas of servable {entry.id} refuse new work and no other version took its place. Retry later."
                    ) from refusal
                await self._await_other_map(spec, entry)
                continue
            self.metrics.ran(spec.name, api, time.perf_counter() - handed_over)
            return Prediction(entry.id, call.signature_name, signatures[call.signature_name], call.inputs, outputs, timed)

    async def classify(
        self, spec: ModelSpec, examples: Callable[[], Array], timeout_s: float | None
    ) -> ExampleResults[Sequence[tuple[bytes, float]]]:
        """Classifies serialized `tf.Example`s; `examples` is called once the model is known to exist."""
        return await self._run_examples(spec, examples, timeout_s, "Classify", classification_call, classifications)

    async def regress(self, spec: ModelSpec, examples: Callable[[], Array], timeout_s: float | None) -> ExampleResults[float]:
        """As `classify`, with one value for each example."""
        return await self._run_examples(spec, examples, timeout_s, "Regress", regression_call, regressions)

    async def multi_inference(
        self, tasks: Sequence[InferenceTask], examples: Callable[[], Array], timeout_s: float | None
    ) -> Sequence[ExampleResults[Any]]:
        """Classifies and regresses the same examples by several signatures of one version; results in the tasks' order.

        The signatures run side by side, where TF Serving runs the session once for all
        (`servables/tensorflow/multi_inference.cc`).
        """
        spec = tasks[0].spec if tasks else ModelSpec("")
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            entry = self.resolve(spec)
            signatures = self._signatures(entry.signatures)
            serialized, calls = _multi_inference_calls(signatures, tasks, examples, self._check_method_names)
            elapsed_s = loop.time() - began
            remaining_s = None if timeout_s is None else timeout_s - elapsed_s
            runs = (self._router.call(entry, name, inputs, outputs, remaining_s) for name, inputs, outputs in calls)
            handed_over = time.perf_counter()
            answers = await asyncio.gather(*runs, return_exceptions=True)
            errors = [answer for answer in answers if isinstance(answer, BaseException)]
            if errors and isinstance(errors[0], NotServing) and elapsed_s <= _NOT_SERVING_PATIENCE_S:
                await self._await_other_map(spec, entry)
                continue
            if errors:
                raise errors[0]
            self.metrics.ran(spec.name, "MultiInference", time.perf_counter() - handed_over)
            self.metrics.examples(spec.name, len(serialized))
            return [
                ExampleResults(entry.id, name, _TO_RESULTS[task.method_name](signatures[name], outputs, len(serialized)))
                for task, (name, _, _), outputs in zip(tasks, calls, answers, strict=True)
                if not isinstance(outputs, BaseException)
            ]

    def model_status(self, spec: ModelSpec) -> Sequence[ServableState]:
        """The states of a model's versions, newest first; of one version if `spec` names it. A label is ignored.

        TF Serving: `model_servers/get_model_status_impl.cc`.
        """
        note_model(spec.name)
        states = [state for state in self._router.serving_map.states if state.id.name == spec.name]
        if spec.version is not None:
            states = [state for state in states if state.id.version == spec.version]
            if not states:
                raise NotFound(f"Could not find version {spec.version} of model {spec.name}")
        if not states:
            raise NotFound(f"Could not find any versions of model {spec.name}")
        return sorted(states, key=lambda state: state.id, reverse=True)

    def model_metadata(self, spec: ModelSpec) -> ServableEntry:
        """The version that would answer; its `signatures` are the metadata."""
        return self.resolve(spec)

    def log(self, answered: Prediction | ExampleResults[Any], make_log: MakeLog, size_bytes: int) -> None:
        """A protocol has this answer; see `RequestLog.offer`. Costs a look-up where the model logs nothing."""
        log = self._request_logs.get(answered.id.name)
        if log is not None:
            log.offer(answered.id, answered.signature_name, make_log, size_bytes)

    async def _run_examples(
        self,
        spec: ModelSpec,
        examples: Callable[[], Array],
        timeout_s: float | None,
        api: str,
        to_call: Callable[[Signatures, str, Array, bool], tuple[str, Mapping[str, Array], tuple[str, ...]]],
        to_results: Callable[[Signature, Mapping[str, Array], int], Sequence[R]],
    ) -> ExampleResults[R]:
        rows = 0

        def decode(signatures: Signatures) -> SignatureCall:
            nonlocal rows
            serialized = examples()
            rows = len(serialized)
            return SignatureCall(*to_call(signatures, spec.signature_name, serialized, self._check_method_names))

        prediction = await self.predict(spec, decode, timeout_s, api)
        results = to_results(prediction.signature, prediction.outputs, rows)
        return ExampleResults(prediction.id, prediction.signature_name, results)

    async def _await_other_map(self, spec: ModelSpec, refused: ServableEntry) -> None:
        """A gate closes after the map that leaves its version out is published, so that map is on its way."""
        resolved = self.resolve(spec)
        if (resolved.id, resolved.copy) == (refused.id, refused.copy):
            await self._router.wait_for_change(_RESOLVE_AGAIN_S)


_TO_CALL = {CLASSIFY_METHOD_NAME: classification_call, REGRESS_METHOD_NAME: regression_call}
_TO_RESULTS: Mapping[str, Callable[[Signature, Mapping[str, Array], int], Sequence[Any]]] = {
    CLASSIFY_METHOD_NAME: classifications,
    REGRESS_METHOD_NAME: regressions,
}


def _multi_inference_calls(
    signatures: Signatures, tasks: Sequence[InferenceTask], examples: Callable[[], Array], check_method_names: bool
) -> tuple[Array, Sequence[tuple[str, Mapping[str, Array], tuple[str, ...]]]]:
    """The examples and the tasks' calls, checked in TF Serving's order."""
    checked: set[str] = set()
    for task in tasks:
        if not task.spec.name:
            raise InvalidArgument("Found ModelSpec with an empty model name.")
        if task.spec.name != tasks[0].spec.name:
            raise InvalidArgument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = task.spec.signature_name or DEFAULT_SIGNATURE_NAME
        if name in checked:
            raise InvalidArgument(f"Duplicate evaluation of signature: {name}")
        checked.add(name)
        if name not in signatures:
            raise InvalidArgument(f"Requested signature not found in model graph: {name}")
        if task.method_name not in _TO_CALL:
            raise Unimplemented(f"Unsupported signature method_name: {task.method_name}")
        _TO_CALL[task.method_name](signatures, name, _NO_EXAMPLES, check_method_names)
    serialized = examples()
    return serialized, [
        _TO_CALL[task.method_name](signatures, task.spec.signature_name, serialized, check_method_names) for task in tasks
    ]


def predict_call(
    signatures: Signatures,
    signature_name: str,
    inputs: Mapping[str, T],
    output_filter: Sequence[str],
    to_array: Callable[[T], Array],
) -> SignatureCall:
    """A PredictRequest's call, checked in TF Serving's order (`servables/tensorflow/predict_util.cc`).

    Inputs that are left out take the signature's defaults; no output filter means all outputs.
    """
    name = signature_name or DEFAULT_SIGNATURE_NAME
    signature = signatures.get(name)
    if signature is None:
        raise FailedPrecondition(f'Serving signature key "{name}" not found.')
    _check_input_count(signature, inputs)
    arrays = _read_inputs(signature, inputs, to_array)
    return SignatureCall(name, arrays, requested_outputs(signature, output_filter))


def requested_outputs(signature: Signature, output_filter: Sequence[str] = ()) -> tuple[str, ...]:
    """The output aliases to run, in the order asked for."""
    if not output_filter:
        return tuple(signature.outputs)
    seen: set[str] = set()
    for alias in output_filter:
        if alias not in signature.outputs:
            raise InvalidArgument(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {{{_joined(signature.outputs)}}}."
            )
        if alias in seen:
            raise InvalidArgument(f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    return tuple(output_filter)


def _check_input_count(signature: Signature, inputs: Mapping[str, T]) -> None:
    expected, given = signature.inputs.keys(), inputs.keys()
    if len(given) > len(expected) or (len(given) < len(expected) and not signature.defaults):
        raise InvalidArgument(
            f"input size does not match signature: {len(given)}!={len(expected)} "
            f"len({{{_joined(given)}}}) != len({{{_joined(expected)}}}). "
            f"Sent extra: {{{_joined(given - expected)}}}. Missing but required: {{{_joined(expected - given)}}}."
        )


def _read_inputs(signature: Signature, inputs: Mapping[str, T], to_array: Callable[[T], Array]) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for alias, info in signature.inputs.items():
        if alias in inputs:
            try:
                arrays[alias] = to_array(inputs[alias])
            except AspiredError as error:
                raise InvalidArgument(f"tensor parsing error: {alias}") from error
        elif alias in signature.defaults:
            arrays[alias] = signature.defaults[alias]
        else:
            raise InvalidArgument(
                f"Signature input alias: {alias}(feed name: {info.name}) not found in request and no default value provided. "
                f"Inputs expected to be in the request {{{_joined(inputs)}}}, "
                f"or default input alias set: {_joined(signature.defaults)}"
            )
    unknown = inputs.keys() - signature.inputs.keys()
    if unknown:
        raise InvalidArgument(
            f"Inputs contains invalid name. Used request inputs: {_joined(inputs.keys() - unknown)}, "
            f"request input: {_joined(inputs)}"
        )
    return arrays


def _joined(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
