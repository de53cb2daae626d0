"""Stages of sampled requests, as a replica's runners count them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from cluster.config.batching_parameters import BatchingParameters
from cluster.core import metric_catalog as catalog
from cluster.core.metrics import CellKey, MetricCells
from servables.batching.batcher import Batcher
from servables.call import Call, Reply
from servables.direct_runner import DirectRunner
from servables.runner import Runner
from servables.stage_metrics import REPLICA_QUEUE, REPLICA_RUN, SAMPLED_EVERY, StageMetrics
from tests.fakes.fake_servable import FakeServable


def observed(cells: MetricCells, stage: str) -> float:
    values = cells.changes()
    cells.forget_reports()
    return sum(values[CellKey(catalog.STAGE_LATENCY.name, ("m", stage))][1:])


def test_the_first_of_every_so_many_requests_is_sampled() -> None:
    stages = StageMetrics(MetricCells())

    sampled = [stages.sampled() for _ in range(2 * SAMPLED_EVERY + 1)]

    assert [number for number, yes in enumerate(sampled) if yes] == [0, SAMPLED_EVERY, 2 * SAMPLED_EVERY]


def test_a_stage_is_counted_in_microseconds() -> None:
    cells = MetricCells()
    StageMetrics(cells).took("m", REPLICA_RUN, 0.0025)

    assert cells.changes()[CellKey(catalog.STAGE_LATENCY.name, ("m", REPLICA_RUN))][0] == 2500


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda cells: DirectRunner(FakeServable(), 2, "m", StageMetrics(cells)), id="one by one"),
        pytest.param(lambda cells: Batcher(FakeServable(), BatchingParameters(), cells, "m"), id="in batches"),
    ],
)
async def test_runners_count_waiting_and_running_of_sampled_calls(make: Callable[[MetricCells], Runner]) -> None:
    cells = MetricCells()
    runner = make(cells)
    for number in range(SAMPLED_EVERY + 1):
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        runner.submit(Call(number, "serving_default", {"x": np.ones(1, np.float32)}, ("y",)), answered.set_result)
        assert (await answered).status.ok
    await runner.close()

    assert observed(cells, REPLICA_QUEUE) == 2
    assert observed(cells, REPLICA_RUN) == 2
