from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.exports import write_export
from tests.fakes.s3_server import S3Server
from tests.fakes.status_server import StatusServer, status_server

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@dataclass
class Place:
    """A base path, and what is needed to look at it and to change it by other means."""

    base_path: str
    client: Any = None  # of S3
    bucket: str = ""

    @property
    def local(self) -> bool:
        return self.client is None

    def names(self) -> set[str]:
        """Every file under the base path, hidden ones too."""
        if self.local:
            base = Path(self.base_path)
            return {path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file()}
        listed = self.client.list_objects_v2(Bucket=self.bucket, Prefix="models/m/").get("Contents", ())
        return {entry["Key"].removeprefix("models/m/") for entry in listed}

    def put(self, name: str, content: bytes) -> None:
        if self.local:
            path = Path(self.base_path, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        else:
            self.client.put_object(Bucket=self.bucket, Key=f"models/m/{name}", Body=content)

    def delete(self, name: str) -> None:
        if self.local:
            Path(self.base_path, name).unlink()
        else:
            self.client.delete_object(Bucket=self.bucket, Key=f"models/m/{name}")


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
