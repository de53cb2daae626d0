"""The examples of docs/client.md run, and print what they say they do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.local_frontend import LocalFrontend

_DOCUMENT = Path(__file__).parents[3] / "docs" / "client.md"
_EXAMPLES = re.findall(r"```python\n(.*?)```", _DOCUMENT.read_text(), re.DOTALL)


@pytest.mark.parametrize("example", _EXAMPLES, ids=[f"example {number}" for number in range(1, len(_EXAMPLES) + 1)])
def test_an_example_prints_what_it_says(example: str, aspired: LocalFrontend) -> None:
    code = example.replace(":8500", f":{aspired.grpc_port}").replace(":8501", f":{aspired.rest_port}")
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    promised = re.findall(r"print\(.*\)\s+# (.*?)(?:;.*)?$", example, re.MULTILINE)
    assert promised
    assert printed == promised
