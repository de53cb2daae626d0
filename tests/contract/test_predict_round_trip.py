"""Tensors of any type and shape come back over a real socket as NumPy holds them, in either format."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.contract.contract_models import ContractServer
from tests.contract.test_rest import ask

NUMBERS = {
    "float": np.float32,
    "double": np.float64,
    "int8": np.int8,
    "uint8": np.uint8,
    "int32": np.int32,
    "int64": np.int64,
    "uint64": np.uint64,
    "bool": np.bool_,
}
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)

seeded = settings(max_examples=60, derandomize=True, database=None, deadline=None)


def passed_through(server: ContractServer, signature: str, value: Any, rows: bool) -> Any:
    """What the model `types` answers, which returns its input."""
    asked, answered = ("instances", "predictions") if rows else ("inputs", "outputs")
    body = json.dumps({"signature_name": signature, asked: value}).encode()
    answer = ask(server, "POST", "/v1/models/types:predict", body)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)[answered]


def fits_rows(value: Any) -> bool:
    """A batch has rows."""
    return isinstance(value, list) and bool(value)


@pytest.mark.parametrize("signature", NUMBERS)
@seeded
@given(st.data())
def test_numbers(server: ContractServer, signature: str, data: st.DataObject) -> None:
    value = data.draw(hnp.arrays(NUMBERS[signature], SHAPES)).tolist()
    returned = passed_through(server, signature, value, fits_rows(value) and data.draw(st.booleans()))
    # As arrays, since NaN is not NaN; JSON has no shape for what lies inside an empty list.
    expected, actual = np.array(value, NUMBERS[signature]), np.array(returned, NUMBERS[signature])
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(actual, expected)
    assert type_names(returned) == type_names(value)


@seeded
@given(data=st.data())
def test_strings_in_plain_and_in_base64(server: ContractServer, data: st.DataObject) -> None:
    texts = data.draw(hnp.arrays(object, SHAPES, elements=st.text(st.characters(codec="utf-8")))).tolist()
    sent = encoded(texts, data)
    assert passed_through(server, "string", sent, fits_rows(sent) and data.draw(st.booleans())) == texts


def encoded(texts: Any, data: st.DataObject) -> Any:
    """Some of the strings as base64 objects."""
    if isinstance(texts, list):
        return [encoded(text, data) for text in texts]
    return {"b64": base64.b64encode(texts.encode()).decode()} if data.draw(st.booleans()) else texts


def type_names(value: Any) -> set[str]:
    """The types of the values that are nested in lists."""
    return set().union(*map(type_names, value)) if isinstance(value, list) else {type(value).__name__}
