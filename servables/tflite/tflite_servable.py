"""A TFLite model that is loaded and can be run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.core.errors import AspiredError, DataLoss, FailedPrecondition, InvalidArgument, Unimplemented
from servables.servable import Array, PlatformOptions, Servable
from servables.signatures import Signature, TensorInfo
from servables.tensors import from_numpy
from servables.tflite.interpreter import Interpreter, one_line
from servables.tflite.interpreter_pool import InterpreterPool
from servables.tflite.tflite_model import TfLiteModel, read_model

_ANY_SIZE = -1
# What the interpreter says of an op that it has no kernel for: a custom one, or one of TensorFlow's own.
_NO_KERNEL = ("unresolved custom op", "Select TensorFlow op")


def load_tflite(file: str, options: PlatformOptions) -> TfLiteServable:
    """Loads the model in `file`, as many times as the options ask for. Raises AspiredError, in one line that names the file."""
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise DataLoss(f"Cannot read {file}: {error.strerror}") from error
    if not content:
        raise DataLoss(f"{file} is empty")
    try:
        count = options.num_tflite_pools * options.num_tflite_interpreters_per_pool
        # Runs go side by side, so one keeps to one thread unless it is told otherwise.
        threads = options.intra_op_parallelism_threads or 1
        interpreters = [Interpreter(content, threads) for _ in range(count)]
        return TfLiteServable(read_model(content), interpreters)
    except AspiredError as error:
        raise type(error)(f"Cannot serve {file}: {error.message}") from error
    except (RuntimeError, ValueError) as error:
        text = one_line(error)
        if any(hint in text for hint in _NO_KERNEL):
            raise Unimplemented(f"Cannot load {file}: it has an op that the TFLite interpreter here lacks: {text}") from error
        raise DataLoss(f"Cannot load {file}: {text}") from error


class TfLiteServable(Servable):
    """Runs signatures on a pool of interpreters, resizing inputs to the batches that come."""

    def __init__(self, model: TfLiteModel, interpreters: Sequence[Interpreter]) -> None:
        """`interpreters`, one at least, are of this model, and the servable's own from now on."""
        first = interpreters[0]
        self._subgraphs = first.subgraphs
        self._signatures = {name: first.signature(name) for name in first.subgraphs}
        self._deterministic = not model.keeps_state
        self._resets = model.has_variable_tensors
        self._pool = InterpreterPool(interpreters)

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._signatures

    @property
    def deterministic(self) -> bool:
        return self._deterministic

    def run(
        self, signature_name: str, inputs: Mapping[str, Array], outputs: Sequence[str], timeout_s: float | None
    ) -> dict[str, Array]:
        signature = self._signatures.get(signature_name)
        if signature is None:
            raise FailedPrecondition(f'Serving signature key "{signature_name}" not found.')
        _check(signature_name, signature, inputs, outputs)
        subgraph = self._subgraphs[signature_name]
        with self._pool.lend(timeout_s) as interpreter:
            interpreter.prepare(subgraph, inputs)
            if self._resets:  # what a recurrent op remembers is another client's
                interpreter.reset_variables()
            return interpreter.invoke(subgraph, outputs)

    def close(self) -> None:
        self._pool.clear()


def _check(signature_name: str, signature: Signature, inputs: Mapping[str, Array], outputs: Sequence[str]) -> None:
    unknown = sorted(inputs.keys() - signature.inputs.keys() | set(outputs) - signature.outputs.keys())
    if unknown:
        raise InvalidArgument(f'Aliases not found in signature "{signature_name}": {", ".join(unknown)}')
    for alias, info in signature.inputs.items():
        if alias not in inputs:
            raise InvalidArgument(f"Missing input TFLite tensor: {alias}")
        _check_input(alias, info, inputs[alias])


def _check_input(alias: str, info: TensorInfo, array: Array) -> None:
    """The interpreter resizes inputs to anything, and an op that only counts elements then takes one row for another.

    So only a batch's size, and what the model itself leaves open, may differ. Kernels divide by sizes without looking, so an
    empty tensor could end the process.
    """
    actual = from_numpy(array.dtype)
    if actual is not info.dtype:
        raise InvalidArgument(f"Type mismatch: actual {actual.label} vs. expect {info.dtype.label} for input {alias}")
    if array.size == 0:
        raise InvalidArgument(f"Input {alias} of shape {list(array.shape)} is empty: a TFLite model needs one element at least")
    expected = info.shape
    if not expected:  # a scalar, or of unknown rank
        return
    fits = array.ndim == len(expected) and all(
        size in (_ANY_SIZE, actual_size) for size, actual_size in zip(expected[1:], array.shape[1:], strict=True)
    )
    if not fits:
        wanted = ", ".join("?" if size == _ANY_SIZE or axis == 0 else str(size) for axis, size in enumerate(expected))
        raise InvalidArgument(f"Input {alias} of shape {list(array.shape)} does not fit the model's shape [{wanted}]")
