"""tf.Examples as Python dicts: one reading of their values for both protocols.

A feature is a value or a flat list (or array of rank 0 or 1) of them. Integers and bools become an int64_list, floats
a float_list, str and bytes a bytes_list; a list that mixes integers and floats is floats. An empty list is a feature
without values.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cluster.core.errors import InvalidArgument

Scalar: TypeAlias = int | float | str | bytes | np.generic
FeatureValue: TypeAlias = Scalar | Sequence[Scalar] | NDArray[np.generic]
Example: TypeAlias = Mapping[str, FeatureValue] | bytes
"""A dict of features, or a serialized tf.Example."""

_INT64 = range(-(2**63), 2**63)


class Kind(enum.Enum):
    """The list of a tf.Feature that its values go to."""

    NONE = "none"
    BYTES = "bytes_list"
    FLOAT = "float_list"
    INT64 = "int64_list"


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature: all `values` are bytes, float or int, as `kind` says. `scalar` when it was not given as a list."""

    kind: Kind
    values: tuple[bytes, ...] | tuple[float, ...] | tuple[int, ...]
    scalar: bool = False


def read_features(features: Mapping[str, FeatureValue]) -> dict[str, Feature]:
    """Raises InvalidArgument, naming the feature, for what no tf.Example can hold."""
    return {name: _read_feature(name, value) for name, value in features.items()}


def _read_feature(name: str, value: FeatureValue) -> Feature:
    if isinstance(value, np.ndarray):
        if value.ndim > 1:
            raise InvalidArgument(f"Feature: {name} has rank {value.ndim}; a feature is a value or a flat list")
        value = value.tolist()
    if isinstance(value, str | bytes | int | float | np.generic):
        return _feature_of(name, [value], scalar=True)
    if isinstance(value, Sequence):
        return _feature_of(name, value, scalar=False)
    raise InvalidArgument(f"Feature: {name} has a value of type {type(value).__name__}; expected number, str, bytes or a list")


def _feature_of(name: str, items: Sequence[Scalar], scalar: bool) -> Feature:
    values = [item.item() if isinstance(item, np.generic) else item for item in items]
    kinds = {_kind_of(name, value) for value in values}
    if kinds == {Kind.FLOAT, Kind.INT64}:
        kinds = {Kind.FLOAT}
    if len(kinds) > 1:
        raise InvalidArgument(f"Feature: {name} mixes {' and '.join(sorted(kind.value for kind in kinds))}")
    match next(iter(kinds), Kind.NONE):
        case Kind.BYTES:
            return Feature(
                Kind.BYTES,
                tuple(v.encode() if isinstance(v, str) else v for v in values if isinstance(v, (str, bytes))),
                scalar,
            )
        case Kind.FLOAT:
            return Feature(Kind.FLOAT, tuple(map(float, values)), scalar)
        case Kind.INT64:
            return Feature(Kind.INT64, tuple(map(int, values)), scalar)
        case Kind.NONE:
            return Feature(Kind.NONE, ())


def _kind_of(name: str, value: object) -> Kind:
    match value:
        case bool():
            return Kind.INT64
        case int():
            if value not in _INT64:
                raise InvalidArgument(f"Feature: {name} has {value}, which is beyond int64")
            return Kind.INT64
        case float():
            return Kind.FLOAT
        case str() | bytes():
            return Kind.BYTES
    raise InvalidArgument(f"Feature: {name} has a value of type {type(value).__name__}; expected number, str or bytes")
