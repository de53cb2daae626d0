"""Warm-up: which requests are run, through what, and what becomes of those that fail."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.config.batching_parameters import BatchingParameters
from cluster.core.errors import AspiredError, Code, DataLoss, InvalidArgument
from cluster.protos import Example, PredictionLog
from servables.batching.batcher import Batcher
from servables.direct_runner import DirectRunner
from servables.proto_codec import array_to_tensor
from servables.servable import Array
from servables.signatures import CLASSIFY_METHOD_NAME, PREDICT_METHOD_NAME, REGRESS_METHOD_NAME, Signature, TensorInfo
from servables.tensors import DataType
from servables.tf_record import encode_record
from servables.warmup.warmup import WarmupOptions, WarmupReport, warm_up
from servables.warmup.warmup_records import REQUESTS_FILE
from tests.fakes.fake_servable import FakeServable


def info(dtype: DataType, *shape: int) -> TensorInfo:
    return TensorInfo("t:0", dtype, shape)


SIGNATURES = {
    "serving_default": Signature(
        PREDICT_METHOD_NAME, {"x": info(DataType.DT_FLOAT, -1, 2)}, {"y": info(DataType.DT_FLOAT, -1, 2)}
    ),
    "classify": Signature(
        CLASSIFY_METHOD_NAME, {"inputs": info(DataType.DT_STRING, -1)}, {"scores": info(DataType.DT_FLOAT, -1, 1)}
    ),
    "regress": Signature(
        REGRESS_METHOD_NAME, {"inputs": info(DataType.DT_STRING, -1)}, {"outputs": info(DataType.DT_FLOAT, -1)}
    ),
}
Ran = list[tuple[str, int]]


class Servable(FakeServable):
    """Notes each run: signature and rows."""

    def __init__(self, **options: Any) -> None:
        super().__init__(self._compute, signatures=SIGNATURES, **options)
        self.ran: Ran = []

    def run(
        self, signature_name: str, inputs: Mapping[str, Array], outputs: Sequence[str], timeout_s: float | None
    ) -> dict[str, Array]:
        self.ran.append((signature_name, len(next(iter(inputs.values())))))
        return super().run(signature_name, inputs, outputs, timeout_s)

    @staticmethod
    def _compute(inputs: Mapping[str, Array]) -> dict[str, Array]:
        rows = len(next(iter(inputs.values())))
        return {
            "y": np.zeros((rows, 2), np.float32),
            "scores": np.zeros((rows, 1), np.float32),
            "outputs": np.zeros(rows, np.float32),
        }


def predict_log(rows: int = 1, signature_name: str = "", alias: str = "x") -> Any:
    log = PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = "another model"
    request.model_spec.version.value = 99
    request.model_spec.signature_name = signature_name
    request.inputs[alias].CopyFrom(array_to_tensor(np.ones((rows, 2), np.float32), DataType.DT_FLOAT, as_content=False))
    return log


def examples_log(kind: str, signature_name: str, examples: int = 1) -> Any:
    log = PredictionLog()
    request = getattr(log, kind).request
    request.model_spec.signature_name = signature_name
    request.input.example_list.examples.extend([Example()] * examples)
    return log


def multi_inference_log(*tasks: tuple[str, str]) -> Any:
    log = PredictionLog()
    request = log.multi_inference_log.request
    for signature_name, method_name in tasks:
        request.tasks.add(method_name=method_name).model_spec.signature_name = signature_name
    request.input.example_list.examples.add()
    return log


def written(version: Path, *logs: Any) -> str:
    return written_bytes(version, b"".join(encode_record(log.SerializeToString()) for log in logs))


def written_bytes(version: Path, content: bytes) -> str:
    path = version / REQUESTS_FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return str(version)


async def warmed(path: str, servable: FakeServable, **options: Any) -> WarmupReport:
    runner = DirectRunner(servable, 1)
    try:
        return await warm_up(path, servable, runner, WarmupOptions(**options))
    finally:
        await runner.close()


async def test_a_version_without_records_is_not_run(tmp_path: Path) -> None:
    servable = Servable()
    report = await warmed(str(tmp_path), servable)
    assert (report.records, report.runs, servable.ran) == (0, 0, [])


async def test_runs_each_kind_of_record_in_its_order(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        predict_log(rows=3),
        examples_log("classify_log", "classify", 2),
        examples_log("regress_log", "regress"),
        multi_inference_log(("regress", REGRESS_METHOD_NAME), ("classify", CLASSIFY_METHOD_NAME)),
        predict_log(),
    )
    servable = Servable()
    report = await warmed(path, servable)
    assert servable.ran == [
        ("serving_default", 3),
        ("classify", 2),
        ("regress", 1),
        ("regress", 1),
        ("classify", 1),
        ("serving_default", 1),
    ]
    assert (report.records, report.runs) == (5, 6)


async def test_runs_each_request_as_often_as_is_asked_for(tmp_path: Path) -> None:
    servable = Servable()
    await warmed(written(tmp_path, predict_log(rows=1), predict_log(rows=2)), servable, iterations=3)
    assert servable.runs == [1, 1, 1, 2, 2, 2]


async def test_nothing_is_read_when_warm_up_is_off(tmp_path: Path) -> None:
    servable = Servable()
    await warmed(written_bytes(tmp_path, b"no records"), servable, replay_records=False)
    assert servable.ran == []


async def test_a_kind_of_request_is_run_once_with_each_timeout_that_clients_will_have(tmp_path: Path) -> None:
    path = written(tmp_path, predict_log(), predict_log())
    servable = Servable()
    await warmed(path, servable, timeouts_s=(60.0,))
    assert [timeout_s is None for timeout_s in servable.timeouts_s] == [True, False, True]
    stateful = Servable(deterministic=False)
    await warmed(path, stateful, timeouts_s=(60.0,))
    assert stateful.timeouts_s == [None, None]


async def test_a_timeout_too_short_for_a_request_does_not_fail_the_load(tmp_path: Path) -> None:
    servable = Servable()
    await warmed(written(tmp_path, predict_log()), servable, timeouts_s=(1e-9,))
    assert servable.ran == [("serving_default", 1)]


@pytest.mark.parametrize(
    ("log", "code", "message"),
    [
        (predict_log(signature_name="absent"), Code.FAILED_PRECONDITION, 'Serving signature key "absent" not found.'),
        (predict_log(alias="z"), Code.INVALID_ARGUMENT, "Signature input alias: x"),
        (examples_log("classify_log", "absent"), Code.INVALID_ARGUMENT, "No signature was found with the name: absent"),
        (examples_log("classify_log", "classify", 0), Code.INVALID_ARGUMENT, "Input is empty."),
        (examples_log("regress_log", "serving_default"), Code.INVALID_ARGUMENT, "No regression inputs found in SignatureDef"),
        (
            multi_inference_log(("serving_default", PREDICT_METHOD_NAME)),
            Code.UNIMPLEMENTED,
            f"Unsupported signature method_name: {PREDICT_METHOD_NAME}",
        ),
        (PredictionLog(session_run_log={}), Code.UNIMPLEMENTED, "Unsupported log_type for warmup: session_run_log"),
        (PredictionLog(predict_streamed_log={}), Code.UNIMPLEMENTED, "Unsupported log_type for warmup: predict_streamed_log"),
        (PredictionLog(), Code.UNIMPLEMENTED, "Unsupported log_type for warmup: none is set"),
    ],
)
async def test_a_record_that_cannot_be_run_fails_the_load_with_its_own_error(
    tmp_path: Path, log: Any, code: Code, message: str
) -> None:
    with pytest.raises(AspiredError) as failure:
        await warmed(written(tmp_path, predict_log(), log), Servable())
    assert failure.value.code is code
    assert failure.value.message.startswith(message)
    assert failure.value.message.endswith(f"(warm-up record 2 of {tmp_path})")


async def test_a_run_that_fails_fails_the_load(tmp_path: Path) -> None:
    servable = Servable(fails=lambda inputs: InvalidArgument("ones are too many") if inputs["x"].any() else None)
    with pytest.raises(InvalidArgument, match=r"^ones are too many \(warm-up record 1 of "):
        await warmed(written(tmp_path, predict_log()), servable)


async def test_outputs_that_could_not_be_answered_with_fail_the_load(tmp_path: Path) -> None:
    servable = FakeServable(lambda _: {"scores": np.zeros(3, np.float32)}, signatures=SIGNATURES)
    with pytest.raises(InvalidArgument, match=r"^Expected Tensor shape: \[batch_size num_classes\]"):
        await warmed(written(tmp_path, examples_log("classify_log", "classify")), servable)


async def test_a_thousand_records_are_the_most(tmp_path: Path) -> None:
    record = encode_record(predict_log().SerializeToString())
    full = Servable()
    assert (await warmed(written_bytes(tmp_path / "full", record * 1000), full)).records == 1000
    path = tmp_path / "overfull"
    with pytest.raises(InvalidArgument) as failure:
        await warmed(written_bytes(path, record * 1001), Servable())
    assert failure.value.message == f"Number of warmup records exceeds the maximum (1000) at {path / REQUESTS_FILE}"


async def test_a_record_of_another_kind_fails_the_load(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=f"^Failed to parse warmup record: number 1 from {tmp_path}"):
        await warmed(written_bytes(tmp_path, encode_record(b"\xff")), Servable())


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"\0" + content, lambda _: b"{}" * 50])
async def test_a_damaged_file_is_a_loss_of_data(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    content = damage(encode_record(predict_log().SerializeToString()))
    with pytest.raises(DataLoss, match=r"Please verify your warmup data is in TFRecord format\.$"):
        await warmed(written_bytes(tmp_path, content), Servable())


# -- batch sizes


async def batched(
    path: Path, servable: FakeServable, sizes: Sequence[int] = (2, 4, 8), options: WarmupOptions | None = None
) -> WarmupReport:
    runner = Batcher(servable, BatchingParameters(max_batch_size=8, allowed_batch_sizes=tuple(sizes), num_batch_threads=1))
    try:
        return await warm_up(str(path), servable, runner, options or WarmupOptions(all_batch_sizes=True), sizes)
    finally:
        await runner.close()


async def test_records_go_through_the_batching_of_the_version(tmp_path: Path) -> None:
    servable = Servable()
    written(tmp_path, predict_log(rows=3))
    await batched(tmp_path, servable, options=WarmupOptions())
    assert servable.ran == [("serving_default", 4)]


async def test_every_signature_runs_each_allowed_size(tmp_path: Path) -> None:
    servable = Servable()
    await batched(tmp_path, servable)
    assert sorted(servable.ran) == sorted((name, size) for name in SIGNATURES for size in (2, 4, 8))


async def test_rows_of_records_are_used_where_there_are_any(tmp_path: Path) -> None:
    servable = Servable(fails=lambda inputs: None if inputs.get("x", np.ones(1)).all() else InvalidArgument("made up"))
    written(tmp_path, predict_log(rows=2), predict_log(rows=1))
    await batched(tmp_path, servable)
    assert [rows for name, rows in servable.ran if name == "serving_default"] == [2, 2, 2, 4, 8]


async def test_a_signature_that_does_not_take_zeros_is_left_cold(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    servable = Servable(fails=lambda inputs: InvalidArgument("no feature") if "inputs" in inputs else None)
    with caplog.at_level(logging.INFO):
        await batched(tmp_path, servable)
    assert {name for name, rows in servable.ran if rows == 8} == {"serving_default"}
    assert "signature classify cannot be warmed up with made-up rows: no feature" in caplog.text


async def test_a_model_that_keeps_state_is_not_run_for_practice(tmp_path: Path) -> None:
    servable = Servable(deterministic=False)
    written(tmp_path, predict_log())
    await batched(tmp_path, servable)
    assert servable.ran == [("serving_default", 2)]


async def test_without_allowed_sizes_one_row_is_run(tmp_path: Path) -> None:
    servable = Servable()
    await warmed(str(tmp_path), servable, all_batch_sizes=True)
    assert sorted(servable.ran) == [("classify", 1), ("regress", 1), ("serving_default", 1)]


async def test_a_batch_of_recorded_rows_that_fails_fails_the_load(tmp_path: Path) -> None:
    servable = Servable(fails=lambda inputs: InvalidArgument("too large") if len(inputs.get("x", ())) > 4 else None)
    written(tmp_path, predict_log())
    with pytest.raises(InvalidArgument, match="too large"):
        await batched(tmp_path, servable)
