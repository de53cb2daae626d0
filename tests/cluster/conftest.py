"""Servers for the cluster tests, few and shared: each costs a Ray cluster, and on a small machine some ten seconds."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.sample_models import export_half_plus_two
from tests.cluster.aspired_server import AspiredServer

# Ray reads these once, when it is first imported: the clusters that tests join as drivers share a token, Ray's own way.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """half_plus_two in versions 1 to 9, each adding its number, to be moved or copied into a model's base path."""
    exports = tmp_path_factory.mktemp("exports")
    for version in range(1, 10):
        export_half_plus_two(exports, version, offset=float(version))
    return exports


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def server(exports: Path, models: Path, state: Path) -> Iterator[AspiredServer]:
    """A local server with half_plus_two version 1, whose failed loads are tried again seldom."""
    shutil.copytree(exports / "1", models / "half_plus_two" / "1")
    server = AspiredServer(
        state, "--model_name=half_plus_two", f"--model_base_path={models / 'half_plus_two'}", "--max_num_load_retries=0"
    )
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()
