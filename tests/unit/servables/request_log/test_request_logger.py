"""The logs of a frontend's models, with a sink in memory: the thread is real, time and chance are the test's."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from cluster.core import metric_catalog as catalog
from cluster.core.errors import Code
from cluster.core.metrics import MetricCells
from cluster.core.request_logging import RequestLogging
from cluster.core.servable_id import ServableId
from cluster.protos import PredictionLog, PredictLog, PredictRequest
from servables.request_log.record_queue import QueueLimits
from servables.request_log.request_logger import RETRY_INTERVAL_S, RequestLogger, RequestLogLimits
from servables.tf_record import FRAMING_BYTES
from tests.fakes.fake_record_sink import FakeRecordSink
from tests.fakes.manual_clock import ManualClock

M = ServableId("m", 3)
NOW_S = 1_000_000.0
PATIENCE_S = 30.0


class World:
    def __init__(self, limits: RequestLogLimits | None = None) -> None:
        self.sinks: dict[str, FakeRecordSink] = {"/logs/m": FakeRecordSink()}
        self.clock = ManualClock(NOW_S)
        self.chances: list[float] = []
        self.cells = MetricCells()
        self.logger = RequestLogger("f1", limits, self.cells, make_sink=self._sink, chance=self._chance, clock=self.clock)

    def _sink(self, prefix: str) -> FakeRecordSink:
        return self.sinks.setdefault(prefix, FakeRecordSink())

    def _chance(self) -> float:
        return self.chances.pop(0) if self.chances else 0.0

    def count(self, code: Code, model: str = "m") -> float:
        """How many of the model's sampled requests this became of."""
        return self.cells.counter(catalog.REQUEST_LOG_COUNT, model, code.name).total

    @property
    def sink(self) -> FakeRecordSink:
        return self.sinks["/logs/m"]

    def offer(self, name: str = "request", size_bytes: int = 1, servable: ServableId = M) -> None:
        self.logger.logs[servable.name].offer(servable, "serving_default", lambda: log_of(name), size_bytes)

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.001)


def log_of(name: str) -> Any:
    request = PredictRequest()
    request.model_spec.name = name
    return PredictionLog(predict_log=PredictLog(request=request))


def logs_in(records: list[bytes]) -> list[Any]:
    return [PredictionLog.FromString(record[12 : 12 + len(record) - FRAMING_BYTES]) for record in records]


def names_in(records: list[bytes]) -> list[str]:
    return [log.predict_log.request.model_spec.name for log in logs_in(records)]


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    world.logger.configure({"m": RequestLogging("/logs/m", 1.0)})
    yield world
    world.sink.gate.set()
    await world.logger.close()


async def test_a_record_says_which_version_answered_when_and_at_what_rate_it_was_sampled(world: World) -> None:
    world.logger.configure({"m": RequestLogging("/logs/m", 0.5)})
    world.offer()
    await world.logger.close()
    (records,) = world.sink.completed
    (log,) = logs_in(records)
    metadata = log.log_metadata
    assert (metadata.model_spec.name, metadata.model_spec.version.value) == ("m", 3)
    assert metadata.model_spec.signature_name == "serving_default"
    assert metadata.sampling_config.sampling_rate == 0.5
    assert metadata.timestamp_secs == NOW_S
    assert log.predict_log.request.model_spec.name == "request"
    assert [world.count(code) for code in (Code.OK, Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE)] == [1, 0, 0]


async def test_only_what_is_sampled_is_written(world: World) -> None:
    world.logger.configure({"m": RequestLogging("/logs/m", 0.5)})
    world.chances = [0.4, 0.5, 0.1]
    for name in "abc":
        world.offer(name)
    await world.logger.close()
    assert names_in(world.sink.completed[0]) == ["a", "c"]


async def test_a_model_without_logging_has_no_log_and_no_thread_is_started() -> None:
    world = World()
    threads = threading.active_count()
    world.logger.configure({})
    assert world.logger.logs.get("m") is None
    assert threading.active_count() == threads
    await world.logger.close()


