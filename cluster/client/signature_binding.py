"""How a predict call's arguments meet the signature: which input is which, and of which dtype.

Python numbers take the signature's dtype. What brings a dtype of its own (numpy arrays and scalars, whatever has
`__array__`) is cast only if every value survives, with one exception: float64 may be rounded to a narrower float, since
it is only numpy's default. Numbers never become less than they are: no float becomes an integer, no integer a bool.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cluster.client.results import Array
from cluster.core.errors import InvalidArgument
from servables.signatures import Signature, TensorInfo
from servables.tensors import DataType, string_array, to_numpy


def bind_inputs(inputs: ArrayLike | Mapping[str, ArrayLike], signature: Signature) -> dict[str, Array]:
    """The arrays to send, by input name. Names that are missing are left to the server, which knows the defaults.

    Raises InvalidArgument for an unknown name, a value without a name where there are several inputs, and a value
    that does not fit the signature's dtype.
    """
    if not isinstance(inputs, Mapping):
        if len(signature.inputs) != 1:
            raise InvalidArgument(
                f"The signature has {len(signature.inputs)} inputs ({_names(signature.inputs)}): "
                "pass a mapping from name to value"
            )
        inputs = dict.fromkeys(signature.inputs, inputs)
    unknown = inputs.keys() - signature.inputs.keys()
    if unknown:
        raise InvalidArgument(f"The signature has no input {_names(unknown)}; its inputs are {_names(signature.inputs)}")
    return {name: cast_input(name, value, signature.inputs[name]) for name, value in inputs.items()}


def check_outputs(outputs: Sequence[str], signature: Signature) -> None:
    """Raises InvalidArgument, with TF Serving's texts, for an output filter that the signature cannot satisfy."""
    for index, name in enumerate(outputs):
        if name not in signature.outputs:
            raise InvalidArgument(
                f"output tensor alias not found in signature: {name} "
                f"Outputs expected to be in the set {{{','.join(sorted(signature.outputs))}}}."
            )
        if name in outputs[:index]:
            raise InvalidArgument(f"duplicate output tensor alias: {name}")


def cast_input(name: str, value: ArrayLike, info: TensorInfo) -> Array:
    """The value as an array of the signature's dtype."""
    if info.dtype is DataType.DT_STRING:
        return _string_array(name, value)
    wanted = to_numpy(info.dtype)
    typed = isinstance(value, np.ndarray | np.generic) or hasattr(value, "__array__")
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise InvalidArgument(f"Input {name} is not a tensor: {error}") from error
    if array.dtype == wanted:
        return array
    if array.size == 0 and not typed:
        return array.astype(wanted)
    if not _may_cast(array.dtype, wanted):
        raise InvalidArgument(f"Input {name} must be {wanted}, but its values are {_kind(array)}")
    if array.dtype.kind in "iu" and wanted.kind in "iu":
        limits = np.iinfo(wanted)
        if array.size and not (limits.min <= int(array.min()) and int(array.max()) <= limits.max):
            raise InvalidArgument(f"Input {name} must be {wanted}, but has values beyond its range")
        return array.astype(wanted)
    with np.errstate(over="raise", invalid="ignore"):
        try:
            cast = array.astype(wanted)
        except FloatingPointError:
            raise InvalidArgument(f"Input {name} must be {wanted}, but has values beyond its range") from None
        rounds = not typed or array.dtype in (np.float64, np.complex128)
        if not (rounds or np.can_cast(array.dtype, wanted)) and not np.array_equal(
            cast.astype(array.dtype), array, equal_nan=True
        ):
            raise InvalidArgument(f"Input {name} must be {wanted}, but has {array.dtype} values that it cannot hold")
    return cast


def _may_cast(given: np.dtype[Any], wanted: np.dtype[Any]) -> bool:
    if given.kind not in "biufcV" or (given.kind == "b") != (wanted.kind == "b"):
        return False
    # The low-precision floats (bfloat16 and smaller) are extension types of kind V, about which numpy knows no rules.
    return np.can_cast(given, wanted, "same_kind") or (given.kind in "iu" and wanted.kind in "iu") or wanted.kind == "V"


def _string_array(name: str, value: ArrayLike) -> Array:
    array = np.array(value, dtype=object)
    return string_array([_to_bytes(name, item) for item in array.flat], array.shape)


def _to_bytes(name: str, item: object) -> bytes:
    if isinstance(item, bytes):
        return bytes(item)
    if isinstance(item, str):
        try:
            return item.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"Input {name} has text that is not Unicode: {error}") from error
    raise InvalidArgument(f"Input {name} must hold str or bytes, but has a value of type {type(item).__name__}")


def _kind(array: Array) -> str:
    return "not numbers" if array.dtype == object else str(array.dtype)


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
