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

from cluster.config.model_config import All, ModelConfig, ModelServerConfig
from cluster.core import metric_catalog as catalog
from cluster.core.errors import Code, Status
from cluster.core.metric_catalog import METRICS
from cluster.core.metrics import CellKey
from servables.stage_metrics import DECODE, ENCODE, GATHER, REPLICA, SAMPLED_EVERY
from tests.contract import test_grpc
from tests.contract.contract_models import HOST, ContractServer, contract_server
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


@pytest.mark.parametrize("target", ["/readyz", "/v1/health/live", "/v1/models"])
def test_a_probe_may_ask_for_the_head_alone(server: ContractServer, target: str) -> None:
    answer = ask(server, "HEAD", target)
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("target", ["/v1/health/live", "/livez"])
def test_a_process_that_answers_is_live(server: ContractServer, target: str) -> None:
    assert read(server, target) == {"status": "live"}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("target", ["/v1/models", "/v1/health/ready", "/v1/config"])
def test_other_methods_are_answered_as_tf_serving_answers_them(server: ContractServer, method: str, target: str) -> None:
    answer = ask(server, method, target, b"{}")
    assert (answer.status, json.loads(answer.body)) == (400, {"error": f"Malformed request: {method} {target}"})


def test_the_config_in_force_can_be_read_and_taken_on_again(server: ContractServer) -> None:
    models = (ModelConfig("a", "/models/a"), ModelConfig("b", "/models/b", version_policy=All(), version_labels={"stable": 1}))
    server.control.config = ModelServerConfig(models)
    config = read(server, "/v1/config")
    assert [model["name"] for model in config["models"]] == ["a", "b"]
    server.control.config = ModelServerConfig((ModelConfig("b", "/models/b", version_labels={"stable": 1}),))
    answer = ask(server, "POST", "/v1/config/reload", json.dumps({"models": config["models"][:1]}).encode())
    assert (answer.status, json.loads(answer.body)) == (200, {"status": {"error_code": "OK", "error_message": ""}})
    assert server.control.config == ModelServerConfig(models[:1])


def test_a_reload_without_a_body_reads_the_config_file_again(server: ContractServer) -> None:
    assert ask(server, "POST", "/v1/config/reload", b"").status == 200
    server.control.reread = Status(Code.FAILED_PRECONDITION, "there is nothing to read again")
    answer = ask(server, "POST", "/v1/config/reload", b"")
    assert (answer.status, json.loads(answer.body)) == (400, {"error": "there is nothing to read again"})


def test_a_web_page_may_not_reload(server: ContractServer) -> None:
    """Browsers send a plain POST of any page without asking first; they say that there is a page, which curl does not."""
    answer = ask(server, "POST", "/v1/config/reload", b'{"models": []}', {"Origin": "http://elsewhere"})
    assert answer.status == 403


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"models": [{"name": "a"}]}', "the request's body:1: models[0].base_path: "),
        (b'{"models": [{"name": "a", "base_path": "/a", "replica": 1}]}', "the request's body:1: models[0].replica: "),
        (b'{"models": [{"name": "a"}, {"name": "b"}]}', "the request's body:1: models[0].base_path: "),
        (b"{", "the request's body:"),
        (b"\xff", "the request's body:"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused_with_its_field(server: ContractServer, body: bytes, error: str) -> None:
    answer = ask(server, "POST", "/v1/config/reload", body)
    assert answer.status == 400
    message = json.loads(answer.body)["error"]
    assert message.startswith(error)
    assert message.count("base_path: ") == body.count(b'"name"') or "base_path: " not in error


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


def test_the_target_may_be_absolute(server: ContractServer) -> None:
    for target in (METRICS_PATH, "/v1/models", "/readyz"):
        answer = ask(server, "GET", f"http://{HOST}:{server.rest_port}{target}")
        assert answer.status == 200
        assert answer.body == ask(server, "GET", target).body


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

    @pytest.mark.parametrize("protocol", ["REST", "gRPC"])
    def test_stages_of_one_request_in_so_many(self, counted: ContractServer, protocol: str) -> None:
        def predict() -> None:
            if protocol == "REST":
                ask(counted, "POST", "/v1/models/half_plus_two:predict", b'{"inputs": [1.0]}')
                return
            request = text_format.Parse(f'model_spec {{ name: "half_plus_two" }} {FLOATS}', test_grpc.REQUESTS["Predict"]())
            with test_grpc.connect(counted) as channel:
                test_grpc.Stubs(channel).method("Predict")(request, timeout=30)

        for _ in range(2 * SAMPLED_EVERY):
            predict()

        stages = self.series(counted, catalog.STAGE_LATENCY.name)
        assert {stage: stages["half_plus_two", stage] for stage in (DECODE, GATHER, REPLICA, ENCODE)} == dict.fromkeys(
            (DECODE, GATHER, REPLICA, ENCODE), 2
        )
