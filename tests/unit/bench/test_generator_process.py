from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cluster.bench.generator_process import Destination, GeneratorProcesses
from cluster.bench.load import ClosedLoop
from cluster.bench.load_request import LoadRequest
from cluster.client.connection_options import ConnectionOptions, TLSConfig
from cluster.client.exchange import WireRequest
from cluster.client.target import parse_target
from cluster.core.errors import Internal
from tests.fakes.local_frontend import LocalFrontend, local_frontend

REQUEST = LoadRequest(WireRequest("POST", "/v1/models/half_plus_two:predict", b'{"instances": [1.0]}'), 1)


@pytest.fixture(scope="module")
def frontend() -> Iterator[LocalFrontend]:
    with local_frontend() as frontend:
        yield frontend


def destination(target: str, options: ConnectionOptions | None = None) -> Destination:
    return Destination(target=parse_target(target), options=options or ConnectionOptions(), timeout_s=10.0, channels=1)


def processes_of(pids_before: set[int | None]) -> list[int]:
    return [child.pid for child in multiprocessing.active_children() if child.pid and child.pid not in pids_before]


def pids() -> set[int | None]:
    return {child.pid for child in multiprocessing.active_children()}


def test_one_load_follows_another_in_the_same_processes(frontend: LocalFrontend) -> None:
    before = pids()
    with GeneratorProcesses(2, destination(f"http://127.0.0.1:{frontend.rest_port}"), [REQUEST]) as generators:
        begun = processes_of(before)
        for concurrency in (2, 4):
            with closing(generators.run(ClosedLoop(concurrency), warmup_s=0.05, tick_s=0.1)) as ticks:
                samples = [next(ticks) for _ in range(3)]
            assert sum(sample.succeeded for sample in samples) > 0
            assert [sample.failed for sample in samples] == [0, 0, 0]
            assert [len(sample.cpu_s) for sample in samples] == [2, 2, 2]
        assert processes_of(before) == begun
    assert processes_of(before) == []


def test_a_generator_that_dies_is_told(frontend: LocalFrontend) -> None:
    before = pids()
    with (
        GeneratorProcesses(1, destination(f"http://127.0.0.1:{frontend.rest_port}"), [REQUEST]) as generators,
        closing(generators.run(ClosedLoop(1), warmup_s=0, tick_s=0.1)) as ticks,
    ):
        next(ticks)
        (pid,) = processes_of(before)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Internal, match=r"^A load generator has ended unexpectedly, with status -9$"):
            list(ticks)


def test_a_generator_that_cannot_go_on_says_why(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none")
    options = ConnectionOptions(tls=TLSConfig(ca_file=tmp_path / "ca.pem"))
    with (
        GeneratorProcesses(1, destination("https://127.0.0.1:1", options), [REQUEST]) as generators,
        closing(generators.run(ClosedLoop(1), warmup_s=0, tick_s=0.1)) as ticks,
        pytest.raises(Internal, match=r"^A load generator has failed: SSLError: .*CERT"),
    ):
        next(ticks)
