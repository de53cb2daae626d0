"""The models that the client's conformance suite talks to, in numpy.

| model          | versions                                | answers                                                       |
|----------------|-----------------------------------------|---------------------------------------------------------------|
| half_plus_two  | 1                                       | y = x / 2 + 2; classify_x_to_y, regress_x_to_y of feature x   |
| offset         | 2, 3 (labels stable: 2, canary: 3)      | y = x / 2 + version                                           |
| echo           | 1                                       | a signature for each dtype, x -> y; strings also as y_bytes   |
| sum            | 1                                       | a, b -> sum, difference                                       |
| broken         | 1, which failed to load                 |                                                               |
| failing        | 1                                       | the error whose code is x[0]                                  |
| hanging        | 1                                       | nothing                                                       |
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cluster.core.errors import Code, InvalidArgument, Status, error_for
from cluster.core.servable_id import ServableId
from cluster.core.servable_state import PublicState, ServableState
from cluster.protos import Example
from servables.servable import Array
from servables.signatures import (
    CLASSIFY_METHOD_NAME,
    DEFAULT_SIGNATURE_NAME,
    PREDICT_METHOD_NAME,
    REGRESS_METHOD_NAME,
    Signature,
    TensorInfo,
)
from servables.tensors import DataType

Run = Callable[[Mapping[str, Array]], dict[str, Array]]

LOAD_ERROR = Status(
    Code.NOT_FOUND, "Could not find SavedModel .pb or .pbtxt at supplied export directory path: /models/broken/1"
)
LABELS = {"offset": {"stable": 2, "canary": 3}}
ECHO_TYPES = {
    "float": DataType.DT_FLOAT,
    "double": DataType.DT_DOUBLE,
    "int8": DataType.DT_INT8,
    "uint8": DataType.DT_UINT8,
    "int16": DataType.DT_INT16,
    "int32": DataType.DT_INT32,
    "int64": DataType.DT_INT64,
    "uint32": DataType.DT_UINT32,
    "uint64": DataType.DT_UINT64,
    "bool": DataType.DT_BOOL,
}


@dataclass(frozen=True, slots=True)
class ClientModels:
    """The models above. Whoever serves them opens `released` at the end, so that what hangs comes back."""

    released: threading.Event = field(default_factory=threading.Event)

    def versions(self) -> Mapping[ServableId, Mapping[str, tuple[Signature, Run]]]:
        """The versions that can be asked: signature name -> what it takes and gives, and how."""
        offset = {ServableId("offset", version): {DEFAULT_SIGNATURE_NAME: _half_plus(version)} for version in (2, 3)}
        return offset | {
            ServableId("half_plus_two", 1): {
                DEFAULT_SIGNATURE_NAME: _half_plus(2),
                "classify_x_to_y": (_on_examples(CLASSIFY_METHOD_NAME, "scores"), lambda inputs: {"scores": _half_x(inputs)}),
                "regress_x_to_y": (_on_examples(REGRESS_METHOD_NAME, "outputs"), lambda inputs: {"outputs": _half_x(inputs)}),
            },
            ServableId("echo", 1): dict(_echoes()),
            ServableId("sum", 1): {DEFAULT_SIGNATURE_NAME: (_predict(_FLOATS, "ab", ("sum", "difference")), _sum)},
            ServableId("failing", 1): {DEFAULT_SIGNATURE_NAME: (_predict(_FLOATS, "x", "y"), _fail)},
            ServableId("hanging", 1): {DEFAULT_SIGNATURE_NAME: (_predict(_FLOATS, "x", "y"), self._hang)},
        }

    def states(self) -> tuple[ServableState, ...]:
        available = (ServableState(id, PublicState.AVAILABLE) for id in self.versions())
        return (*available, ServableState(ServableId("broken", 1), PublicState.END, LOAD_ERROR))

    def _hang(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.released.wait(60)
        return {"y": inputs["x"]}


_FLOATS = TensorInfo("", DataType.DT_FLOAT, (-1,))


def _predict(info: TensorInfo, inputs: Any, outputs: Any) -> Signature:
    def named(names: Any) -> dict[str, TensorInfo]:
        return {name: TensorInfo(f"{name}:0", info.dtype, info.shape) for name in names}

    return Signature(PREDICT_METHOD_NAME, named(inputs), named(outputs))


def _on_examples(method_name: str, output: str) -> Signature:
    strings = TensorInfo("inputs:0", DataType.DT_STRING, (-1,))
    floats = TensorInfo(f"{output}:0", DataType.DT_FLOAT, (-1, 1))
    return Signature(method_name, {"inputs": strings}, {output: floats})


def _half_plus(offset: int) -> tuple[Signature, Run]:
    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        x: Any = inputs["x"]
        return {"y": np.asarray(x / 2 + offset, np.float32)}

    return _predict(_FLOATS, "x", "y"), run


def _half_x(inputs: Mapping[str, Array]) -> Array:
    """y of each serialized example, after the rules of tf.io.parse_example."""
    values = []
    for serialized in inputs["inputs"]:
        features = Example.FromString(serialized).features.feature
        if "x" not in features:
            raise InvalidArgument("Feature: x (data type: float) is required but could not be found.")
        if features["x"].WhichOneof("kind") != "float_list":
            raise InvalidArgument("Key: x.  Data types don't match. Expected type: float")
        values.append(list(features["x"].float_list.value))
    return np.asarray(values, np.float32) / 2 + 2


def _echoes() -> Iterator[tuple[str, tuple[Signature, Run]]]:
    for name, dtype in ECHO_TYPES.items():
        yield name, (_predict(TensorInfo("", dtype, None), "x", "y"), lambda inputs: {"y": inputs["x"]})
    strings = _predict(TensorInfo("", DataType.DT_STRING, (-1,)), "x", ("y", "y_bytes"))
    yield "string", (strings, lambda inputs: {"y": inputs["x"], "y_bytes": inputs["x"]})
    yield (
        "bytes",
        (_predict(TensorInfo("", DataType.DT_STRING, None), "x", ("y_bytes",)), lambda inputs: {"y_bytes": inputs["x"]}),
    )
    yield DEFAULT_SIGNATURE_NAME, (_predict(_FLOATS, "x", "y"), lambda inputs: {"y": inputs["x"]})


def _sum(inputs: Mapping[str, Array]) -> dict[str, Array]:
    a: Any = inputs["a"]
    b: Any = inputs["b"]
    return {"sum": a + b, "difference": a - b}


def _fail(inputs: Mapping[str, Array]) -> dict[str, Array]:
    code = Code(int(inputs["x"][0]))
    raise error_for(code, f"It failed with {code.name}")
