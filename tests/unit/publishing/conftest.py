from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.base_path import Place
from tests.fakes.exports import write_export
from tests.fakes.s3_server import S3Server
from tests.fakes.status_server import StatusServer, status_server

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def local_place(tmp_path: Path) -> Place:
    return Place(str(tmp_path / "models" / "m"))


@pytest.fixture
def s3_place(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Place:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    bucket = f"published-{next(_NUMBERS)}"
    client = s3_server.client()
    client.create_bucket(Bucket=bucket)
    return Place(f"s3://{bucket}/models/m", client, bucket)


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(f"{request.param}_place")
    return found


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return write_export(tmp_path / "export", assets=2)


@pytest.fixture
def model_server() -> Iterator[StatusServer]:
    with status_server() as server:
        yield server
