"""A server of TF Serving's API that shares no protocol code with ours, in a process of its own.

gRPC is TF Serving's generated code; REST is aiohttp with TF Serving's bodies. What it serves is in `client_models`.
Run as a module, it prints its two ports and serves until its standard input ends. With the PEM files of a
certificate as arguments, both protocols are encrypted and want the header `authorization: Bearer secret`.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import ssl
import subprocess
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from cluster.core.errors import AspiredError, Code, FailedPrecondition, InvalidArgument, NotFound, Unauthenticated
from cluster.core.servable_id import ServableId
from servables.proto_codec import array_to_tensor, tensor_to_array
from servables.servable import Array
from servables.signatures import DEFAULT_SIGNATURE_NAME, Signature, encode_signatures
from servables.tensors import DataType, to_numpy
from tests.fakes.client_models import LABELS, ClientModels, Run

_HTTP_STATUSES = {
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}


@dataclass(frozen=True, slots=True)
class StockServer:
    grpc_port: int
    rest_port: int


@contextmanager
def stock_server(certificate: Path | None = None, key: Path | None = None) -> Iterator[StockServer]:
    """Runs the server on free ports of 127.0.0.1, encrypted when there is a certificate."""
    files = [str(file) for file in (certificate, key) if file is not None]
    command = [sys.executable, "-m", "tests.fakes.stock_server", *files]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        grpc_port, rest_port = map(int, process.stdout.readline().split())
        try:
            yield StockServer(grpc_port, rest_port)
        finally:
            process.stdin.close()


class _Models:
    """Looks up and runs, with TF Serving's texts."""

    def __init__(self) -> None:
        self._models = ClientModels()
        self._versions = self._models.versions()
        self.states = self._models.states()

    def release(self) -> None:
        self._models.released.set()

    def resolve(self, name: str, version: int | None, label: str | None) -> ServableId:
        if label is not None:
            if label not in LABELS.get(name, {}):
                raise InvalidArgument(f"Unrecognized servable version label: {label}")
            version = LABELS[name][label]
        if version is None:
            known = [id for id in self._versions if id.name == name]
            if not known:
                raise NotFound(f"Servable not found for request: Latest({name})")
            return max(known)
        if ServableId(name, version) not in self._versions:
            raise NotFound(f"Servable not found for request: Specific({name}, {version})")
        return ServableId(name, version)

    def signatures(self, id: ServableId) -> Mapping[str, tuple[Signature, Run]]:
        return self._versions[id]

    def statuses(self, name: str, version: int | None) -> list[Any]:
        states = [state for state in self.states if state.id.name == name and version in (None, state.id.version)]
        if not states:
            missing = "any versions" if version is None else f"version {version}"
            raise NotFound(f"Could not find {missing} of model {name}")
        return sorted(states, key=lambda state: state.id.version, reverse=True)


def main(certificate: str = "", key: str = "") -> None:
    _import_generated_messages()
    asyncio.run(_serve(certificate, key))


def _import_generated_messages() -> None:
    """TF Serving's generated messages need only TensorFlow's, whose package would take seconds to import."""
    spec = importlib.util.find_spec("tensorflow")
    assert spec is not None
    stand_in = types.ModuleType("tensorflow")
    stand_in.__path__ = list(spec.submodule_search_locations or ())
    sys.modules["tensorflow"] = stand_in


