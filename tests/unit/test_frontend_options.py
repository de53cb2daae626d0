from __future__ import annotations

import math

import pytest

from cluster.config.server_config import read_server_config
from cluster.config.server_options import ServerOptions
from cluster.server import frontend_options


@pytest.mark.parametrize(("timeout_in_ms", "timeout_s"), [(1500, 1.5), (1, 0.001), (0, None), (-1, None)])
def test_a_rest_timeout_of_nothing_is_none(timeout_in_ms: int, timeout_s: float | None) -> None:
    options = ServerOptions(model_base_path="/models/m", rest_api_timeout_in_ms=timeout_in_ms)
    assert frontend_options(read_server_config(options)).rest_api_timeout_s == timeout_s


def test_the_bounds_of_a_queue_are_those_of_the_flags() -> None:
    options = ServerOptions(model_base_path="/models/m", max_queue_delay_s=2.5, max_held_request_bytes=1000)
    made = frontend_options(read_server_config(options))
    assert made.router_limits.max_queue_delay_s == 2.5
    assert (made.http_limits.max_held_body_bytes, made.max_held_grpc_bytes) == (1000, 1000)


def test_a_queue_delay_of_nothing_is_no_bound() -> None:
    options = ServerOptions(model_base_path="/models/m", max_queue_delay_s=0.0)
    assert frontend_options(read_server_config(options)).router_limits.max_queue_delay_s == math.inf
