"""The commands of TF Serving's guides, as they stand there but for the port, answer what the guides say (REST and Docker)."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from servables.signatures import PREDICT_METHOD_NAME, REGRESS_METHOD_NAME, Signature, TensorInfo
from servables.tensors import DataType
from tests.contract.contract_models import ContractServer, contract_server, x_of
from tests.contract.test_rest import Answer, ask
from tests.fakes.fake_servable import FakeServable

DOCUMENTED_HOST = "http://localhost:8501"
# What curl sends where a command says nothing else.
CURLS_CONTENT_TYPE = {"Content-Type": "application/x-www-form-urlencoded"}


def half_plus(offset: float) -> FakeServable:
    """TF Serving's test models half_plus_two and half_plus_three."""

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        x = inputs["x"] if "x" in inputs else x_of(inputs["inputs"])
        y = (x / 2 + offset).astype(np.float32)
        return {"y": y, "outputs": y}

    x, y = TensorInfo("x:0", DataType.DT_FLOAT, (-1, 1)), TensorInfo("y:0", DataType.DT_FLOAT, (-1, 1))
    examples = TensorInfo("tf_example:0", DataType.DT_STRING, None)
    signatures = {
        "serving_default": Signature(PREDICT_METHOD_NAME, {"x": x}, {"y": y}),
        "tensorflow/serving/regress": Signature(REGRESS_METHOD_NAME, {"inputs": examples}, {"outputs": y}),
    }
    return FakeServable(run, signatures=signatures)


@pytest.fixture(scope="module")
def server() -> Iterator[ContractServer]:
    with contract_server({"half_plus_two": half_plus(2.0), "half_plus_three": half_plus(3.0)}, version=123) as server:
        yield server


def run(server: ContractServer, command: str) -> Answer:
    """Sends what curl would send."""
    method, body, target = "GET", None, ""
    words = iter(shlex.split(command.replace("\\\n", " ")))
    assert (next(words), next(words)) == ("$", "curl")
    for word in words:
        if word == "-d":
            method, body = "POST", next(words).encode()
        elif word == "-X":
            method = next(words)
        elif word != "-i":
            assert word.startswith(DOCUMENTED_HOST)
            target = word.removeprefix(DOCUMENTED_HOST)
    return ask(server, method, target, body, CURLS_CONTENT_TYPE if body else None)


@pytest.mark.parametrize(
    ("command", "status", "output"),
    [
        (
            "$ curl http://localhost:8501/v1/models/half_plus_three",
            200,
            """{
 "model_version_status": [
  {
   "version": "123",
   "state": "AVAILABLE",
   "status": {
    "error_code": "OK",
    "error_message": ""
   }
  }
 ]
}""",
        ),
        (
            """$ curl -d '{"instances": [1.0,2.0,5.0]}' -X POST http://localhost:8501/v1/models/half_plus_three:predict""",
            200,
            """{
    "predictions": [3.5, 4.0, 5.5]
}""",
        ),
        (
            """$ curl -d '{"signature_name": "tensorflow/serving/regress", "examples": [{"x": 1.0}, {"x": 2.0}]}' \\
  -X POST http://localhost:8501/v1/models/half_plus_three:regress""",
            200,
            """{
    "results": [3.5, 4.0]
}""",
        ),
        (
            """$ curl -i -d '{"instances": [1.0,5.0]}' -X POST http://localhost:8501/v1/models/half:predict""",
            404,
            """{ "error": "Servable not found for request: Latest(half)" }""",
        ),
        (
            """$ curl -d '{"instances": [1.0, 2.0, 5.0]}' -X POST http://localhost:8501/v1/models/half_plus_two:predict""",
            200,
            """{ "predictions": [2.5, 3.0, 4.5] }""",
        ),
    ],
    ids=["status", "predict", "regress", "an unknown model", "predict with Docker's model"],
)
def test_a_documented_command_answers_as_documented(server: ContractServer, command: str, status: int, output: str) -> None:
    answer = run(server, command)
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/json")
    assert json.loads(answer.body) == json.loads(output)
