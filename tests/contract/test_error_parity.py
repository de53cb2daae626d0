"""One cause, one error: what each protocol makes of it.

Each case sends its cause over both. A text that is not the same on both has `differs`, which says why; the codes always belong
together. A case with `timeout_s` is asked of a model that never answers, and its gRPC text is the client's own. A case with
`crowd` is asked while so many others wait for the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import text_format

from cluster.core.errors import Code
from servables.frontend.error_mapping import http_status
from servables.frontend.servable_router import RouterLimits
from tests.contract.contract_models import ContractServer, contract_server, half_plus_two
from tests.contract.test_grpc import REQUESTS, TIMEOUT_S, Stubs, connect
from tests.contract.test_rest import ask
from tests.fakes.fake_servable import Gate

CASES = json.loads((Path(__file__).parent / "cases" / "both.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_one_cause_is_one_error_on_both_protocols(server: ContractServer, case: dict[str, Any]) -> None:
    rest, rpc = case["rest"], case["grpc"]
    with server_of(case, server) as asked:
        body = rest["body"].encode() if "body" in rest else None
        answer = ask(asked, rest["method"], rest["target"], body)
        request = text_format.Parse(rpc["request"], REQUESTS[rpc["method"]]())
        with connect(asked) as channel, pytest.raises(grpc.RpcError) as raised:
            Stubs(channel).method(rpc["method"])(request, timeout=case.get("timeout_s", TIMEOUT_S))
    assert (answer.status, json.loads(answer.body)) == (rest["status"], {"error": rest["error"]})
    assert raised.value.code().name == rpc["code"]
    assert raised.value.details() == rpc.get("message", raised.value.details())


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_what_differs_is_said(case: dict[str, Any]) -> None:
    rest, rpc = case["rest"], case["grpc"]
    assert rest["status"] == http_status(Code[rpc["code"]])
    assert (rest["error"] == rpc.get("message", rest["error"])) == ("differs" not in case)


def test_the_table_holds_every_code() -> None:
    own = {case["grpc"]["code"] for case in CASES if case["name"].startswith("the model's own ")}
    assert own == {code.name for code in Code if code is not Code.OK}


@contextmanager
def server_of(case: dict[str, Any], server: ContractServer) -> Iterator[ContractServer]:
    if "timeout_s" in case:
        gate = Gate()
        with contract_server({"slow": half_plus_two(gate)}, rest_api_timeout_s=case["timeout_s"]) as slow:
            try:
                yield slow
            finally:
                gate.open()
    elif "crowd" in case:
        with crowded_server(case["crowd"]) as crowded:
            yield crowded
    else:
        yield server


@contextmanager
def crowded_server(crowd: int) -> Iterator[ContractServer]:
    """Serves `slow`, which `crowd` requests have reached; one more is too many."""
    gate = Gate()
    limits = RouterLimits(crowd=crowd, max_queue_delay_s=0.0)
    with (
        contract_server({"slow": half_plus_two(gate)}, router_limits=limits) as crowded,
        ThreadPoolExecutor(crowd) as clients,
    ):
        body = b'{"inputs": [1.0]}'
        waiting = [clients.submit(ask, crowded, "POST", "/v1/models/slow:predict", body) for _ in range(crowd)]
        try:
            gate.wait_until_reached(crowd)
            yield crowded
        finally:
            gate.open()
        assert {answer.result().status for answer in waiting} == {200}


def test_who_is_refused_is_told_when_to_come_back() -> None:
    with crowded_server(1) as crowded:
        answer = ask(crowded, "POST", "/v1/models/slow:predict", b"this is not even read")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
