"""Data types and the numpy types that carry them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from cluster import protos
from cluster.core.errors import Unimplemented
from servables.tensors import DataType, from_numpy, string_array, to_numpy

NOT_FED = {DataType.DT_INVALID, DataType.DT_RESOURCE, DataType.DT_VARIANT}
QUANTIZED = {data_type for data_type in DataType if "QINT" in data_type.name or "QUINT" in data_type.name}


def test_numbers_are_those_of_the_wire() -> None:
    plain = {name: number for name, number in protos.DataType.items() if not name.endswith("_REF")}
    assert {data_type.name: data_type.value for data_type in DataType} == plain


@pytest.mark.parametrize(
    ("data_type", "label"),
    [
        (DataType.DT_FLOAT, "float"),
        (DataType.DT_INT32, "int32"),
        (DataType.DT_STRING, "string"),
        (DataType.DT_HALF, "half"),
        (DataType.DT_BFLOAT16, "bfloat16"),
    ],
)
def test_label_is_the_name_in_messages(data_type: DataType, label: str) -> None:
    assert data_type.label == label


@pytest.mark.parametrize("data_type", sorted(set(DataType) - NOT_FED - QUANTIZED))
def test_numpy_type_leads_back_to_the_type(data_type: DataType) -> None:
    assert from_numpy(to_numpy(data_type)) is data_type


@pytest.mark.parametrize("data_type", sorted(QUANTIZED))
def test_quantized_types_are_plain_integers_in_numpy(data_type: DataType) -> None:
    assert from_numpy(to_numpy(data_type)).name == data_type.name.replace("DT_Q", "DT_")


@pytest.mark.parametrize("data_type", sorted(NOT_FED))
def test_what_no_array_holds_is_unimplemented(data_type: DataType) -> None:
    with pytest.raises(Unimplemented, match=data_type.label):
        to_numpy(data_type)


def test_byte_order_does_not_change_the_type() -> None:
    assert from_numpy(np.dtype(">f4")) is DataType.DT_FLOAT


@pytest.mark.parametrize("numpy_type", ["U3", "S3", "M8[s]"])
def test_numpy_types_without_a_counterpart_are_unimplemented(numpy_type: str) -> None:
    with pytest.raises(Unimplemented, match="cannot be sent"):
        from_numpy(np.dtype(numpy_type))


def test_works_without_ml_dtypes() -> None:
    script = """
import sys
sys.modules["ml_dtypes"] = None
from cluster.core.errors import Unimplemented
from servables.tensors import DataType, to_numpy
assert to_numpy(DataType.DT_HALF).name == "float16"
try:
    to_numpy(DataType.DT_BFLOAT16)
except Unimplemented as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "Tensors of type bfloat16 need a newer ml_dtypes package"


def test_string_array_has_the_shape_asked_for() -> None:
    array = string_array([b"a", b"", b"\x00\xff", b"dd"], (2, 2))
    assert array.tolist() == [[b"a", b""], [b"\x00\xff", b"dd"]]
    assert string_array([b"one"], ()).item() == b"one"
    assert string_array([]).shape == (0,)
