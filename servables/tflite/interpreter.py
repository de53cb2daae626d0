"""One instance of a TFLite model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from cluster.core.errors import AlreadyExists, Internal, InvalidArgument, Unimplemented
from servables.servable import Array
from servables.signatures import DEFAULT_SIGNATURE_NAME, PREDICT_METHOD_NAME, Signature, TensorInfo
from servables.tensors import DataType, from_numpy

_PRIMARY_SUBGRAPH = 0


@dataclass(frozen=True, slots=True)
class Subgraph:
    """The way through the model that a signature names: its index, and alias -> index of a tensor in it."""

    index: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


class Interpreter:
    """Runs the subgraphs of a model, one run at a time: threads that share one must take turns.

    Goes past Python's own `Interpreter` and `SignatureRunner` to the wrapper under them: those run only the first subgraph, or
    copy out every output, and neither tells an input of the wrong shape from a run that failed.
    """

    def __init__(self, content: bytes, num_threads: int) -> None:
        """Allocates every signature's tensors. Raises ValueError or RuntimeError with the interpreter's own text."""
        with warnings.catch_warnings():
            # TensorFlow announces that its interpreter will move to another package.
            warnings.simplefilter("ignore")
            self._interpreter = tf.lite.Interpreter(model_content=content, num_threads=num_threads)
        self._wrapper = self._interpreter._interpreter
        self._subgraphs = self._find_subgraphs()
        for subgraph in self._subgraphs.values():
            self._wrapper.AllocateTensors(subgraph.index)

    @property
    def subgraphs(self) -> Mapping[str, Subgraph]:
        """By signature name. A model without signatures has one, called as TF Serving calls it, with the tensors' own names."""
        return self._subgraphs

    def signature(self, name: str) -> Signature:
        """What the signature takes and gives. Raises Unimplemented for a type that no client can send."""
        subgraph = self._subgraphs[name]
        return Signature(
            method_name=PREDICT_METHOD_NAME,
            inputs={alias: self._tensor_info(index, subgraph.index) for alias, index in subgraph.inputs.items()},
            outputs={alias: self._tensor_info(index, subgraph.index) for alias, index in subgraph.outputs.items()},
        )

    def reset_variables(self) -> None:
        """Puts the state that recurrent ops keep between runs back to what a new interpreter has."""
        self._wrapper.ResetVariableTensors()

    def prepare(self, subgraph: Subgraph, inputs: Mapping[str, Array]) -> None:
        """Makes room for the inputs and sets them. Raises InvalidArgument if the model cannot take their shapes."""
        try:
            for alias, array in inputs.items():
                self._wrapper.ResizeInputTensor(subgraph.inputs[alias], np.array(array.shape, np.int32), False, subgraph.index)
            self._wrapper.AllocateTensors(subgraph.index)
            for alias, array in inputs.items():
                self._wrapper.SetTensor(subgraph.inputs[alias], array, subgraph.index)
        except (RuntimeError, ValueError) as error:
            shapes = ", ".join(f"{alias} {list(array.shape)}" for alias, array in inputs.items())
            raise InvalidArgument(
                f"The TFLite model cannot take inputs of these shapes: {shapes}: {one_line(error)}"
            ) from error

    def invoke(self, subgraph: Subgraph, outputs: Sequence[str]) -> dict[str, Array]:
        """Runs what is prepared. Raises Internal with the interpreter's text, as TF Serving does, if an op fails."""
        try:
            self._wrapper.Invoke(subgraph.index)
        except (RuntimeError, ValueError) as error:
            raise Internal(f"Failed to run interpreter. {one_line(error)}") from error
        return {alias: self._wrapper.GetTensor(subgraph.outputs[alias], subgraph.index) for alias in outputs}

    def _find_subgraphs(self) -> dict[str, Subgraph]:
        definitions = self._interpreter._get_full_signature_list()
        if definitions:
            return {
                name: Subgraph(
                    self._wrapper.GetSubgraphIndexFromSignature(name), dict(definition["inputs"]), dict(definition["outputs"])
                )
                for name, definition in definitions.items()
            }
        primary = Subgraph(
            _PRIMARY_SUBGRAPH,
            self._by_name("Input", self._wrapper.InputIndices()),
            self._by_name("Output", self._wrapper.OutputIndices()),
        )
        return {DEFAULT_SIGNATURE_NAME: primary}

    def _by_name(self, kind: str, indices: Sequence[int]) -> dict[str, int]:
        named: dict[str, int] = {}
        for index in indices:
            name = self._wrapper.TensorName(int(index), _PRIMARY_SUBGRAPH)
            if name in named:
                raise AlreadyExists(f"{kind} tensor name: {name} has multiple indices")
            named[name] = int(index)
        return named

    def _tensor_info(self, index: int, subgraph_index: int) -> TensorInfo:
        name: str = self._wrapper.TensorName(index, subgraph_index)
        numpy_type: Any = self._wrapper.TensorType(index, subgraph_index)
        if numpy_type is np.object_:  # a resource or a variant
            raise Unimplemented(f"Tensor {name} is of a type that cannot be sent or received")
        dtype = DataType.DT_STRING if numpy_type is np.bytes_ else from_numpy(np.dtype(numpy_type))
        shape = self._wrapper.TensorSizeSignature(index, subgraph_index)
        return TensorInfo(name, dtype, tuple(int(size) for size in shape))


def one_line(error: Exception) -> str:
    """The interpreter's text, which may have several lines."""
    return " ".join(str(error).split())
