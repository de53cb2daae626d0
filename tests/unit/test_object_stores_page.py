"""What docs/object-stores.md tells operators to type is what the code and the libraries read."""

from __future__ import annotations

import importlib.util
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cluster.config.server_options import ServerOptions
from cluster.core.object_uri import object_path_problem
from cluster.storage.http_storage import INDEX_NAME
from cluster.storage.storages import SCHEMES
from cluster.storage.version_manifest import CLAIM_PREFIX, MANIFEST_NAME

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/object-stores.md").read_text()
LIBRARIES = ("botocore", "obstore")
# Put together from parts where they are read.
COMPOSED = {"AWS_ENDPOINT_URL_S3": "AWS_ENDPOINT_URL", "HTTP_PROXY": "_PROXY"}


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@cache
def read_somewhere() -> bytes:
    """The source of everything that may read a variable."""
    files = list((ROOT / "cluster").rglob("*.py"))
    for library in LIBRARIES:
        spec = importlib.util.find_spec(library)
        assert spec is not None
        assert spec.origin is not None
        files += [path for path in Path(spec.origin).parent.glob("*") if path.suffix in (".py", ".so")]
    return b"\n".join(path.read_bytes() for path in files)


def allowed(policy: dict[str, Any]) -> set[str]:
    actions = [statement["Action"] for statement in policy["Statement"]]
    return {action for one in actions for action in ([one] if isinstance(one, str) else one)}


def test_the_policies_parse_and_allow_no_more_than_is_needed() -> None:
    policies = [document for block in code_blocks("json") if "Statement" in (document := json.loads(block))]
    serving, publishing = map(allowed, policies)
    assert serving == {"s3:ListBucket", "s3:GetObject"}
    assert publishing == serving | {"s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"}
    for policy in policies:
        assert all(statement["Effect"] == "Allow" and statement["Resource"] != "*" for statement in policy["Statement"])


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)`", PAGE)) - {"EXPORT_DIR", "BASE_PATH"})
)
def test_each_variable_is_read_by_somebody(name: str) -> None:
    assert COMPOSED.get(name, name).encode() in read_somewhere()


def test_each_flag_is_one() -> None:
    flags = set(re.findall(r"`--([a-z_]+)", PAGE))
    assert flags
    assert flags <= set(ServerOptions.__dataclass_fields__)


def test_each_path_in_the_table_can_be_read() -> None:
    paths = re.findall(r"^\| `([a-z0-9]+://[^`]+)`", PAGE, re.MULTILINE)
    assert {path.partition("://")[0] for path in paths} == set(SCHEMES) - {"file", "abfs", "http"}
    for path in paths:
        lowered = path.lower()
        assert object_path_problem(lowered) == "", path


@pytest.mark.parametrize("name", [INDEX_NAME, MANIFEST_NAME, CLAIM_PREFIX])
def test_names_of_files_are_those_of_the_code(name: str) -> None:
    assert f"`{name}" in PAGE
