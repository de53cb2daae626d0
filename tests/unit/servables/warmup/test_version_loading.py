"""A version is loaded and warmed up as one, with real models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.config.batching_parameters import BatchingParameters
from cluster.core import metric_catalog as catalog
from cluster.core.errors import AspiredError, Code, InvalidArgument, NotFound
from cluster.core.metrics import CellKey, MetricCells
from cluster.protos import PredictionLog
from scripts.sample_models import export_half_plus_two, export_hashmap
from servables.call import Call
from servables.deployment.version_loading import BATCHING_PARAMETERS_FILE, load_version, version_batching
from servables.proto_codec import array_to_tensor
from servables.servable import Array, PlatformOptions
from servables.tensors import DataType, string_array
from servables.tf_record import encode_record
from servables.warmup.warmup import WarmupOptions
from servables.warmup.warmup_records import REQUESTS_FILE

NO_BATCHING = None


def record(alias: str, array: Array, dtype: DataType) -> bytes:
    log = PredictionLog()
    log.predict_log.request.inputs[alias].CopyFrom(array_to_tensor(array, dtype, as_content=True))
    return encode_record(log.SerializeToString())


def write_records(version: Path, *records: bytes) -> None:
    path = version / REQUESTS_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(records))


async def loaded_and_closed(platform: str, version: Path, batching: BatchingParameters | None, warmup: WarmupOptions) -> Any:
    servable, runner = await load_version(platform, str(version), PlatformOptions(), batching, 2, warmup, MetricCells())
    await runner.close()
    servable.close()
    return servable


async def test_any_platform_is_warmed_up(tmp_path: Path) -> None:
    version = export_hashmap(tmp_path, 1, {"a": "1"})
    write_records(version, record("keys", string_array([b"a"]), DataType.DT_STRING))
    await loaded_and_closed("hashmap", version, NO_BATCHING, WarmupOptions())
    write_records(version, record("keys", string_array([b"b"]), DataType.DT_STRING))
    with pytest.raises(NotFound, match=r"^No value for key: b \(warm-up record 1 of "):
        await loaded_and_closed("hashmap", version, NO_BATCHING, WarmupOptions())


async def test_a_warm_saved_model_has_the_ways_through_its_graph_that_requests_will_take(tmp_path: Path) -> None:
    version = export_half_plus_two(tmp_path, 1)
    write_records(version, record("x", np.ones((2, 1), np.float32), DataType.DT_FLOAT))
    warmup = WarmupOptions(timeouts_s=(30.0,))
    servable, runner = await load_version(
        "tensorflow", str(version), PlatformOptions(), BatchingParameters(), 2, warmup, MetricCells()
    )
    ways = len(servable._servable._callables)  # type: ignore[attr-defined]
    assert ways == 2
    for timeout_s in (None, 29.0):
        servable.run("serving_default", {"x": np.ones((5, 1), np.float32)}, ["y"], timeout_s)
    assert len(servable._servable._callables) == ways  # type: ignore[attr-defined]
    await runner.close()
    servable.close()


async def test_every_batch_size_of_a_saved_model_runs(tmp_path: Path) -> None:
    version = export_half_plus_two(tmp_path, 1)
    batching = BatchingParameters(max_batch_size=4, allowed_batch_sizes=(1, 4))
    await loaded_and_closed("tensorflow", version, batching, WarmupOptions(all_batch_sizes=True))


async def test_a_version_that_fails_to_warm_up_leaves_no_threads(tmp_path: Path) -> None:
    import threading

    version = export_hashmap(tmp_path, 1, {"a": "1"})
    write_records(version, b"damaged")
    before = {thread for thread in threading.enumerate() if "direct_runner" in thread.name}
    with pytest.raises(AspiredError):
        await loaded_and_closed("hashmap", version, NO_BATCHING, WarmupOptions())
    assert {thread for thread in threading.enumerate() if "direct_runner" in thread.name} == before


async def test_loads_and_warm_ups_are_counted_by_path_and_outcome(tmp_path: Path) -> None:
    cells = MetricCells()
    version = export_hashmap(tmp_path, 1, {"a": "1"})
    path = str(version)

    async def load(key: bytes) -> None:
        write_records(version, record("keys", string_array([key]), DataType.DT_STRING))
        servable, runner = await load_version("hashmap", path, PlatformOptions(), NO_BATCHING, 2, WarmupOptions(), cells)
        await runner.close()
        servable.close()

    await load(b"a")
    with pytest.raises(NotFound):
        await load(b"b")
    (version / "hashmap.csv").unlink()
    with pytest.raises(NotFound):
        await load(b"a")
    changes = cells.changes()
    warmups = catalog.MODEL_WARMUP_LATENCY.name
    assert {key.labels: sum(value[1:]) for key, value in changes.items() if key.metric == warmups} == {
        (path, "OK"): 1,
        (path, "NOT_FOUND"): 1,
    }
    assert changes[CellKey(catalog.MODEL_WARMUP_RECORDS_READ.name, (path, "OK"))] == (1,)
    assert changes[CellKey(catalog.LOAD_ATTEMPT_COUNT.name, (path, "success"))] == (2,)
    assert changes[CellKey(catalog.LOAD_ATTEMPT_COUNT.name, (path, "fail"))] == (1,)
    assert CellKey(catalog.LOAD_LATENCY.name, (path,)) in changes


async def test_requests_run_after_warm_up(tmp_path: Path) -> None:
    import asyncio

    version = export_hashmap(tmp_path, 1, {"a": "1"})
    servable, runner = await load_version(
        "hashmap", str(version), PlatformOptions(), NO_BATCHING, 2, WarmupOptions(), MetricCells()
    )
    answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    runner.submit(Call(1, "serving_default", {"keys": string_array([b"a"])}, ("values",)), answered.set_result)
    assert (await answered).outputs["values"].tolist() == [b"1"]
    await runner.close()
    servable.close()


SERVER_WIDE = BatchingParameters(max_batch_size=64, num_batch_threads=3, thread_pool_name="shared")


def test_a_version_without_parameters_of_its_own_is_not_batched(tmp_path: Path) -> None:
    assert version_batching(str(tmp_path), SERVER_WIDE) is None


def test_a_versions_parameters_are_its_own_but_for_the_threads(tmp_path: Path) -> None:
    (tmp_path / BATCHING_PARAMETERS_FILE).write_text(
        "max_batch_size { value: 8 } num_batch_threads { value: 99 } thread_pool_name { value: 'mine' }"
    )
    assert version_batching(str(tmp_path), SERVER_WIDE) == BatchingParameters(
        max_batch_size=8, num_batch_threads=3, thread_pool_name="shared"
    )


def test_parameters_that_cannot_be_used_fail_the_load(tmp_path: Path) -> None:
    file = tmp_path / BATCHING_PARAMETERS_FILE
    file.write_text("max_batch_size { value: 8 } allowed_batch_sizes: 4")
    with pytest.raises(AspiredError) as failure:
        version_batching(str(tmp_path), SERVER_WIDE)
    assert failure.value.code is Code.INVALID_ARGUMENT
    assert failure.value.message == (
        f"Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8 (in {file})"
    )
    file.write_bytes(b"\xff")
    with pytest.raises(InvalidArgument, match=f"^{file} cannot be read: "):
        version_batching(str(tmp_path), SERVER_WIDE)