async def test_models_of_one_prefix_share_its_files(world: World) -> None:
    world.logger.configure({name: RequestLogging("/logs/m", 1.0) for name in ("m", "n")})
    world.offer("a")
    world.offer("b", servable=ServableId("n", 1))
    await world.logger.close()
    assert names_in(world.sink.completed[0]) == ["a", "b"]


async def test_a_model_that_is_no_longer_logged_has_its_file_completed(world: World) -> None:
    logs = world.logger.logs
    world.offer()
    world.logger.configure({})
    await world.wait_for(lambda: len(world.sink.completed) == 1)
    assert logs == {}


async def test_counts_go_on_when_a_model_is_logged_again(world: World) -> None:
    world.offer()
    world.logger.configure({})
    world.logger.configure({"m": RequestLogging("/logs/m", 1.0)})
    world.offer()
    await world.logger.close()
    assert world.count(Code.OK) == 2


async def test_another_config_changes_where_requests_are_logged(world: World) -> None:
    world.offer("a")
    world.logger.configure({"m": RequestLogging("/elsewhere/m", 1.0)})
    world.offer("b")
    await world.logger.close()
    assert names_in(world.sink.completed[0]) == ["a"]
    assert names_in(world.sinks["/elsewhere/m"].completed[0]) == ["b"]


async def test_what_has_no_room_is_dropped_and_counted_and_nobody_waits() -> None:
    world = World(RequestLogLimits(queue=QueueLimits(max_items=2)))
    world.logger.configure({"m": RequestLogging("/logs/m", 1.0)})
    world.sink.gate.clear()
    world.offer("a")
    assert await asyncio.to_thread(world.sink.writing.wait, PATIENCE_S)
    for name in "bcde":
        world.offer(name)
    assert world.count(Code.RESOURCE_EXHAUSTED) == 2
    world.sink.gate.set()
    await world.logger.close()
    assert names_in(world.sink.completed[0]) == ["a", "b", "c"]
    assert world.count(Code.OK) == 3


async def test_a_full_disk_is_told_once_left_alone_for_a_while_and_tried_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.sink.full = True
    for _ in range(3):
        world.offer()
    await world.wait_for(lambda: world.count(Code.UNAVAILABLE) == 3)
    assert world.sink.refusals == 1
    world.clock.advance(RETRY_INTERVAL_S)
    world.offer()
    await world.wait_for(lambda: world.count(Code.UNAVAILABLE) == 4)
    assert world.sink.refusals == 2
    world.sink.full = False
    world.clock.advance(RETRY_INTERVAL_S)
    world.offer("kept")
    await world.wait_for(lambda: world.count(Code.OK) == 1)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, "request log /logs/m: No space left on device; requests go on and are not logged"),
        (logging.WARNING, "request log /logs/m: written again"),
    ]


async def test_a_full_disk_holds_up_no_other_prefix(world: World) -> None:
    world.logger.configure({"m": RequestLogging("/logs/m", 1.0), "n": RequestLogging("/logs/n", 1.0)})
    world.sink.full = True
    world.offer("a")
    world.offer("b", servable=ServableId("n", 1))
    await world.logger.close()
    assert names_in(world.sinks["/logs/n"].completed[0]) == ["b"]


async def test_a_file_that_is_due_is_completed_though_nothing_more_comes(world: World) -> None:
    world.sink.due = NOW_S - 1
    world.offer()
    await world.wait_for(lambda: len(world.sink.completed) == 1)


async def test_a_message_that_cannot_be_made_costs_only_itself(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.logger.logs["m"].offer(M, "serving_default", lambda: 1 / 0, 1)
    world.offer("b")
    await world.logger.close()
    assert names_in(world.sink.completed[0]) == ["b"]
    assert world.count(Code.UNAVAILABLE) == 1
    assert "cannot be logged" in caplog.text


async def test_what_comes_after_the_end_is_dropped(world: World) -> None:
    await world.logger.close()
    world.offer()
    assert world.count(Code.RESOURCE_EXHAUSTED) == 1
    assert world.sink.completed == []
