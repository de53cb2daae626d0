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
from cluster.client.examples import Example, Feature, read_features
from cluster.client.exchange import WireRequest
from cluster.client.model_metadata import ModelMetadata
from cluster.client.model_spec import ModelSpec
from cluster.client.model_status import VersionStatus
from cluster.client.results import Array, Class, Classifications, Prediction, Regressions
from cluster.core.errors import Code, Internal, InvalidArgument, Unimplemented
from cluster.core.servable_state import PublicState
from servables.signatures import Signature, TensorInfo
from servables.tensors import DataType, string_array, to_numpy


class RestCodec(Codec):
    def encode_predict(
        self,
        spec: ModelSpec,
        signature_name: str,
        signature: Signature,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
    ) -> WireRequest:
        document: dict[str, Any] = {"signature_name": signature_name} if signature_name else {}
        values = {name: _json_value(name, array) for name, array in inputs.items()}
        document["inputs"] = values
        if all(map(_finite, values.values())):
            body = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
        else:
            # orjson writes null for NaN and Infinity; json writes the bare words that TF Serving reads.
            body = json.dumps(document, default=np.ndarray.tolist).encode()
        return WireRequest("POST", f"{model_path(spec)}:predict", body)

    def decode_prediction(self, body: bytes, signature: Signature, outputs: Sequence[str]) -> Prediction:
        with _reading("predict"):
            values = _load(body)["outputs"]
            if len(signature.outputs) == 1:
                values = dict.fromkeys(signature.outputs, values)
            return Prediction({name: _tensor(values[name], signature.outputs[name]) for name in outputs or signature.outputs})

    def encode_classify(
        self, spec: ModelSpec, signature_name: str, examples: Sequence[Example], context: Example | None
    ) -> WireRequest:
        return WireRequest("POST", f"{model_path(spec)}:classify", _examples_body(signature_name, examples, context))

    def decode_classifications(self, body: bytes) -> Classifications:
        with _reading("classify"):
            results = _load(body)["results"]
            return Classifications(tuple(tuple(Class(label, _float32(score)) for label, score in row) for row in results))

    def encode_regress(
        self, spec: ModelSpec, signature_name: str, examples: Sequence[Example], context: Example | None
    ) -> WireRequest:
        return WireRequest("POST", f"{model_path(spec)}:regress", _examples_body(signature_name, examples, context))

    def decode_regressions(self, body: bytes) -> Regressions:
        with _reading("regress"):
            return Regressions(tuple(map(_float32, _load(body)["results"])))

    def encode_status(self, spec: ModelSpec) -> WireRequest:
        return WireRequest("GET", model_path(spec), b"")

    def decode_statuses(self, body: bytes) -> list[VersionStatus]:
        with _reading("status"):
            statuses = [_version_status(entry) for entry in _load(body).get("model_version_status", [])]
        return sorted(statuses, key=lambda status: status.version, reverse=True)

    def encode_metadata(self, spec: ModelSpec) -> WireRequest:
        return WireRequest("GET", f"{model_path(spec)}/metadata", b"")

    def decode_metadata(self, body: bytes) -> ModelMetadata:
        with _reading("metadata"):
            document = _load(body)
            definitions = document["metadata"]["signature_def"]["signature_def"]
            signatures = {name: _signature(definition) for name, definition in definitions.items()}
            return ModelMetadata(signatures, int(document["model_spec"]["version"]))


def model_path(spec: ModelSpec) -> str:
    """The URL path of what the spec names; a method follows it after a colon."""
    path = f"/v1/models/{quote(spec.name, safe='')}"
    if spec.version is not None:
        return f"{path}/versions/{spec.version}"
    return path if spec.label is None else f"{path}/labels/{quote(spec.label, safe='')}"


def _finite(value: Any) -> bool:
    return not isinstance(value, float | np.ndarray) or bool(np.isfinite(value).all())


