"""One cache, several processes, and an S3 server that they reach through a gate."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.core.errors import Unavailable
from cluster.model_cache.fetch import FetchOptions
from cluster.model_cache.model_cache import ModelCache
from cluster.storage.s3_storage import S3Storage
from tests.fakes.remote_storage import fingerprint_in
from tests.fakes.s3_server import FaultyGate, S3Server

ROOT = Path(__file__).parents[3]
SIZES = {"large": 6 << 20, **{f"small/{number}": 1 << 14 for number in range(20)}}
SIZE_BYTES = sum(SIZES.values())


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        server.client().create_bucket(Bucket="models")
        yield server


@pytest.fixture
def gate(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyGate]:
    with FaultyGate(s3.port) as gate:
        for name, value in gate.environment.items():
            monkeypatch.setenv(name, value)
        yield gate


@pytest.fixture
def contents(s3: S3Server) -> dict[str, bytes]:
    """What lies at s3://models/m/1."""
    contents = {name: os.urandom(size_bytes) for name, size_bytes in SIZES.items()}
    client = s3.client()
    for name, content in contents.items():
        client.put_object(Bucket="models", Key=f"m/1/{name}", Body=content)
    return contents


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def process(directory: Path, fingerprint: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.fakes.model_cache_process", str(directory), "s3://models/m/1", fingerprint]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def fetched_bytes(process: subprocess.Popen[str]) -> int:
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return int(out)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_fetched(directory: Path, contents: dict[str, bytes]) -> None:
    (files,) = directory.glob("*/files")
    assert {path.relative_to(files).as_posix(): path.read_bytes() for path in files.rglob("*") if path.is_file()} == contents


def test_several_processes_fetch_once(directory: Path, gate: FaultyGate, contents: dict[str, bytes]) -> None:
    fingerprint = fingerprint_in(S3Storage(), "s3://models/m/1")
    passed = gate.passed
    processes = [process(directory, fingerprint) for _ in range(4)]
    assert sorted(fetched_bytes(each) for each in processes) == [0, 0, 0, SIZE_BYTES]
    assert gate.passed - passed < 1.5 * SIZE_BYTES
    assert_fetched(directory, contents)


def test_another_process_goes_on_where_a_killed_one_was(directory: Path, gate: FaultyGate, contents: dict[str, bytes]) -> None:
    fingerprint = fingerprint_in(S3Storage(), "s3://models/m/1")
    passed, gate.bytes_per_s = gate.passed, float(1 << 18)
    first = process(directory, fingerprint)
    wait_for(lambda: any(len(journal.read_bytes().splitlines()) > 8 for journal in directory.glob("*/journal")))
    second = process(directory, fingerprint)
    first.kill()
    first.communicate()
    gate.bytes_per_s = None
    assert 0 < fetched_bytes(second) < SIZE_BYTES
    assert gate.passed - passed < 2 * SIZE_BYTES
    assert_fetched(directory, contents)


def test_cut_connections_cost_little_more_than_what_was_under_way(
    directory: Path, gate: FaultyGate, contents: dict[str, bytes]
) -> None:
    fingerprint = fingerprint_in(S3Storage(), "s3://models/m/1")
    passed, gate.cut_after = gate.passed, 300_000
    cache = ModelCache(directory, S3Storage(), options=FetchOptions(part_bytes=1 << 20))
    cache.acquire("s3://models/m/1", fingerprint, lambda progress: None)
    assert gate.passed - passed < 1.5 * SIZE_BYTES
    assert_fetched(directory, contents)


@pytest.mark.parametrize("fault", ["shut", "throttled"])
def test_a_store_that_comes_back_in_time_is_waited_for(
    directory: Path, gate: FaultyGate, contents: dict[str, bytes], fault: str
) -> None:
    fingerprint = fingerprint_in(S3Storage(), "s3://models/m/1")
    if fault == "shut":
        gate.shut()
    else:
        gate.status = 503
    told: list[str] = []

    def heal(trouble: str) -> None:
        if trouble:
            told.append(trouble)
            gate.open()
            gate.status = None

    cache = ModelCache(directory, S3Storage())
    cache.acquire("s3://models/m/1", fingerprint, lambda progress: heal(progress.trouble))
    assert "s3://models" in told[0]
    assert_fetched(directory, contents)


def test_a_store_that_stays_away_is_an_error_that_says_so(
    directory: Path, gate: FaultyGate, contents: dict[str, bytes]
) -> None:
    fingerprint = fingerprint_in(S3Storage(), "s3://models/m/1")
    gate.shut()
    cache = ModelCache(directory, S3Storage(), options=FetchOptions(patience_s=0.5))
    with pytest.raises(Unavailable, match=r"s3://models/m/1.* cannot be reached"):
        cache.acquire("s3://models/m/1", fingerprint, lambda progress: None)
