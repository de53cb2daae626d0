"""What a servable takes and gives: TF Serving's SignatureDefs as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from servables.tensors import DataType

PREDICT_METHOD_NAME = "tensorflow/serving/predict"
CLASSIFY_METHOD_NAME = "tensorflow/serving/classify"
REGRESS_METHOD_NAME = "tensorflow/serving/regress"
DEFAULT_SIGNATURE_NAME = "serving_default"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One input or output. `name` is the tensor in the graph (`x:0`); `shape` None is of unknown rank, -1 an unknown dimension."""

    name: str
    dtype: DataType
    shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """One SignatureDef: aliases -> tensors. `defaults` are values for inputs that a request may leave out."""

    method_name: str
    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]
    defaults: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
