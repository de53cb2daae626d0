"""A model in a bucket, behind a gate that can be shut, slowed and made to fail; clients notice nothing of it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.aspired_server import AspiredServer, Load, pid_of, wait_until
from tests.fakes.s3_server import FaultyGate, S3Server, upload_directory

pytestmark = pytest.mark.timeout(300)

BASE_PATH = "s3://models/half_plus_two"
REPLICA = "ServeReplica:default.half_plus_two."


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        server.client().create_bucket(Bucket="models")
        yield server


@pytest.fixture(scope="module")
def gate(s3: S3Server) -> Iterator[FaultyGate]:
    with FaultyGate(s3.port) as gate:
        yield gate


@pytest.fixture(autouse=True)
def faults_end_with_their_test(gate: FaultyGate) -> Iterator[None]:
    yield
    gate.bytes_per_s, gate.status, gate.stalled = None, None, False
    gate.open()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("node") / "models"


@pytest.fixture(scope="module")
def server(exports: Path, state: Path, s3: S3Server, gate: FaultyGate, cache: Path) -> Iterator[AspiredServer]:
    """A server that has nothing but a bucket and flags; the way to the bucket is slow while it starts."""
    upload(s3, exports, 1)
    gate.bytes_per_s = 4000.0
    with pytest.MonkeyPatch.context() as patch:
        for name, value in gate.environment.items():
            patch.setenv(name, value)
        server = AspiredServer(
            state,
            "--model_name=half_plus_two",
            f"--model_base_path={BASE_PATH}",
            f"--model_cache_dir={cache}",
            "--max_num_load_retries=0",
        )
        try:
            server.wait_ready()
            gate.bytes_per_s = None
            yield server
        finally:
            server.stop()


def upload(s3: S3Server, exports: Path, version: int) -> None:
    for _ in upload_directory(s3.client(), exports / str(version), "models", f"half_plus_two/{version}"):
        pass


def source_error(server: AspiredServer) -> str:
    (model,) = server.status()["models"]
    return str(model["source_error"])


def version_status(server: AspiredServer, version: int) -> dict[str, Any]:
    (model,) = server.status()["models"]
    return next((dict(row) for row in model["versions"] if row["version"] == version), {})


def fetched_parts(cache: Path) -> int:
    """How many parts the fetch under way has written."""
    return sum(len(journal.read_bytes().splitlines()) - 1 for journal in cache.glob("*/journal"))


def fetching_process(cache: Path) -> int:
    """The process that notes what it has fetched; Ray gives a replica its name when it has been made."""
    (journal,) = cache.glob("*/journal")
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if descriptor.readlink() == journal:
                return int(descriptor.parts[2])
    raise AssertionError(f"no process has {journal} open")


def test_the_start_says_what_is_fetched(server: AspiredServer) -> None:
    assert "model half_plus_two version 1: fetching " in server.output
    assert server.predict("half_plus_two", [2.0]) == (200, {"predictions": [2.0]})


def test_a_version_slowly_uploaded_under_load_is_served_once_it_is_whole(
    server: AspiredServer, s3: S3Server, gate: FaultyGate, exports: Path
) -> None:
    with Load().running(server, 4, 4) as load:
        load.wait_for_answers(1.0)
        for _ in upload_directory(s3.client(), exports / "2", "models", "half_plus_two/2"):
            looked = gate.requests + 4
            wait_until(lambda looked=looked: gate.requests >= looked, what="polls of the half of it")
        server.wait_state("half_plus_two", 2, "AVAILABLE")
        load.wait_for_answers(2.0)
    assert load.failures == []
    assert set(load.answers) == {1.0, 2.0}
    assert version_status(server, 2)["attempts"] == 1


@pytest.mark.parametrize(("fault", "version"), [("shut", 3), ("500", 4), ("stalled", 5)])
def test_a_store_that_fails_costs_no_request_and_a_killed_replica_comes_back_without_it(
    server: AspiredServer, s3: S3Server, gate: FaultyGate, exports: Path, fault: str, version: int
) -> None:
    before = version - 1.0
    with Load().running(server, 2, 2) as load:
        load.wait_for_answers(before)
        if fault == "shut":
            gate.shut()
        elif fault == "500":
            gate.status = 500
        else:
            gate.stalled = True
        wait_until(lambda: "s3://models" in source_error(server), 90, "an error of the source")
        load.wait_for_answers(before)
    assert load.failures == []

    with Load().running(server, 2, 2) as load:
        os.kill(pid_of(f"{REPLICA}{version - 1}"), signal.SIGKILL)
        load.wait_for_answers(before, count=200)
        gate.open()
        gate.status, gate.stalled = None, False
        upload(s3, exports, version)
        server.wait_state("half_plus_two", version, "AVAILABLE", 90)
        load.wait_for_answers(float(version))
        assert source_error(server) == ""
    # What ran at the moment of the kill is run again elsewhere; at most it may fail, once a client.
    assert len(load.failures) <= 4


def test_a_replica_killed_while_it_fetches_goes_on_where_it_was(
    server: AspiredServer, s3: S3Server, gate: FaultyGate, exports: Path, cache: Path
) -> None:
    ballast = exports / "6" / "assets.extra" / "ballast"
    ballast.mkdir()
    for number in range(40):
        (ballast / str(number)).write_bytes(os.urandom(1 << 20))
    size_bytes = sum(path.stat().st_size for path in (exports / "6").rglob("*") if path.is_file())
    with Load().running(server, 2, 0) as load:
        passed, gate.bytes_per_s = gate.passed, float(1 << 17)
        upload(s3, exports, 6)
        wait_until(lambda: fetched_parts(cache) > 0, what="the first parts")
        fetch = version_status(server, 6)["fetch"]
        assert fetch["bytes_total"] == size_bytes
        wait_until(lambda: fetched_parts(cache) >= 16, what="some parts")
        os.kill(fetching_process(cache), signal.SIGKILL)
        gate.bytes_per_s = None
        server.wait_state("half_plus_two", 6, "AVAILABLE")
        load.wait_for_answers(6.0)
    assert load.failures == []
    assert gate.passed - passed < 1.7 * size_bytes
    assert version_status(server, 6)["fetch"] is None
