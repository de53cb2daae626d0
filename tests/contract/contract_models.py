"""The models that the contract's cases ask, and a frontend that serves them. No TensorFlow, no Ray.

half_plus_two   versions 1, 2 and 3 (which failed to load); labels stable = 1, canary = 2
                y = x / 2 + 2;  classify_x_to_y, regress_x_to_y the same on tf.Examples;  regress_x_to_nothing: a bad result
sums            two inputs, two outputs: a (float), b (int64) -> sum (float), b_plus_one (int64)
strings         text -> text, image_bytes
defaults        y = x + bias, bias 1 if left out
types           one input and output of each of several types, passed through
no_inputs       a signature without inputs
failing         raises the error whose code its input `code` gives
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from cluster.core.errors import Code, InvalidArgument, Status, error_for
from cluster.core.metrics import MetricCells
from cluster.core.request_logging import RequestLogging
from cluster.core.servable_id import ServableId
from cluster.core.servable_state import PublicState, ServableState
from cluster.core.serving_map import Endpoint, ServableEntry, ServingMap
from cluster.protos import Example
from servables.direct_runner import DirectRunner
from servables.frontend.frame_channel import FrameChannel
from servables.frontend.frontend import Frontend, FrontendOptions
from servables.frontend.local_channel import LocalChannel
from servables.servable import Array, Servable
from servables.signatures import (
    CLASSIFY_METHOD_NAME,
    PREDICT_METHOD_NAME,
    REGRESS_METHOD_NAME,
    Signature,
    TensorInfo,
    encode_signatures,
)
from servables.tensors import DataType
from tests.fakes.fake_servable import FakeServable, Gate
from tests.fakes.fake_server_control import FakeServerControl

HOST = "127.0.0.1"

_FLOAT, _INT64, _STRING = DataType.DT_FLOAT, DataType.DT_INT64, DataType.DT_STRING


def _info(alias: str, dtype: DataType, shape: tuple[int, ...] | None = (-1,)) -> TensorInfo:
    return TensorInfo(f"{alias}:0", dtype, shape)


def _signature(
    inputs: Mapping[str, DataType],
    outputs: Mapping[str, DataType],
    *,
    method_name: str = PREDICT_METHOD_NAME,
    defaults: Mapping[str, Array] | None = None,
) -> Signature:
    return Signature(
        method_name,
        {alias: _info(alias, dtype) for alias, dtype in inputs.items()},
        {alias: _info(alias, dtype) for alias, dtype in outputs.items()},
        defaults or {},
    )


def x_of(serialized: Any) -> np.ndarray[Any, Any]:
    """The feature `x` of serialized tf.Examples, 0 where there is none."""
    try:
        examples = [Example.FromString(example) for example in serialized.reshape(-1)]
    except DecodeError as error:
        raise InvalidArgument(f"The model says: {error}") from error
    features = [example.features.feature["x"].float_list.value for example in examples]
    return np.array([values[0] if values else 0.0 for values in features], np.float32)


def _half_plus_two(inputs: Mapping[str, Any]) -> dict[str, Any]:
    x = inputs["x"] if "x" in inputs else x_of(inputs["inputs"])
    y = np.asarray(x / 2 + 2, np.float32)
    return {"y": y, "outputs": y, "scores": y.reshape(-1, 1), "nothing": y.reshape(-1)[:0]}


def _sums(inputs: Mapping[str, Any]) -> dict[str, Any]:
    a, b = inputs["a"], inputs["b"]
    if a.shape != b.shape:
        raise InvalidArgument(f"The model says that {a.shape} is not {b.shape}.")
    return {"sum": np.asarray(a + b.astype(np.float32)), "b_plus_one": np.asarray(b + 1)}


def _failing(inputs: Mapping[str, Any]) -> dict[str, Any]:
    codes = inputs["code"].reshape(-1)
    if codes.size == 0 or codes[0] not in set(Code) - {Code.OK}:
        raise InvalidArgument("The model says that this is no error's code.")
    code = Code(int(codes[0]))
    raise error_for(code, f"The model says {code.name}.")


_TYPES = {
    name: getattr(DataType, f"DT_{name.upper()}")
    for name in ("float", "double", "int8", "uint8", "int32", "int64", "uint64", "bool", "string", "half", "complex64")
}

_SIGNATURES: Mapping[str, Mapping[str, Signature]] = {
    "half_plus_two": {
        "serving_default": _signature({"x": _FLOAT}, {"y": _FLOAT}),
        "classify_x_to_y": _signature({"inputs": _STRING}, {"scores": _FLOAT}, method_name=CLASSIFY_METHOD_NAME),
        "regress_x_to_y": _signature({"inputs": _STRING}, {"outputs": _FLOAT}, method_name=REGRESS_METHOD_NAME),
    },
    "sums": {"serving_default": _signature({"a": _FLOAT, "b": _INT64}, {"sum": _FLOAT, "b_plus_one": _INT64})},
    "strings": {"serving_default": _signature({"text": _STRING}, {"text": _STRING, "image_bytes": _STRING})},
    "defaults": {
        "serving_default": _signature({"x": _FLOAT, "bias": _FLOAT}, {"y": _FLOAT}, defaults={"bias": np.ones(1, np.float32)})
    },
    "types": {name: _signature({"x": dtype}, {"y": dtype}) for name, dtype in _TYPES.items()},
    "no_inputs": {"serving_default": _signature({}, {"y": _FLOAT})},
    "failing": {"serving_default": _signature({"code": DataType.DT_INT32}, {"y": _FLOAT})},
}

_FUNCTIONS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "half_plus_two": _half_plus_two,
    "sums": _sums,
    "strings": lambda inputs: {"text": inputs["text"], "image_bytes": inputs["text"]},
    "defaults": lambda inputs: {"y": inputs["x"] + inputs["bias"]},
    "types": lambda inputs: {"y": inputs["x"]},
    "no_inputs": lambda _: {"y": np.zeros(1, np.float32)},
    "failing": _failing,
}


def _serving_map() -> ServingMap:
    endpoint = Endpoint("local", "local", "local", 1)
    versions = [ServableId(name, 1) for name in _SIGNATURES] + [ServableId("half_plus_two", 2)]
    entries = {
        servable: ServableEntry(servable, (endpoint,), encode_signatures(_SIGNATURES[servable.name])) for servable in versions
    }
    states = [ServableState(servable, PublicState.AVAILABLE) for servable in versions]
    failed = Status(Code.INTERNAL, "the files are damaged")
    states.append(ServableState(ServableId("half_plus_two", 3), PublicState.END, failed))
    labels = {"half_plus_two": {"stable": 1, "canary": 2, "a b": 1}, "unseen": {}}
    return ServingMap(entries=entries, states=tuple(states), labels=labels, accepting=True)


def _serving_map_of(models: Mapping[str, Servable], version: int) -> ServingMap:
    endpoint = Endpoint("local", "local", "local", 1)
    signatures = {ServableId(name, version): encode_signatures(servable.signatures) for name, servable in models.items()}
    entries = {servable: ServableEntry(servable, (endpoint,), encoded) for servable, encoded in signatures.items()}
    states = tuple(ServableState(servable, PublicState.AVAILABLE) for servable in entries)
    return ServingMap(entries=entries, states=states, accepting=True)


class ContractServer:
    """The frontend of the models above, or of one version of others, on an event loop in a thread of its own."""

    def __init__(self, models: Mapping[str, Servable] | None = None, version: int = 1, **options: Any) -> None:
        self._models = models
        self._map = _serving_map() if models is None else _serving_map_of(models, version)
        self.rest_port, self.grpc_port = free_ports(2)
        self._options = FrontendOptions(host=HOST, rest_api_port=self.rest_port, grpc_port=self.grpc_port, **options)
        self.control = FakeServerControl(available=self._map.entries)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="contract server")
        self._runners: list[DirectRunner] = []

    @property
    def cells(self) -> MetricCells:
        """What the frontend has counted."""
        return self._frontend.cells

    def start(self) -> None:
        self._thread.start()
        self._run(self._start())

    def stop(self) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        self._frontend = Frontend(self._options, self._channel, self.control)
        self._frontend.bind()
        self._frontend.apply(self._map)
        await self._frontend.start()

    async def _stop(self) -> None:
        await self._frontend.drain(10.0)
        await self._frontend.close()
        for runner in self._runners:
            await runner.close()

    def _channel(self, entry: ServableEntry) -> FrameChannel:
        runner = DirectRunner(self._servable(entry.id.name), num_threads=2)
        self._runners.append(runner)
        return LocalChannel(runner, encoded=True)

    def log_requests(self, request_logging: Mapping[str, RequestLogging]) -> None:
        """Has these models' requests logged from now on."""

        async def apply() -> None:
            self._frontend.apply(replace(_serving_map(), request_logging=request_logging))

        self._run(apply())

    def _servable(self, name: str) -> Servable:
        if self._models is not None:
            return self._models[name]
        return FakeServable(_FUNCTIONS[name], signatures=_SIGNATURES[name])

    def _run(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)


def half_plus_two(gate: Gate | None = None) -> FakeServable:
    """The model of that name, for a runner or a server of the test's own; its runs wait at the gate."""
    return FakeServable(_half_plus_two, signatures=_SIGNATURES["half_plus_two"], gate=gate)


@contextlib.contextmanager
def contract_server(models: Mapping[str, Servable] | None = None, version: int = 1, **options: Any) -> Iterator[ContractServer]:
    server = ContractServer(models, version, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now; 0 would turn a protocol off."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind((HOST, 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports
