"""What the composition root tells frontends and replicas of the flags; nothing is started here."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.config.server_config import ServerConfig, read_server_config
from cluster.config.server_options import ServerOptions
from cluster.server import frontend_options, warmup_options
from servables.frontend.frontend import FrontendOptions


def config(**flags: Any) -> ServerConfig:
    return read_server_config(ServerOptions(model_base_path="/models/m", **flags))


def test_frontends_have_tensorflow_servings_defaults() -> None:
    assert frontend_options(config()) == FrontendOptions(rest_api_port=0)


@pytest.mark.parametrize(
    ("flag", "given", "option", "told"),
    [
        ("port", 9000, "grpc_port", 9000),
        ("rest_api_port", 9001, "rest_api_port", 9001),
        ("host", "::", "host", "::"),
        ("grpc_socket_path", "/run/grpc", "grpc_socket_path", "/run/grpc"),
        ("grpc_listener", "grpcio", "grpc_listener", "grpcio"),
        ("grpc_channel_arguments", "a=1,b=c", "grpc_channel_arguments", {"a": 1, "b": "c"}),
        ("rest_api_timeout_in_ms", 1500, "rest_api_timeout_s", 1.5),
        ("rest_api_timeout_in_ms", 0, "rest_api_timeout_s", None),
        ("rest_api_timeout_in_ms", -1, "rest_api_timeout_s", None),
        ("rest_api_enable_cors_support", True, "enable_cors", True),
        ("enable_serialization_as_tensor_content", True, "tensor_content", True),
        ("enable_signature_method_name_check", True, "check_method_names", True),
        ("enable_grpc_healthcheck_service", True, "health_service", True),
        ("enable_profiler", False, "profiler", False),
    ],
)
def test_frontends_are_told_what_a_flag_says(flag: str, given: object, option: str, told: object) -> None:
    assert getattr(frontend_options(config(**{flag: given})), option) == told


def test_replicas_are_told_how_to_warm_up() -> None:
    warmup = warmup_options(ServerOptions(model_base_path="/m"))
    assert (warmup.replay_records, warmup.iterations, warmup.timeouts_s) == (True, 1, ())
    warmup = warmup_options(ServerOptions(model_base_path="/m", num_request_iterations_for_warmup=3, rest_api_port=8501))
    assert (warmup.iterations, warmup.timeouts_s) == (3, (30.0,))
    assert not warmup_options(ServerOptions(model_base_path="/m", enable_model_warmup=False)).replay_records
