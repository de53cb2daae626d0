"""Batches: forming them from tasks, joining the tensors of a batch, and cutting its outputs apart."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from cluster.config.batching_parameters import BatchingParameters
from servables.batching.batch import concatenate, split
from servables.batching.batch_scheduler import BatchScheduler, Task
from servables.call import Call


def tasks(count: int, floats: int, signatures: int = 1) -> list[Task]:
    values = {"x": np.ones((1, floats), np.float32)}
    return [Task(Call(number, f"signature{number % signatures}", values, ("y",)), deadline=60.0) for number in range(count)]


@pytest.mark.parametrize("signatures", [1, 4])
@pytest.mark.parametrize("count", [1, 32, 512])
def bench_form_batches(benchmark: BenchmarkFixture, count: int, signatures: int) -> None:
    waiting = tasks(count, 3, signatures)

    def form() -> int:
        scheduler: BatchScheduler[Task] = BatchScheduler(BatchingParameters(max_batch_size=32, max_enqueued_batches=100))
        for task in waiting:
            scheduler.add(task, 0.0)
        handed_out = 0
        scheduler.expire(1.0)
        while (batch := scheduler.next_batch(1.0)) is not None:
            handed_out += len(batch.slices)
        return handed_out

    assert benchmark(form) == count


@pytest.mark.parametrize("floats", [3, 784])
@pytest.mark.parametrize("count", [1, 32])
def bench_concatenate(benchmark: BenchmarkFixture, count: int, floats: int) -> None:
    inputs = [task.call.inputs for task in tasks(count, floats)]
    assert benchmark(concatenate, inputs, 32)["x"].shape == (32, floats)


def bench_split(benchmark: BenchmarkFixture) -> None:
    outputs = {"y": np.ones((32, 10), np.float32)}
    assert len(benchmark(split, outputs, [1] * 32, 32)) == 32
