"""The commands of docs/grpc.md make what a server with mutual TLS needs, and its examples print what they say they do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.config.ssl_config import parse_ssl_config
from tests.fakes.local_frontend import local_frontend

ROOT = Path(__file__).parents[4]
DOCUMENT = (ROOT / "docs" / "grpc.md").read_text()
(COMMANDS,) = re.findall(r"```sh\n(export.*?)```", DOCUMENT, re.DOTALL)
EXAMPLES = [example for example in re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL) if "ca.crt" in example]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the commands were run in."""
    directory = tmp_path_factory.mktemp("certificates")
    subprocess.run(["sh", "-e", "-c", COMMANDS], cwd=directory, capture_output=True, check=True, timeout=120)
    return directory


@pytest.fixture(scope="module")
def port(files: Path) -> Iterator[int]:
    ssl_config = parse_ssl_config((files / "ssl.txt").read_text(), "ssl.txt")
    assert ssl_config.client_verify
    with local_frontend(ssl_config=ssl_config) as server:
        yield server.grpc_port


def test_the_keys_are_for_nobody_elses_eyes(files: Path) -> None:
    assert (files / "ssl.txt").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("example", EXAMPLES, ids=[f"example {number}" for number in range(1, len(EXAMPLES) + 1)])
def test_an_example_prints_what_it_says(example: str, files: Path, port: int) -> None:
    printed = subprocess.run(
        [sys.executable, "-c", example.replace(":8500", f":{port}")],
        cwd=files,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout.splitlines()
    (promised,) = re.findall(r"print\(.*\)\s+# (.*)$", example, re.MULTILINE)
    assert promised in printed
