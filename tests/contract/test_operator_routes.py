"""What operators, probes and Prometheus get from the REST port."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import text_format
from prometheus_client.parser import text_string_to_metric_families

from cluster.core import metric_catalog as catalog
from cluster.core.metric_catalog import METRICS
from cluster.core.metrics import CellKey
from tests.contract import test_grpc
from tests.contract.contract_models import ContractServer, contract_server
from tests.contract.test_rest import ask

METRICS_PATH = "/monitoring/prometheus/metrics"
FLOATS = 'inputs { key: "x" value { dtype: DT_FLOAT tensor_shape { dim { size: 1 } } float_val: 1 } }'
EXAMPLES = "input { example_list { examples { } examples { } } }"
REGRESSION = (
    'tasks { model_spec { name: "half_plus_two" signature_name: "regress_x_to_y" } method_name: "tensorflow/serving/regress" }'
)


@pytest.fixture(scope="module")
def server() -> Iterator[ContractServer]:
    with contract_server(metrics_path=METRICS_PATH) as server:
        yield server


def read(server: ContractServer, target: str) -> Any:
    answer = ask(server, "GET", target)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    return json.loads(answer.body)


def test_all_models_are_listed_with_their_labels_and_states_newest_first(server: ContractServer) -> None:
    models = {model["name"]: model for model in read(server, "/v1/models")["models"]}
    assert {"half_plus_two", "sums", "types"} <= models.keys()
    half_plus_two = models["half_plus_two"]
    assert half_plus_two["version_labels"] == {"a b": 1, "canary": 2, "stable": 1}
    assert half_plus_two["model_version_status"] == [
        {"version": "3", "state": "END", "status": {"error_code": "INTERNAL", "error_message": "the files are damaged"}},
        {"version": "2", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}},
        {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}},
    ]


@pytest.mark.parametrize("target", ["/v1/health/ready", "/readyz", "/readyz?verbose"])
def test_a_server_that_takes_requests_is_ready_and_says_which_models_are_missing(server: ContractServer, target: str) -> None:
    assert read(server, target) == {"status": "ready", "missing_models": {"unseen": "no version found"}}


@pytest.mark.parametrize("target", ["/v1/health/live", "/livez"])
def test_a_process_that_answers_is_live(server: ContractServer, target: str) -> None:
    assert read(server, target) == {"status": "live"}


@pytest.mark.parametrize("target", ["/v1/models", "/v1/health/ready", "/livez", METRICS_PATH])
def test_operators_routes_are_for_reading(server: ContractServer, target: str) -> None:
    answer = ask(server, "POST", target, b"{}")
    assert (answer.status, json.loads(answer.body)) == (400, {"error": f"Malformed request: POST {target}"})


def test_a_path_that_only_begins_alike_is_not_an_operators_route(server: ContractServer) -> None:
    assert ask(server, "GET", "/livez/x").status == 404
    assert ask(server, "GET", "/v1/health/readyx").status == 400


def test_metrics_are_prometheus_text(server: ContractServer) -> None:
    server.control.series = {CellKey(catalog.REQUEST_COUNT.name, ("m", "OK")): (7,)}
    answer = ask(server, "GET", METRICS_PATH)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    text = answer.body.decode()
    assert ':tensorflow:serving:request_count{model_name="m",status="OK"} 7\n' in text
    assert len(list(text_string_to_metric_families(text))) == len(METRICS)


def test_metrics_with_a_query_are_refused_as_tf_serving_refuses_them(server: ContractServer) -> None:
    answer = ask(server, "GET", METRICS_PATH + "?name=x")
    message = f"Unexpected path: {METRICS_PATH}?name=x. Should be {METRICS_PATH}"
    assert (answer.status, json.loads(answer.body)) == (400, {"error": message})


def test_without_a_monitoring_config_there_are_no_metrics() -> None:
    with contract_server() as server:
        assert ask(server, "GET", METRICS_PATH).status == 404


class TestCounting:
    """What the frontend itself counts, in the cells that it reports."""

    @pytest.fixture
    def counted(self) -> Iterator[ContractServer]:
        with contract_server() as server:
            yield server

    def series(self, server: ContractServer, metric: str) -> dict[tuple[str, ...], float]:
        changes = server.cells.changes()
        server.cells.forget_reports()
        return {
            key.labels: sum(value[1:]) if len(value) > 1 else value[0] for key, value in changes.items() if key.metric == metric
        }

    def test_rest_requests_by_model_and_status(self, counted: ContractServer) -> None:
        ask(counted, "POST", "/v1/models/half_plus_two:predict", b'{"inputs": [1.0]}')
        ask(counted, "POST", "/v1/models/half_plus_two:predict", b'{"inputs": ["x"]}')
        ask(counted, "POST", "/v1/models/nobody:predict", b'{"inputs": [1.0]}')
        ask(counted, "GET", "/v1/models/half_plus_two")
        ask(counted, "PUT", "/v1/models/half_plus_two")
        ask(counted, "OPTIONS", "/v1/models/half_plus_two")
        assert self.series(counted, catalog.REQUEST_COUNT.name) == {
            ("half_plus_two", "OK"): 2,
            ("half_plus_two", "INVALID_ARGUMENT"): 1,
            ("nobody", "NOT_FOUND"): 1,
            ("", "INVALID_ARGUMENT"): 1,
            ("", "FAILED_PRECONDITION"): 1,
        }

    def test_grpc_requests_that_infer_and_no_others(self, counted: ContractServer) -> None:
        with test_grpc.connect(counted) as channel:
            stubs = test_grpc.Stubs(channel)
            for method, request in (
                ("Predict", f'model_spec {{ name: "half_plus_two" }} {FLOATS}'),
                ("Predict", 'model_spec { name: "nobody" }'),
                ("Classify", f'model_spec {{ name: "half_plus_two" signature_name: "classify_x_to_y" }} {EXAMPLES}'),
                ("Regress", f'model_spec {{ name: "half_plus_two" signature_name: "regress_x_to_y" }} {EXAMPLES}'),
                ("MultiInference", f"{REGRESSION} {EXAMPLES}"),
                ("GetModelStatus", 'model_spec { name: "half_plus_two" }'),
                ("GetModelMetadata", 'model_spec { name: "half_plus_two" } metadata_field: "signature_def"'),
            ):
                with contextlib.suppress(grpc.RpcError):
                    stubs.method(method)(text_format.Parse(request, test_grpc.REQUESTS[method]()), timeout=30)
        assert self.series(counted, catalog.REQUEST_COUNT.name) == {("half_plus_two", "OK"): 3, ("nobody", "NOT_FOUND"): 1}
        methods = ("Predict", "Classify", "Regress")
        assert self.series(counted, catalog.REQUEST_LATENCY.name) == {
            ("half_plus_two", method, "GRPC"): 1 for method in methods
        }
        assert self.series(counted, catalog.RUNTIME_LATENCY.name) == {
            ("half_plus_two", method, "TF1"): 1 for method in (*methods, "MultiInference")
        }
        assert self.series(counted, catalog.REQUEST_EXAMPLE_COUNTS.name) == {("half_plus_two",): 1}
        assert self.series(counted, catalog.REQUEST_EXAMPLE_COUNT_TOTAL.name) == {("half_plus_two",): 2}

    def test_latency_of_rest_requests_that_succeed(self, counted: ContractServer) -> None:
        ask(counted, "POST", "/v1/models/half_plus_two:predict", b'{"inputs": [1.0]}')
        ask(counted, "POST", "/v1/models/half_plus_two:predict", b"{}")
        ask(counted, "GET", "/v1/models/half_plus_two/metadata")
        ask(counted, "OPTIONS", "/v1/models/half_plus_two", headers={"Origin": "http://example.com"})
        assert self.series(counted, catalog.REQUEST_LATENCY.name) == {
            ("half_plus_two", "predict", "REST"): 1,
            ("half_plus_two", "", "REST"): 1,
            ("", "", "REST"): 1,
        }
        assert self.series(counted, catalog.RUNTIME_LATENCY.name) == {("half_plus_two", "Predict", "TF1"): 1}
