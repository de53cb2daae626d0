"""How the servers are spoken to: TF Serving's API, and the V2 protocol that Triton has.

Either puts values on the wire as its usual clients do: JSON for REST, raw tensors in protobuf messages for gRPC.
"""

from __future__ import annotations

import math
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import grpc
import httpx
import numpy as np
import orjson
from numpy.typing import NDArray

from cluster import protos
from cluster.core.errors import Internal
from scripts.benchmarks.payload import Payload

_TIMEOUT_S = 60.0
_FLOAT = 1  # DT_FLOAT
GRPC_HEADERS = ("content-type: application/grpc", "te: trailers")


class InferenceApi(ABC):
    """One protocol pair. The bodies are made once for a measurement, and answers are read once before and once after it."""

    @property
    @abstractmethod
    def grpc_path(self) -> str:
        """The path of the method that infers, with its slash."""

    @abstractmethod
    def rest_path(self, payload: Payload) -> str: ...

    @abstractmethod
    def rest_body(self, payload: Payload) -> bytes: ...

    @abstractmethod
    def read_rest(self, payload: Payload, body: bytes) -> NDArray[Any]: ...

    @abstractmethod
    def grpc_message(self, payload: Payload) -> bytes: ...

    @abstractmethod
    def read_grpc(self, payload: Payload, message: bytes) -> NDArray[Any]: ...

    def ask_rest(self, port: int, payload: Payload) -> NDArray[Any]:
        """One request's answer. Raises Internal for an error."""
        url = f"http://127.0.0.1:{port}{self.rest_path(payload)}"
        try:
            answer = httpx.post(url, content=self.rest_body(payload), timeout=_TIMEOUT_S)
        except httpx.HTTPError as error:
            raise Internal(f"{url} does not answer: {error!r}") from None
        if answer.status_code != httpx.codes.OK:
            raise Internal(f"{url} answers {answer.status_code}: {answer.text[:500]}")
        return self.read_rest(payload, answer.content)

    def ask_grpc(self, port: int, payload: Payload) -> tuple[NDArray[Any], int]:
        """One request's answer, and how many bytes its frame has on the wire. Raises Internal for an error."""
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=unlimited) as channel:
            try:
                message: bytes = channel.unary_unary(self.grpc_path, bytes, bytes)(
                    self.grpc_message(payload), timeout=_TIMEOUT_S
                )
            except grpc.RpcError as error:
                raise Internal(f"port {port} answers {self.grpc_path} with an error: {error}") from None
        return self.read_grpc(payload, message), len(message) + 5


def framed(message: bytes) -> bytes:
    """A message as gRPC puts it on the wire."""
    return struct.pack(">BI", 0, len(message)) + message


class TensorFlowServingApi(InferenceApi):
    grpc_path = "/tensorflow.serving.PredictionService/Predict"

    def rest_path(self, payload: Payload) -> str:
        return f"/v1/models/{payload.model}:predict"

    def rest_body(self, payload: Payload) -> bytes:
        return b'{"instances": %s}' % payload.json

    def read_rest(self, payload: Payload, body: bytes) -> NDArray[Any]:
        return np.asarray(orjson.loads(body)["predictions"], np.float32)

    def grpc_message(self, payload: Payload) -> bytes:
        request = protos.PredictRequest()
        request.model_spec.name = payload.model
        tensor = request.inputs[payload.input_alias]
        tensor.dtype = _FLOAT
        for size in payload.values.shape:
            tensor.tensor_shape.dim.add(size=size)
        tensor.tensor_content = payload.values.tobytes()
        return bytes(request.SerializeToString())

    def read_grpc(self, payload: Payload, message: bytes) -> NDArray[Any]:
        tensor = protos.PredictResponse.FromString(message).outputs[payload.output_alias]
        shape = [dimension.size for dimension in tensor.tensor_shape.dim]
        if tensor.tensor_content:
            return np.frombuffer(tensor.tensor_content, np.float32).reshape(shape)
        return np.array(tensor.float_val, np.float32).reshape(shape)


class V2Api(InferenceApi):
    """Its two messages are small enough to be written by hand."""

    grpc_path = "/inference.GRPCInferenceService/ModelInfer"

    def rest_path(self, payload: Payload) -> str:
        return f"/v2/models/{payload.model}/infer"

    def rest_body(self, payload: Payload) -> bytes:
        numbers = orjson.dumps(payload.values.ravel(), option=orjson.OPT_SERIALIZE_NUMPY)
        shape = orjson.dumps(payload.values.shape)
        name = payload.input_alias.encode()
        return b'{"inputs": [{"name": "%s", "datatype": "FP32", "shape": %s, "data": %s}]}' % (name, shape, numbers)

    def read_rest(self, payload: Payload, body: bytes) -> NDArray[Any]:
        [output] = orjson.loads(body)["outputs"]
        return np.asarray(output["data"], np.float32).reshape(output["shape"])

    def grpc_message(self, payload: Payload) -> bytes:
        """ModelInferRequest: model_name = 1, inputs = 5 (name = 1, datatype = 2, shape = 3), raw_input_contents = 7."""
        shape = b"".join(map(_varint, payload.values.shape))
        tensor = _field(1, payload.input_alias.encode()) + _field(2, b"FP32") + _field(3, shape)
        return _field(1, payload.model.encode()) + _field(5, tensor) + _field(7, payload.values.tobytes())

    def read_grpc(self, payload: Payload, message: bytes) -> NDArray[Any]:
        """ModelInferResponse: outputs = 5, raw_output_contents = 6. Its rows are as many as the request's."""
        [raw] = [content for number, content in _fields(message) if number == 6]
        return np.frombuffer(raw, np.float32).reshape(payload.rows, -1)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _fields(message: bytes) -> Sequence[tuple[int, bytes]]:
    """The fields of a message that has only length-delimited ones."""
    found, position = [], 0
    while position < len(message):
        key, position = _read_varint(message, position)
        length, position = _read_varint(message, position)
        found.append((key >> 3, message[position : position + length]))
        position += length
    return found


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    for count in range(math.ceil(64 / 7)):
        if not message[position + count] & 0x80:
            end = position + count + 1
            return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(message[position:end])), end
    raise Internal("a varint of the answer does not end")
