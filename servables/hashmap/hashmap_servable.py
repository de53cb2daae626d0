"""A table of strings that answers like a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cluster.core.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound
from servables.servable import Array, Servable
from servables.signatures import DEFAULT_SIGNATURE_NAME, PREDICT_METHOD_NAME, Signature, TensorInfo
from servables.tensors import DataType, from_numpy, string_array

_KEYS = "keys"
_VALUES = "values"
_SIGNATURES = {
    DEFAULT_SIGNATURE_NAME: Signature(
        method_name=PREDICT_METHOD_NAME,
        inputs={_KEYS: TensorInfo(name="keys:0", dtype=DataType.DT_STRING, shape=(-1,))},
        outputs={_VALUES: TensorInfo(name="values:0", dtype=DataType.DT_STRING, shape=(-1,))},
    )
}


class HashmapServable(Servable):
    """Looks up every element of `keys`; a key without a value fails the call with NotFound."""

    def __init__(self, table: Mapping[bytes, bytes]) -> None:
        self._table = table

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return _SIGNATURES

    @property
    def deterministic(self) -> bool:
        return True

    def run(
        self, signature_name: str, inputs: Mapping[str, Array], outputs: Sequence[str], timeout_s: float | None
    ) -> dict[str, Array]:
        if signature_name not in _SIGNATURES:
            raise FailedPrecondition(f'Serving signature key "{signature_name}" not found.')
        if timeout_s is not None and timeout_s <= 0:
            raise DeadlineExceeded("Timed out before the lookup began")
        if inputs.keys() != {_KEYS} or set(outputs) != {_VALUES}:
            raise InvalidArgument(f"Expected input {_KEYS} and output {_VALUES}, got {sorted(inputs)} and {sorted(outputs)}")
        keys = inputs[_KEYS]
        if keys.dtype != np.object_:
            raise InvalidArgument(f"Type mismatch: actual {from_numpy(keys.dtype).label} vs. expect string")
        values = [self._value(key) for key in keys.reshape(-1).tolist()]
        return {_VALUES: string_array(values, keys.shape)}

    def close(self) -> None:
        self._table = {}

    def _value(self, key: bytes) -> bytes:
        value = self._table.get(key)
        if value is None:
            raise NotFound(f"No value for key: {key.decode('utf-8', 'backslashreplace')}")
        return value
