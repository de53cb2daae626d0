"""docs/openapi.yaml tells the truth: whatever is asked within it, or just outside, is answered as it says.

Schemathesis makes the requests. Its own check of answers takes NaN for null, so they are compared with the document here.
"""

from __future__ import annotations

import copy
import gc
import json
import logging
import re
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, settings
from jsonschema import Draft202012Validator
from schemathesis import Case, GenerationMode, Response
from schemathesis.specs.openapi.checks import negative_data_rejection
from schemathesis.specs.openapi.schemas import OpenApiSchema

from tests.contract.contract_models import HOST, ContractServer, contract_server
from tests.contract.test_rest import CASES, ask

DOCUMENT: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "docs" / "openapi.yaml").read_text())
METRICS_PATH = "/monitoring/prometheus/metrics"
MAX_INT64 = (1 << 63) - 1
ROUNDS = 40
GROWTH_BYTES = 1 << 20

# What may be 5xx: the contract's models fail when they are told to, and JSON has no values for some types of columns.
DELIBERATE = re.compile(r"The model says |Conversion of JSON Value: ")

seeded = settings(derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))


def whole() -> OpenApiSchema:
    return schemathesis.openapi.from_dict(copy.deepcopy(DOCUMENT))


def narrowed() -> OpenApiSchema:
    """Only requests that are right, and that the contract's models understand, more or less."""
    document = copy.deepcopy(DOCUMENT)
    parameters, schemas = document["components"]["parameters"], document["components"]["schemas"]
    parameters["model"]["schema"] = {"enum": ["failing", "half_plus_two", "strings", "sums", "types"]}
    parameters["version"]["schema"] = {"enum": [1, 2, 3]}
    parameters["label"]["schema"] = {"enum": ["stable", "canary", "a b"]}
    kinds = ({"type": "number"}, {"type": "integer"}, {"type": "string"}, {"type": "boolean"}, schemas["Base64"])
    values = {"anyOf": [{"type": "array", "items": kind, "minItems": 1} for kind in kinds]}
    named = {"type": "object", "properties": {"a": values, "b": values}, "required": ["a", "b"]}
    schemas["PredictRequest"] = {
        "type": "object",
        "properties": {
            "signature_name": {"enum": ["serving_default", "classify_x_to_y", "bool", "double", "half", "int64", "string"]},
            "inputs": {"anyOf": [values, named]},
            "instances": {"anyOf": [values, {"type": "array", "items": named}]},
        },
        "oneOf": [{"required": ["inputs"]}, {"required": ["instances"]}],
        "additionalProperties": False,
    }
    examples = schemas["ExamplesRequest"]["properties"]
    examples["signature_name"] = {"enum": ["classify_x_to_y", "regress_x_to_y"]}
    examples["examples"]["items"] = {"type": "object", "properties": {"x": {"type": "number"}}}
    schema = schemathesis.openapi.from_dict(document)
    schema.config.generation.update(modes=[GenerationMode.POSITIVE])
    schema.config.phases.coverage.enabled = False
    schema.config.phases.examples.enabled = False
    return schema


def rest_cases() -> list[dict[str, Any]]:
    return [case for path in sorted(CASES.glob("*.json")) for case in json.loads(path.read_text())]


def operation_of(request: dict[str, Any]) -> dict[str, Any] | None:
    """What the document says of a contract case's request, if it is one of those that it tells about."""
    for path, operations in DOCUMENT["paths"].items():
        if re.fullmatch(re.sub(r"\\{[a-z]+\\}", "[^/:?]+", re.escape(path)), request["target"]):
            operation: dict[str, Any] | None = operations.get(request["method"].lower())
            return operation
    return None


def resolved(kind: str, found: dict[str, Any]) -> dict[str, Any]:
    """What a reference stands for, if it is one."""
    if "$ref" not in found:
        return found
    component: dict[str, Any] = DOCUMENT["components"][kind][found["$ref"].removeprefix(f"#/components/{kind}/")]
    return component


def validate(schema: dict[str, Any], value: Any) -> None:
    Draft202012Validator({**DOCUMENT, **schema}).validate(value)


def assert_as_documented(operation: dict[str, Any], status: int, content_type: str, body: bytes) -> None:
    assert str(status) in operation["responses"], body
    content = resolved("responses", operation["responses"][str(status)])["content"]
    media_type = content_type.partition(";")[0]
    assert media_type in content
    if media_type == "application/json":
        validate(content[media_type]["schema"], json.loads(body))


@pytest.fixture(scope="module")
def server() -> Iterator[ContractServer]:
    with contract_server(metrics_path=METRICS_PATH) as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@whole().parametrize()
@settings(seeded, max_examples=20)
def test_whatever_is_asked_is_answered_as_documented(case: Case, server: ContractServer) -> None:
    answer = answer_to(case, server)
    if case.method.upper() != case.operation.method.upper():
        assert answer.status_code == (400 if case.operation.path.startswith("/v1/") else 404)
    elif answer.status_code == 400 and not answer.content:
        assert int(case.path_parameters["version"]) > MAX_INT64
    else:
        assert_case_is_as_documented(case, answer)
        case.validate_response(answer, checks=[negative_data_rejection])


@narrowed().parametrize()
@settings(seeded, max_examples=60)
def test_what_models_understand_is_answered_as_documented(case: Case, server: ContractServer) -> None:
    assert_case_is_as_documented(case, answer_to(case, server))


def answer_to(case: Case, server: ContractServer) -> Response:
    answer = case.call(base_url=f"http://{HOST}:{server.rest_port}", timeout=30)
    assert answer.status_code < 500 or DELIBERATE.match(answer.json()["error"]), answer.text
    return answer


def assert_case_is_as_documented(case: Case, answer: Response) -> None:
    operation = DOCUMENT["paths"][case.operation.path][case.operation.method]
    (content_type,) = answer.headers["content-type"]
    assert_as_documented(operation, answer.status_code, content_type, answer.content)


@pytest.mark.parametrize(
    "case", [case for case in rest_cases() if operation_of(case["request"])], ids=lambda case: case["name"]
)
def test_the_contracts_cases_are_asked_and_answered_as_documented(case: dict[str, Any], server: ContractServer) -> None:
    request = case["request"]
    operation = operation_of(request)
    assert operation is not None
    if case["response"]["status"] == 200 and "body" in request:
        body = resolved("requestBodies", operation["requestBody"])
        # As the server does, without what follows the object.
        value, _ = json.JSONDecoder().raw_decode(request["body"])
        validate(body["content"]["application/json"]["schema"], value)
    answer = ask(server, request["method"], request["target"], request.get("body", "").encode(), request.get("headers"))
    if answer.body:
        assert_as_documented(operation, answer.status, answer.headers["Content-Type"], answer.body)


def test_memory_does_not_grow_with_the_number_of_requests(server: ContractServer) -> None:
    requests = [case["request"] for case in rest_cases()]
    before = 0
    for number in range(ROUNDS):
        for request in requests:
            ask(server, request["method"], request["target"], request.get("body", "").encode(), request.get("headers"))
        if number == ROUNDS // 4:
            before = resident_bytes()
    assert resident_bytes() - before < GROWTH_BYTES


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
