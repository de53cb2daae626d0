"""What TF Serving's REST API answers, case by case, over a real socket."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.core.serving_map import ServableEntry
from servables.frontend.frame_channel import FrameChannel
from servables.frontend.http_listener import HttpRequest
from servables.frontend.inference import Inference
from servables.frontend.rest import Rest, RestOptions
from servables.frontend.servable_router import ServableRouter
from tests.contract.contract_models import HOST, ContractServer, contract_server

CASES = Path(__file__).parent / "cases" / "rest"
PREDICT = "/v1/models/half_plus_two:predict"
BODY = b'{"inputs": [1.0]}'


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def ask(
    server: ContractServer, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> Answer:
    connection = http.client.HTTPConnection(HOST, server.rest_port, timeout=30)
    try:
        # putrequest by hand: the client library would refuse or mend some of the targets.
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def cases(directory: Path = CASES, pattern: str = "*.json") -> list[Any]:
    return [
        pytest.param(case, id=f"{path.stem}: {case['name']}")
        for path in sorted(directory.glob(pattern))
        for case in json.loads(path.read_text())
    ]


@pytest.mark.parametrize("case", cases())
def test_answers_as_tf_serving(server: ContractServer, case: dict[str, Any]) -> None:
    assert_answers(server, case)


def assert_answers(server: ContractServer, case: dict[str, Any]) -> None:
    request, expected = case["request"], case["response"]
    body = request["body"].encode() if "body" in request else None
    answer = ask(server, request["method"], request["target"], body, request.get("headers"))
    assert answer.status == expected["status"], answer.body
    if "body" in expected:
        assert answer.body.decode() == expected["body"]
    if "json" in expected:
        assert json.loads(answer.body) == expected["json"]
    if "error_begins" in expected:
        assert json.loads(answer.body)["error"].startswith(expected["error_begins"])
    for name, value in expected.get("headers", {}).items():
        assert answer.headers[name] == value
    for name in expected.get("absent_headers", ()):
        assert name not in answer.headers


def test_metadata_is_laid_out_as_tf_serving_lays_it_out(server: ContractServer) -> None:
    """`http_rest_api_util.cc` puts the texts of two messages together by hand."""
    text = ask(server, "GET", "/v1/models/no_inputs/metadata").body.decode()
    assert text.startswith('{\n"model_spec":{\n "name": "no_inputs",\n')
    assert '\n}\n,\n"metadata": {"signature_def": {\n "signature_def": {\n  "serving_default": {\n' in text
    assert text.endswith("\n }\n}\n}\n}\n")


def test_the_target_may_be_absolute(server: ContractServer) -> None:
    answer = ask(server, "POST", f"http://{HOST}:{server.rest_port}{PREDICT}", BODY)
    assert json.loads(answer.body) == {"outputs": [2.5]}


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP"])
@pytest.mark.parametrize("rows", [1, 100_000])
def test_a_gzip_body_is_decompressed_and_the_answer_is_not_compressed(server: ContractServer, encoding: str, rows: int) -> None:
    body = gzip.compress(json.dumps({"inputs": [1.0] * rows}).encode())
    answer = ask(server, "POST", PREDICT, body, {"Content-Encoding": encoding, "Accept-Encoding": "gzip"})
    assert json.loads(answer.body) == {"outputs": [2.5] * rows}
    assert "Content-Encoding" not in answer.headers


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (BODY, "The request's body is not gzip, as its Content-Encoding says: "),
        (gzip.compress(BODY)[:-9], "The request's gzip body ends too early."),
    ],
)
def test_a_gzip_body_that_is_broken_is_a_bad_request(server: ContractServer, body: bytes, error: str) -> None:
    answer = ask(server, "POST", PREDICT, body, {"Content-Encoding": "gzip"})
    assert answer.status == 400
    assert json.loads(answer.body)["error"].startswith(error)


def test_a_gzip_body_may_not_become_larger_than_the_limit() -> None:
    body = gzip.compress(b" " * 101)
    request = HttpRequest("POST", PREDICT, {b"content-encoding": b"gzip"}, body)
    for limit_bytes, error in ((100, "larger than 100 bytes when decompressed"), (101, "JSON Parse error")):
        rest = Rest(Inference(ServableRouter(no_channel)), RestOptions(max_inflated_body_bytes=limit_bytes))
        answer = asyncio.run(rest.handle(request))
        assert answer.status == 400
        assert error in json.loads(answer.body)["error"]


def no_channel(entry: ServableEntry) -> FrameChannel:
    raise AssertionError(f"nothing is to be sent to {entry.id}")


def test_a_body_may_be_large(server: ContractServer) -> None:
    count = 4_000_000
    answer = ask(server, "POST", PREDICT, b'{"inputs": [%b]}' % b",".join([b"0.5"] * count))
    assert json.loads(answer.body) == {"outputs": [2.25] * count}


def test_every_answer_allows_other_origins_when_told_to() -> None:
    with contract_server(enable_cors=True) as server:
        for method, target in (
            ("POST", PREDICT),
            ("GET", "/v1/models/unknown"),
            ("GET", "/v1/nothing"),
            ("GET", "/v1/models"),
            ("GET", "/v1/health/live"),
            ("OPTIONS", PREDICT),
            ("OPTIONS", "/v1/models"),
        ):
            headers = ask(server, method, target, BODY).headers
            assert headers["Access-Control-Allow-Origin"] == "*", (method, target)
            assert headers["Access-Control-Allow-Methods"] == "POST, GET"
            assert headers["Access-Control-Allow-Headers"] == "Content-Type"