async def _serve(certificate: str, key: str) -> None:
    models = _Models()
    # Each call that hangs keeps its thread.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(100))
    token = "Bearer secret" if certificate else None
    grpc_port, stop_grpc = await _serve_grpc(models, certificate, key, token)
    rest_port, stop_rest = await _serve_rest(models, certificate, key, token)
    print(grpc_port, rest_port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    models.release()
    await stop_grpc()
    await stop_rest()


# gRPC


async def _serve_grpc(models: _Models, certificate: str, key: str, token: str | None) -> tuple[int, Any]:
    import grpc
    from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

    server = grpc.aio.server()
    prediction = _prediction_servicer(prediction_service_pb2_grpc.PredictionServiceServicer, models, token)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(prediction, server)
    model = _model_servicer(model_service_pb2_grpc.ModelServiceServicer, models, token)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(model, server)
    if certificate:
        port = server.add_secure_port("127.0.0.1:0", _grpc_credentials(certificate, key))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return port, lambda: server.stop(None)


def _grpc_credentials(certificate: str, key: str) -> Any:
    import grpc

    return grpc.ssl_server_credentials([(Path(key).read_bytes(), Path(certificate).read_bytes())])


@contextmanager
def _grpc_errors(context: Any) -> Iterator[None]:
    import grpc

    by_number = {code.value[0]: code for code in grpc.StatusCode}
    try:
        yield
    except AspiredError as error:
        context.set_code(by_number[error.code])
        context.set_details(error.message)


def _check_token(given: str | None, token: str | None) -> None:
    if given != token:
        raise Unauthenticated("A token is needed")


def _prediction_servicer(base: type, models: _Models, token: str | None) -> Any:
    from google.protobuf.any_pb2 import Any as AnyMessage
    from tensorflow.core.framework.tensor_pb2 import TensorProto
    from tensorflow_serving.apis import classification_pb2, get_model_metadata_pb2, predict_pb2, regression_pb2

    def resolve(spec: Any) -> ServableId:
        version = spec.version.value if spec.HasField("version") else None
        return models.resolve(spec.name, version, spec.version_label or None)

    def fill(spec: Any, id: ServableId, signature_name: str = "") -> None:
        spec.name, spec.signature_name = id.name, signature_name
        spec.version.value = id.version

    def serialized_examples(request: Any) -> Array:
        if request.input.WhichOneof("kind") == "example_list_with_context":
            context = request.input.example_list_with_context.context.SerializeToString()
            examples = request.input.example_list_with_context.examples
        else:
            context, examples = b"", request.input.example_list.examples
        if not examples:
            raise InvalidArgument("Input is empty.")
        return np.array([context + example.SerializeToString() for example in examples], dtype=object)

    class PredictionServicer(base):  # type: ignore[misc]
        async def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
            response = predict_pb2.PredictResponse()
            with _grpc_errors(context):
                _check_token(dict(context.invocation_metadata()).get("authorization"), token)
                id = resolve(request.model_spec)
                name = request.model_spec.signature_name or DEFAULT_SIGNATURE_NAME
                if name not in models.signatures(id):
                    raise FailedPrecondition(f'Serving signature key "{name}" not found.')
                signature, run = models.signatures(id)[name]
                inputs = {alias: tensor_to_array(tensor) for alias, tensor in request.inputs.items()}
                if inputs.keys() != signature.inputs.keys():
                    raise InvalidArgument(f"input size does not match signature: {len(inputs)}!={len(signature.inputs)}")
                for alias, tensor in request.inputs.items():
                    if tensor.dtype != signature.inputs[alias].dtype:
                        raise InvalidArgument(f"Expects arg {alias} to be {signature.inputs[alias].dtype.label}")
                outputs = await asyncio.to_thread(run, inputs)
                for alias in request.output_filter or signature.outputs:
                    tensor = array_to_tensor(outputs[alias], signature.outputs[alias].dtype, as_content=False)
                    response.outputs[alias].CopyFrom(TensorProto.FromString(tensor.SerializeToString()))
                fill(response.model_spec, id, name)
            return response

        async def Classify(self, request: Any, context: Any) -> Any:  # noqa: N802
            response = classification_pb2.ClassificationResponse()
            with _grpc_errors(context):
                _check_token(dict(context.invocation_metadata()).get("authorization"), token)
                id = resolve(request.model_spec)
                _, run = models.signatures(id)[request.model_spec.signature_name]
                for row in run({"inputs": serialized_examples(request)})["scores"]:
                    classes = response.result.classifications.add().classes
                    for score in row:
                        classes.add(score=score)
                fill(response.model_spec, id)
            return response

        async def Regress(self, request: Any, context: Any) -> Any:  # noqa: N802
            response = regression_pb2.RegressionResponse()
            with _grpc_errors(context):
                _check_token(dict(context.invocation_metadata()).get("authorization"), token)
                id = resolve(request.model_spec)
                _, run = models.signatures(id)[request.model_spec.signature_name]
                for (value,) in run({"inputs": serialized_examples(request)})["outputs"]:
                    response.result.regressions.add(value=value)
                fill(response.model_spec, id)
            return response

        async def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            with _grpc_errors(context):
                _check_token(dict(context.invocation_metadata()).get("authorization"), token)
                id = resolve(request.model_spec)
                signatures = {name: signature for name, (signature, _) in models.signatures(id).items()}
                encoded = get_model_metadata_pb2.SignatureDefMap.FromString(encode_signatures(signatures))
                packed = AnyMessage()
                packed.Pack(encoded)
                response.metadata["signature_def"].CopyFrom(packed)
                fill(response.model_spec, id)
            return response

    return PredictionServicer()


def _model_servicer(base: type, models: _Models, token: str | None) -> Any:
    from tensorflow_serving.apis import get_model_status_pb2

    class ModelServicer(base):  # type: ignore[misc]
        async def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
            response = get_model_status_pb2.GetModelStatusResponse()
            with _grpc_errors(context):
                _check_token(dict(context.invocation_metadata()).get("authorization"), token)
                spec = request.model_spec
                version = spec.version.value if spec.HasField("version") else None
                for state in models.statuses(spec.name, version):
                    entry = response.model_version_status.add(version=state.id.version, state=int(state.state))
                    entry.status.error_code = int(state.status.code)
                    entry.status.error_message = state.status.message
            return response

    return ModelServicer()


# REST


async def _serve_rest(models: _Models, certificate: str, key: str, token: str | None) -> tuple[int, Any]:
    from aiohttp import web

    async def handle(request: web.Request) -> web.Response:
        try:
            _check_token(request.headers.get("authorization"), token)
            document = await _answer(models, request)
            status = 200
        except AspiredError as error:
            document, status = {"error": error.message}, _HTTP_STATUSES[error.code]
        # Python's bare NaN and Infinity are TF Serving's as well.
        return web.Response(status=status, body=json.dumps(document, indent=4).encode(), content_type="application/json")

    # A model's name may hold an escaped slash, so the routes are told apart by hand.
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/v1/models/{rest:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    tls = None
    if certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    return runner.addresses[0][1], runner.cleanup


async def _answer(models: _Models, request: Any) -> Any:
    path, _, verb = request.raw_path.removeprefix("/v1/models/").partition(":")
    name, *rest = map(unquote, path.split("/"))
    metadata = rest[-1:] == ["metadata"]
    chosen = dict(zip(rest[::2], rest[1::2], strict=False))
    version = int(chosen["versions"]) if "versions" in chosen else None
    if verb:
        body = json.loads(await request.read())
        id = models.resolve(name, version, chosen.get("labels"))
        return await _INFERENCES[verb](models.signatures(id), body)
    if metadata:
        return _metadata(models, models.resolve(name, version, chosen.get("labels")))
    return {
        "model_version_status": [
            {
                "version": str(state.id.version),
                "state": state.state.name,
                "status": {"error_code": state.status.code.name, "error_message": state.status.message},
            }
            for state in models.statuses(name, version)
        ]
    }


def _metadata(models: _Models, id: ServableId) -> Any:
    from google.protobuf.json_format import MessageToDict
    from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap

    signatures = {name: signature for name, (signature, _) in models.signatures(id).items()}
    message = SignatureDefMap.FromString(encode_signatures(signatures))
    definitions = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return {
        "model_spec": {"name": id.name, "signature_name": "", "version": str(id.version)},
        "metadata": {"signature_def": definitions},
    }


async def _predict(signatures: Mapping[str, tuple[Signature, Run]], body: Any) -> Any:
    name = body.get("signature_name") or DEFAULT_SIGNATURE_NAME
    if name not in signatures:
        raise InvalidArgument(f'Serving signature name: "{name}" not found in signature def')
    signature, run = signatures[name]
    inputs = body["inputs"]
    if not isinstance(inputs, dict) or "b64" in inputs:
        (only,) = signature.inputs
        inputs = {only: inputs}
    for alias in signature.inputs:
        if alias not in inputs:
            raise InvalidArgument(f"Missing named input: {alias} in 'inputs' object.")
    arrays = {alias: _read_tensor(inputs[alias], info.dtype) for alias, info in signature.inputs.items()}
    outputs = await asyncio.to_thread(run, arrays)
    written = {alias: _write_tensor(alias, array) for alias, array in outputs.items()}
    return {"outputs": written if len(written) > 1 else next(iter(written.values()))}


def _read_tensor(value: Any, dtype: DataType) -> Array:
    array = np.array(value, dtype=object)
    for leaf in array.flat:
        _check_leaf(leaf, dtype)
    if dtype is DataType.DT_STRING:
        read = np.empty(array.shape, dtype=object)
        for index, leaf in enumerate(array.flat):
            read.flat[index] = base64.b64decode(leaf["b64"]) if isinstance(leaf, dict) else leaf.encode()
        return read
    return array.astype(to_numpy(dtype))


def _check_leaf(leaf: Any, dtype: DataType) -> None:
    wanted: Any = (int, float)
    if dtype is DataType.DT_STRING:
        wanted = (str, dict)
    elif dtype is DataType.DT_BOOL:
        wanted = bool
    elif dtype not in (DataType.DT_FLOAT, DataType.DT_DOUBLE):
        wanted = int
    if not isinstance(leaf, wanted) or (isinstance(leaf, bool) and wanted is not bool):
        raise InvalidArgument(f"JSON Value: {json.dumps(leaf)} is not of expected type: {dtype.label}")


def _write_tensor(alias: str, array: NDArray[Any]) -> Any:
    if array.dtype != object:
        return array.tolist()
    written = np.empty(array.shape, dtype=object)
    for index, item in enumerate(array.flat):
        written.flat[index] = {"b64": base64.b64encode(item).decode()} if alias.endswith("_bytes") else item.decode()
    return written.tolist()


def _serialized_examples(body: Any) -> Array:
    if not body.get("examples"):
        raise InvalidArgument("JSON Value: 'examples' value is an empty array")
    context = _serialized_example(body.get("context", {}))
    return np.array([context + _serialized_example(example) for example in body["examples"]], dtype=object)


def _serialized_example(document: Mapping[str, Any]) -> bytes:
    from tensorflow.core.example.example_pb2 import Example

    example = Example()
    for name, value in document.items():
        values: Sequence[Any] = value if isinstance(value, list) else [value]
        feature = example.features.feature[name]
        for item in values:
            if isinstance(item, float):
                feature.float_list.value.append(item)
            elif isinstance(item, int):
                feature.int64_list.value.append(item)
            else:
                feature.bytes_list.value.append(base64.b64decode(item["b64"]) if isinstance(item, dict) else item.encode())
    serialized: bytes = example.SerializeToString()
    return serialized


async def _classify(signatures: Mapping[str, tuple[Signature, Run]], body: Any) -> Any:
    _, run = signatures[body["signature_name"]]
    scores = run({"inputs": _serialized_examples(body)})["scores"]
    return {"results": [[["", float(score)] for score in row] for row in scores]}


async def _regress(signatures: Mapping[str, tuple[Signature, Run]], body: Any) -> Any:
    _, run = signatures[body["signature_name"]]
    return {"results": [float(value) for (value,) in run({"inputs": _serialized_examples(body)})["outputs"]]}


_INFERENCES = {"predict": _predict, "classify": _classify, "regress": _regress}


if __name__ == "__main__":
    main(*sys.argv[1:])