def _json_value(name: str, array: Array) -> Any:
    """The array as lists, or as an array of a dtype and layout that orjson knows."""
    if array.dtype == object:
        return np.array([_b64(item) for item in array.flat], dtype=object).reshape(array.shape).tolist()
    if array.dtype.kind == "c":
        raise Unimplemented(f"Input {name}: JSON has no {array.dtype}")
    if array.dtype.kind == "V":
        array = array.astype(np.float32)
    return np.ascontiguousarray(array) if array.ndim else array.item()


def _b64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


def _examples_body(signature_name: str, examples: Sequence[Example], context: Example | None) -> bytes:
    document: dict[str, Any] = {"signature_name": signature_name} if signature_name else {}
    if context is not None:
        document["context"] = _json_example(context)
    document["examples"] = [_json_example(example) for example in examples]
    return json.dumps(document).encode()


def _json_example(example: Example) -> dict[str, Any]:
    if isinstance(example, bytes):
        raise InvalidArgument("A serialized tf.Example can only be sent over gRPC; over REST pass a dict of features")
    return {name: _json_feature(feature) for name, feature in read_features(example).items()}


def _json_feature(feature: Feature) -> Any:
    values = [_b64(value) if isinstance(value, bytes) else value for value in feature.values]
    return values[0] if feature.scalar else values


def _load(body: bytes) -> dict[str, Any]:
    """A reply's JSON object. TF Serving's JSON has bare NaN and Infinity, and passes strings on that are not UTF-8."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = json.loads(body.decode("utf-8", "surrogateescape"))
    if not isinstance(document, dict):
        raise TypeError("not a JSON object")
    return document


@contextmanager
def _reading(call: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise Internal(f"Cannot read the {call} reply: {type(error).__name__}: {error}") from error


def _tensor(value: Any, info: TensorInfo) -> Array:
    if info.dtype is DataType.DT_STRING:
        # numpy sees a dict as a scalar, so {"b64": ...} objects are elements too.
        items = np.array(value, dtype=object)
        array: Array = string_array([_string(item) for item in items.flat], items.shape)
    else:
        array = np.asarray(value, dtype=to_numpy(info.dtype))
    if array.size == 0 and info.shape is not None and len(info.shape) > array.ndim:
        # JSON cannot tell [0, 3] from [0]; the signature can.
        array = array.reshape(array.shape + tuple(max(size, 0) for size in info.shape[array.ndim :]))
    return array


def _string(item: Any) -> bytes:
    if isinstance(item, dict):
        return base64.b64decode(item["b64"], validate=True)
    if not isinstance(item, str):
        raise TypeError(f"expected a string, not {item!r}")
    return item.encode("utf-8", "surrogateescape")


def _float32(value: Any) -> float:
    """The server's number as gRPC would give it: scores and regressions are float32."""
    return float(np.float32(value))


def _version_status(entry: Mapping[str, Any]) -> VersionStatus:
    status = entry.get("status", {})
    return VersionStatus(
        version=int(entry.get("version", 0)),
        state=PublicState[entry["state"]],
        code=Code[status.get("error_code", "OK")],
        message=status.get("error_message", ""),
    )


def _signature(definition: Mapping[str, Any]) -> Signature:
    return Signature(
        method_name=definition.get("method_name", ""),
        inputs={name: _tensor_info(info) for name, info in definition.get("inputs", {}).items()},
        outputs={name: _tensor_info(info) for name, info in definition.get("outputs", {}).items()},
    )


def _tensor_info(info: Mapping[str, Any]) -> TensorInfo:
    shape = info.get("tensor_shape", {})
    sizes = None if shape.get("unknown_rank") else tuple(int(dim.get("size", 0)) for dim in shape.get("dim", []))
    # A reference, as a TF1 variable is one, yields its value; a newer TensorFlow's types stay unknown.
    dtype = DataType.__members__.get(info.get("dtype", "").removesuffix("_REF"), DataType.DT_INVALID)
    return TensorInfo(name=info.get("name", ""), dtype=dtype, shape=sizes)
