"""The client must be usable where neither TensorFlow nor Ray is, and cheap to import where they are."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

_BLOCKER = """
    import importlib.abc, sys

    class Blocker(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in {"tensorflow", "tensorflow_serving", "ray"}:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Blocker())
"""


def run_python(code: str) -> str:
    script = textwrap.dedent(_BLOCKER) + textwrap.dedent(code)
    result = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("target", ["grpc://127.0.0.1:1", "http://127.0.0.1:1"])
def test_works_without_tensorflow_and_ray(target: str) -> None:
    run_python(f"""
        from cluster.client import Client, RetryPolicy, Unavailable

        with Client("{target}", timeout_s=20, retry=RetryPolicy(max_attempts=1)) as client:
            try:
                client.predict("half_plus_two", [1.0])
            except Unavailable:
                pass
    """)


def test_imports_the_libraries_of_a_protocol_when_it_is_used() -> None:
    libraries = {"grpc", "httpx", "orjson"}
    loaded = run_python(f"""
        import cluster.client
        print(*sorted({libraries} & sys.modules.keys()))
        rest = cluster.client.Client("http://127.0.0.1:1", timeout_s=0.001)
        try:
            rest.status("m")
        except cluster.client.AspiredError:
            pass
        print(*sorted({libraries} & sys.modules.keys()))
    """)
    assert loaded.splitlines() == ["", "httpx orjson"]


def test_its_package_lists_everything_it_exports() -> None:
    import cluster.client

    for name in cluster.client.__all__:
        assert hasattr(cluster.client, name)
