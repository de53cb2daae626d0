from __future__ import annotations

import asyncio

import numpy as np
import pytest

from cluster.config.batching_parameters import BatchingParameters
from cluster.core import metric_catalog as catalog
from cluster.core.errors import InvalidArgument
from cluster.core.metrics import CellKey, MetricCells
from servables.batching.batcher import Batcher
from servables.call import Call, Reply
from servables.run_metrics import MeasuredServable
from servables.servable import Servable
from tests.fakes.fake_servable import FakeServable

ONE = {"x": np.ones(1, np.float32)}


def test_a_measured_servable_hides_nothing_of_the_one_in_it() -> None:
    """What it did not pass on would be answered by the base class, and nobody would notice."""
    passed_on = {name for name in vars(Servable) if not name.startswith("_")}
    assert passed_on <= vars(MeasuredServable).keys()
    assert "profile" in passed_on


def test_runs_are_counted_whatever_becomes_of_them() -> None:
    cells = MetricCells()
    servable = MeasuredServable(FakeServable(), cells)
    servable.run("serving_default", ONE, ["y"], None)
    broken = MeasuredServable(FakeServable(fails=lambda _: InvalidArgument("no")), cells)
    with pytest.raises(InvalidArgument):
        broken.run("serving_default", ONE, ["y"], None)
    changes = cells.changes()
    assert changes[CellKey(catalog.GRAPH_RUNS.name)] == changes[CellKey(catalog.DIRECT_SESSION_RUNS.name)] == (2,)
    assert CellKey(catalog.GRAPH_RUN_TIME_USECS.name) in changes


async def test_batches_are_counted() -> None:
    cells = MetricCells()
    parameters = BatchingParameters(max_batch_size=8, allowed_batch_sizes=(4, 8), num_batch_threads=1, thread_pool_name="pool")
    batcher = Batcher(FakeServable(), parameters, cells)
    answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    batcher.submit(Call(1, "serving_default", {"x": np.ones(3, np.float32)}, ("y",)), answered.set_result)
    assert (await answered).status.ok
    await batcher.close()
    sums = {
        catalog.INPUT_BATCH_SIZE.name: (),
        catalog.PROCESSED_BATCH_SIZE.name: (),
        catalog.PADDING_SIZE.name: ("4",),
        catalog.WRAPPED_RUN_COUNT.name: (),
    }
    changes = cells.changes()
    assert {name: changes[CellKey(name, labels)][0] for name, labels in sums.items()} == {
        catalog.INPUT_BATCH_SIZE.name: 3,
        catalog.PROCESSED_BATCH_SIZE.name: 4,
        catalog.PADDING_SIZE.name: 1,
        catalog.WRAPPED_RUN_COUNT.name: 1,
    }
    assert sum(changes[CellKey(catalog.QUEUING_LATENCY.name, ("pool",))][1:]) == 1
