"""Tensors made up after a model's signature."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cluster.client.results import Array
from cluster.core.errors import ConfigError
from servables.signatures import Signature, TensorInfo
from servables.tensors import DataType, string_array, to_numpy

Shape = tuple[int, ...]

_LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", np.uint8)
_INTEGERS = 100


class Data(enum.Enum):
    RANDOM = "random"
    ZERO = "zero"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputOptions:
    """How tensors are made up. `shapes` are whole shapes by input, the first dimension included.

    `batch_size` (1 if None) is the first dimension of inputs for which the signature leaves it open and `shapes` says nothing.
    Random data are floats in [0, 1), integers below 100, bools, and strings of `string_length` letters; zero data are zeros and
    empty strings.
    """

    shapes: Mapping[str, Shape] = field(default_factory=dict)
    batch_size: int | None = None
    string_length: int = 16
    data: Data = Data.RANDOM


def parse_shapes(texts: tuple[str, ...]) -> dict[str, Shape]:
    """Shapes as `NAME:1,224,224,3`. A scalar's is `NAME:`. Raises ConfigError."""
    shapes: dict[str, Shape] = {}
    for text in texts:
        name, colon, sizes = text.rpartition(":")
        try:
            shape = tuple(int(size) for size in sizes.split(",")) if sizes else ()
        except ValueError:
            shape = (-1,)
        if not colon or not name or any(size < 0 for size in shape):
            raise ConfigError(f"--shape={text}: expected NAME:SIZE,SIZE,..., as in input:1,224,224,3")
        if name in shapes:
            raise ConfigError(f"--shape={text}: {name} has a shape already")
        shapes[name] = shape
    return shapes


def generate_inputs(signature: Signature, options: InputOptions, source: np.random.Generator) -> dict[str, Array]:
    """A tensor for each input that has no default.

    Raises ConfigError, naming the flag that helps, for an input whose shape is not known; Unimplemented for a type that no
    tensor can be sent of.
    """
    unknown = options.shapes.keys() - signature.inputs.keys()
    if unknown:
        raise ConfigError(f"--shape={min(unknown)}: the signature has no such input; its inputs are {_names(signature)}")
    if not signature.inputs:
        raise ConfigError("the signature has no inputs to generate: give the requests with --input")
    return {
        name: _tensor(info, _shape(name, info, options), options, source)
        for name, info in signature.inputs.items()
        if name not in signature.defaults or name in options.shapes
    }


def _shape(name: str, info: TensorInfo, options: InputOptions) -> Shape:
    given = options.shapes.get(name)
    if given is not None:
        if info.shape is not None and not _fits(given, info.shape):
            raise ConfigError(f"--shape={name}:{_text(given)}: the model's input is [{_text(info.shape)}] (-1: any size)")
        if options.batch_size is not None and given[:1] != (options.batch_size,):
            raise ConfigError(f"--shape={name}:{_text(given)} and --batch_size={options.batch_size} disagree: leave one out")
        return given
    if info.shape is None:
        raise ConfigError(f"input {name} may have any shape: give one with --shape {name}:SIZE,SIZE,...")
    first, rest = info.shape[:1], info.shape[1:]
    if any(size < 0 for size in rest):
        raise ConfigError(
            f"input {name} is [{_text(info.shape)}] (-1: any size): give its shape with --shape {name}:SIZE,SIZE,..."
        )
    if not first or first[0] >= 0:
        return info.shape
    return (options.batch_size or 1, *rest)


def _fits(shape: Shape, wanted: Shape) -> bool:
    return len(shape) == len(wanted) and all(want in (-1, size) for size, want in zip(shape, wanted, strict=True))


def _tensor(info: TensorInfo, shape: Shape, options: InputOptions, source: np.random.Generator) -> Array:
    if options.data is Data.ZERO:
        if info.dtype is DataType.DT_STRING:
            return string_array([b""] * int(np.prod(shape)), shape)
        return np.zeros(shape, to_numpy(info.dtype))
    if info.dtype is DataType.DT_STRING:
        letters = source.choice(_LETTERS, (int(np.prod(shape)), options.string_length))
        return string_array([row.tobytes() for row in letters], shape)
    dtype = to_numpy(info.dtype)
    if dtype.kind in "iu":
        return source.integers(_INTEGERS, size=shape).astype(dtype)
    if dtype.kind == "b":
        return source.random(shape) < 0.5
    return np.asarray(source.random(shape)).astype(dtype)


def _names(signature: Signature) -> str:
    return ", ".join(sorted(signature.inputs)) or "none"


def _text(shape: Shape) -> str:
    return ",".join(map(str, shape))
