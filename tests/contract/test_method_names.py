"""What changes where --enable_signature_method_name_check is given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from servables.signatures import CLASSIFY_METHOD_NAME, PREDICT_METHOD_NAME, REGRESS_METHOD_NAME, Signature, TensorInfo
from servables.tensors import DataType
from tests.contract import test_grpc, test_rest
from tests.contract.contract_models import ContractServer, contract_server
from tests.fakes.fake_servable import FakeServable

CASES = Path(__file__).parent / "cases" / "method_names"
EXAMPLES = {"inputs": TensorInfo("inputs:0", DataType.DT_STRING, (-1,))}
FLOATS = TensorInfo("floats:0", DataType.DT_FLOAT, (-1,))
SIGNATURES = {
    "classify": Signature(CLASSIFY_METHOD_NAME, EXAMPLES, {"scores": FLOATS}),
    "regress": Signature(REGRESS_METHOD_NAME, EXAMPLES, {"outputs": FLOATS}),
    "predict": Signature(PREDICT_METHOD_NAME, EXAMPLES, {"scores": FLOATS}),
    "odd": Signature("tensorflow/serving/odd", {"x": FLOATS}, {"y": FLOATS}),
}


def answer(inputs: Any) -> Any:
    """A three for each example that says anything, a two for others."""
    threes = np.array([3.0 if example else 2.0 for example in inputs["inputs"]], np.float32)
    return {"scores": threes.reshape(-1, 1), "outputs": threes}


@pytest.fixture(scope="module")
def server() -> Iterator[ContractServer]:
    with contract_server({"model": FakeServable(answer, signatures=SIGNATURES)}, check_method_names=True) as server:
        yield server


@pytest.fixture(scope="module")
def stubs(server: ContractServer) -> Iterator[test_grpc.Stubs]:
    with test_grpc.connect(server) as channel:
        yield test_grpc.Stubs(channel)


@pytest.mark.parametrize("case", test_grpc.cases(CASES, "grpc.json"))
def test_grpc_answers_as_tf_serving(stubs: test_grpc.Stubs, case: dict[str, Any]) -> None:
    test_grpc.assert_answers(stubs, case)


@pytest.mark.parametrize("case", test_rest.cases(CASES, "rest.json"))
def test_rest_answers_as_tf_serving(server: ContractServer, case: dict[str, Any]) -> None:
    test_rest.assert_answers(server, case)
