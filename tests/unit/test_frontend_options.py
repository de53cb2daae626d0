from __future__ import annotations

import pytest

from cluster.config.server_config import read_server_config
from cluster.config.server_options import ServerOptions
from cluster.server import frontend_options


@pytest.mark.parametrize(("timeout_in_ms", "timeout_s"), [(1500, 1.5), (1, 0.001), (0, None), (-1, None)])
def test_a_rest_timeout_of_nothing_is_none(timeout_in_ms: int, timeout_s: float | None) -> None:
    options = ServerOptions(model_base_path="/models/m", rest_api_timeout_in_ms=timeout_in_ms)
    assert frontend_options(read_server_config(options)).rest_api_timeout_s == timeout_s
