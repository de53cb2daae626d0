"""Everything between a version's directory and its first request: loading, the runner, warm-up."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import NamedTuple

from cluster.config.batching_parameters import BatchingParameters
from cluster.config.batching_parameters_file import parse_batching_parameters
from cluster.core import metric_catalog as catalog
from cluster.core.errors import AspiredError, InvalidArgument
from cluster.core.metrics import MetricCells
from servables.platforms import platform
from servables.run_metrics import MeasuredServable
from servables.runner import Runner
from servables.servable import PlatformOptions, Servable
from servables.stage_metrics import StageMetrics
from servables.warmup.warmup import WarmupOptions, warm_up

BATCHING_PARAMETERS_FILE = "batching_params.pbtxt"
"""Where a version keeps its own batching parameters (TF Serving: `servables/tensorflow/bundle_factory_util.cc`)."""

_MICROS = 1e6


class LoadedVersion(NamedTuple):
    """A version that may become available, and what runs its requests."""

    servable: Servable
    runner: Runner


async def load_version(
    platform_name: str,
    path: str,
    options: PlatformOptions,
    batching: BatchingParameters | None,
    direct_threads: int,
    warmup: WarmupOptions,
    cells: MetricCells,
    *,
    per_version_batching: bool = False,
    model_name: str = "",
    directory: str | None = None,
) -> LoadedVersion:
    """Loads a version and warms it up. Raises what either of them raises, and then leaves nothing behind.

    `batching` None runs requests one by one, up to `direct_threads` at once; with `per_version_batching` so does a version that
    brings no parameters of its own. `model_name` is what stages are counted under in `cells`. `directory` is where the files
    are when that is not `path`, which the version goes by in any case.
    """
    directory = path if directory is None else directory
    if batching is not None and per_version_batching:
        batching = version_batching(directory, batching)
    servable = MeasuredServable(await _load(platform_name, path, directory, options, cells), cells)
    runner = _runner(servable, batching, direct_threads, cells, model_name)
    try:
        await _warm_up(path, directory, servable, runner, warmup, batching, cells)
    except BaseException:
        await runner.close()
        servable.close()
        raise
    return LoadedVersion(servable, runner)


def version_batching(path: str, server_wide: BatchingParameters) -> BatchingParameters | None:
    """The version's own parameters; None, no batching, when it brings none.

    All replicas of a process share the threads in TF Serving, so these stay as they are for the whole server. Raises
    InvalidArgument for a file that cannot be used: then the version cannot be loaded.
    """
    file = Path(path, BATCHING_PARAMETERS_FILE)
    try:
        parameters = parse_batching_parameters(file.read_text(encoding="utf-8"), str(file))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{file} cannot be read: {error}") from error
    return parameters.model_copy(
        update={"num_batch_threads": server_wide.num_batch_threads, "thread_pool_name": server_wide.thread_pool_name}
    )


async def _load(platform_name: str, path: str, directory: str, options: PlatformOptions, cells: MetricCells) -> Servable:
    began = time.perf_counter()
    try:
        servable = await asyncio.to_thread(platform(platform_name).load, directory, options)
    except BaseException:
        cells.counter(catalog.LOAD_ATTEMPT_COUNT, path, "fail").add()
        raise
    cells.counter(catalog.LOAD_ATTEMPT_COUNT, path, "success").add()
    cells.counter(catalog.LOAD_LATENCY, path).add(round((time.perf_counter() - began) * _MICROS))
    return servable


async def _warm_up(
    path: str,
    directory: str,
    servable: Servable,
    runner: Runner,
    options: WarmupOptions,
    batching: BatchingParameters | None,
    cells: MetricCells,
) -> None:
    began = time.perf_counter()
    try:
        report = await warm_up(directory, servable, runner, options, batching.allowed_batch_sizes if batching else ())
    except AspiredError as error:
        micros = round((time.perf_counter() - began) * _MICROS)
        cells.histogram(catalog.MODEL_WARMUP_LATENCY, path, error.code.name).observe(micros)
        raise
    if report.runs:
        cells.histogram(catalog.MODEL_WARMUP_LATENCY, path, "OK").observe(round(report.duration_s * _MICROS))
        cells.counter(catalog.MODEL_WARMUP_RECORDS_READ, path, "OK").add(report.records)


def _runner(
    servable: Servable, batching: BatchingParameters | None, direct_threads: int, cells: MetricCells, model_name: str
) -> Runner:
    if batching is not None:
        from servables.batching.batcher import Batcher

        return Batcher(servable, batching, cells, model_name)
    from servables.direct_runner import DirectRunner

    return DirectRunner(servable, direct_threads, model_name, StageMetrics(cells))
