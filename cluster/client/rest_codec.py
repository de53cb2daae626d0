"""The API in TF Serving's REST form, always columnar (`inputs`), so that inputs may differ in their first dimension."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import numpy as np
import orjson

from cluster.client.codec import Codec
from cluster.client.examples import Example, Feature, Kind, read_features
from cluster.client.exchange import WireRequest
from cluster.client.model_metadata import ModelMetadata
from cluster.client.model_spec import ModelSpec
from cluster.client.model_status import VersionStatus
from cluster.client.results import Array, Class, Classifications, Prediction, Regressions
from cluster.core.errors import Code, Internal, InvalidArgument, Unimplemented
from cluster.core.servable_state import PublicState
from servables.signatures import Signature, TensorInfo
from servables.tensors import DataType


class RestCodec(Codec):
    def encode_predict(
        self,
        spec: ModelSpec,
        signature_name: str,
        signature: Signature,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
    ) -> WireRequest:
        document = {"signature_name": signature_name} if signature_name else {}
        values = {name: _json_value(name, array) for name, array in inputs.items()}
        return WireRequest("POST", f"{_path(spec)}:predict", _dump({**document, "inputs": values}, values.values()))

    def decode_prediction(self, body: bytes, signature: Signature, outputs: Sequence[str]) -> Prediction:
        with _reading("predict"):
            values = _load(body)["outputs"]
            if len(signature.outputs) == 1:
                values = dict.fromkeys(signature.outputs, values)
            return Prediction({name: _tensor(values[name], signature.outputs[name]) for name in outputs or signature.outputs})

    def encode_classify(
        self, spec: ModelSpec, signature_name: str, examples: Sequence[Example], context: Example | None
    ) -> WireRequest:
        return WireRequest("POST", f"{_path(spec)}:classify", _examples_body(signature_name, examples, context))

    def decode_classifications(self, body: bytes) -> Classifications:
        with _reading("classify"):
            results = _load(body)["results"]
            return Classifications(tuple(tuple(Class(label, _float32(score)) for label, score in row) for row in results))

    def encode_regress(
        self, spec: ModelSpec, signature_name: str, examples: Sequence[Example], context: Example | None
    ) -> WireRequest:
        return WireRequest("POST", f"{_path(spec)}:regress", _examples_body(signature_name, examples, context))

    def decode_regressions(self, body: bytes) -> Regressions:
        with _reading("regress"):
            return Regressions(tuple(map(_float32, _load(body)["results"])))

    def encode_status(self, spec: ModelSpec) -> WireRequest:
        return WireRequest("GET", _path(spec), b"")

    def decode_statuses(self, body: bytes) -> list[VersionStatus]:
        with _reading("status"):
            statuses = [_version_status(entry) for entry in _load(body).get("model_version_status", [])]
        return sorted(statuses, key=lambda status: status.version, reverse=True)

    def encode_metadata(self, spec: ModelSpec) -> WireRequest:
        return WireRequest("GET", f"{_path(spec)}/metadata", b"")

    def decode_metadata(self, body: bytes) -> ModelMetadata:
        with _reading("metadata"):
            document = _load(body)
            definitions = document["metadata"]["signature_def"]["signature_def"]
            signatures = {name: _signature(definition) for name, definition in definitions.items()}
            return ModelMetadata(signatures, int(document["model_spec"]["version"]))


def _path(spec: ModelSpec) -> str:
    path = f"/v1/models/{quote(spec.name, safe='')}"
    if spec.version is not None:
        return f"{path}/versions/{spec.version}"
    return path if spec.label is None else f"{path}/labels/{quote(spec.label, safe='')}"


def _json_value(name: str, array: Array) -> Any:
    """The array as orjson takes it: an array of a dtype and layout that it knows, or plain lists."""
    if array.dtype == object:
        encoded = np.empty(array.shape, dtype=object)
        for index, item in enumerate(array.flat):
            encoded.flat[index] = {"b64": base64.b64encode(item).decode()}
        return encoded.tolist()
    if array.dtype.kind == "c":
        raise Unimplemented(f"Input {name}: JSON has no {array.dtype}")
    if array.dtype.kind == "V" or array.dtype == np.float16:
        array = array.astype(np.float32)
    return np.ascontiguousarray(array) if array.ndim else array.item()


def _dump(document: Mapping[str, Any], values: Iterator[Any]) -> bytes: ...


def _examples_body(signature_name: str, examples: Sequence[Example], context: Example | None) -> bytes:
    document: dict[str, Any] = {"signature_name": signature_name} if signature_name else {}
    if context is not None:
        document["context"] = _json_example(context)
    document["examples"] = [_json_example(example) for example in examples]
    # Not orjson: the bare NaN and Infinity of TF Serving's JSON are what json writes too.
    return json.dumps(document).encode()


def _json_example(example: Example) -> dict[str, Any]:
    if isinstance(example, bytes):
        raise InvalidArgument("A serialized tf.Example can only be sent over gRPC; pass a dict of features")
    return {name: _json_feature(feature) for name, feature in read_features(example).items()}


def _json_feature(feature: Feature) -> Any:
    values = [_json_bytes(value) if isinstance(value, bytes) else value for value in feature.values]
    return values[0] if feature.scalar else values


def _json_bytes(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}
