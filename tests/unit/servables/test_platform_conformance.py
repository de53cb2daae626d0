"""What every platform and its servables must do: the cases are the same, the version they run on is the platform's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cluster.core.errors import AspiredError, DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound
from scripts.sample_models import export_half_plus_two, export_hashmap
from servables.platforms import platform
from servables.servable import Array, Platform, PlatformOptions, Servable
from servables.signatures import DEFAULT_SIGNATURE_NAME, decode_signatures, encode_signatures
from tests.fakes import tflite_models


@dataclass(frozen=True)
class Sample:
    """A version of a platform, and two calls of its default signature with the answers that are due."""

    platform: Platform
    path: Path
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    other_inputs: Mapping[str, Array]
    other_outputs: Mapping[str, Array]
    wrong_dtype: Mapping[str, Array]
    damaged_file: str


def strings(*values: bytes) -> Array:
    return np.array(values, dtype=np.object_)


def hashmap_sample(base_path: Path) -> Sample:
    return Sample(
        platform=platform("hashmap"),
        path=export_hashmap(base_path, 1, {"a": "1", "b": "2"}),
        inputs={"keys": strings(b"a", b"b")},
        outputs={"values": strings(b"1", b"2")},
        other_inputs={"keys": strings(b"b")},
        other_outputs={"values": strings(b"2")},
        wrong_dtype={"keys": np.array([1.0], np.float32)},
        damaged_file="hashmap.csv",
    )


def saved_model_sample(base_path: Path) -> Sample:
    return Sample(
        platform=platform("tensorflow"),
        path=export_half_plus_two(base_path, 1),
        inputs={"x": np.array([[1.0], [2.0]], np.float32)},
        outputs={"y": np.array([[2.5], [3.0]], np.float32)},
        other_inputs={"x": np.array([[5.0]], np.float32)},
        other_outputs={"y": np.array([[4.5]], np.float32)},
        wrong_dtype={"x": np.array([[1.0]], np.float64)},
        damaged_file="saved_model.pb",
    )


def tflite_sample(base_path: Path) -> Sample:
    content = tflite_models.convert(base_path / "export", serving_default="half_plus_two")
    return Sample(
        platform=platform("tflite"),
        path=tflite_models.write(content, base_path / "1"),
        inputs={"x": np.array([1.0, 2.0], np.float32)},
        outputs={"y": np.array([2.5, 3.0], np.float32)},
        other_inputs={"x": np.array([5.0], np.float32)},
        other_outputs={"y": np.array([4.5], np.float32)},
        wrong_dtype={"x": np.array([1.0], np.float64)},
        damaged_file="model.tflite",
    )


SAMPLES = {"hashmap": hashmap_sample, "tensorflow": saved_model_sample, "tflite": tflite_sample}


@pytest.fixture(scope="module", params=SAMPLES.values(), ids=SAMPLES.keys())
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    made: Sample = request.param(tmp_path_factory.mktemp("models"))
    return made


@pytest.fixture(scope="module")
def servable(sample: Sample) -> Iterator[Servable]:
    loaded = sample.platform.load(str(sample.path), PlatformOptions())
    yield loaded
    loaded.close()


def run(servable: Servable, sample: Sample, timeout_s: float | None = None) -> dict[str, Array]:
    return servable.run(DEFAULT_SIGNATURE_NAME, sample.inputs, list(sample.outputs), timeout_s)


def assert_equal(got: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    assert got.keys() == expected.keys()
    for alias, array in expected.items():
        assert got[alias].dtype == array.dtype
        assert got[alias].tolist() == array.tolist()


def test_check_accepts_a_version(sample: Sample) -> None:
    sample.platform.check(str(sample.path), PlatformOptions())


def test_check_misses_what_is_not_there(sample: Sample, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=str(tmp_path)):
        sample.platform.check(str(tmp_path), PlatformOptions())
    with pytest.raises(NotFound):
        sample.platform.check(str(tmp_path / "absent"), PlatformOptions())


def test_load_misses_what_check_misses(sample: Sample, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        sample.platform.load(str(tmp_path), PlatformOptions())


def test_a_damaged_version_fails_to_load_with_one_line_that_names_the_file(sample: Sample, tmp_path: Path) -> None:
    damaged = tmp_path / sample.damaged_file
    damaged.write_bytes(b"not a model")
    with pytest.raises(AspiredError) as failure:
        sample.platform.load(str(tmp_path), PlatformOptions())
    assert str(damaged) in failure.value.message
    assert "\n" not in failure.value.message


def test_the_default_signature_names_what_it_takes_and_gives(servable: Servable, sample: Sample) -> None:
    signature = servable.signatures[DEFAULT_SIGNATURE_NAME]
    assert signature.inputs.keys() == sample.inputs.keys()
    assert signature.outputs.keys() == sample.outputs.keys()


def test_signatures_travel(servable: Servable) -> None:
    assert decode_signatures(encode_signatures(servable.signatures)) == servable.signatures


@pytest.mark.parametrize("timeout_s", [None, 60.0, 36_000.0])
def test_answers_whatever_the_timeout(servable: Servable, sample: Sample, timeout_s: float | None) -> None:
    assert_equal(run(servable, sample, timeout_s), sample.outputs)


def test_a_call_without_time_left_is_not_run(servable: Servable, sample: Sample) -> None:
    with pytest.raises(DeadlineExceeded):
        run(servable, sample, 0.0)


def test_the_wrong_dtype_is_an_invalid_argument(servable: Servable, sample: Sample) -> None:
    with pytest.raises(InvalidArgument, match="Type mismatch"):
        servable.run(DEFAULT_SIGNATURE_NAME, sample.wrong_dtype, list(sample.outputs), None)


def test_unknown_names_are_errors(servable: Servable, sample: Sample) -> None:
    with pytest.raises(FailedPrecondition, match=r'^Serving signature key "absent" not found\.$'):
        servable.run("absent", sample.inputs, list(sample.outputs), None)
    with pytest.raises(InvalidArgument, match="absent"):
        servable.run(DEFAULT_SIGNATURE_NAME, sample.inputs, ["absent"], None)
    with pytest.raises(InvalidArgument, match="absent"):
        servable.run(DEFAULT_SIGNATURE_NAME, {**sample.inputs, "absent": strings(b"")}, list(sample.outputs), None)


def test_a_missing_input_is_an_invalid_argument(servable: Servable, sample: Sample) -> None:
    with pytest.raises(InvalidArgument):
        servable.run(DEFAULT_SIGNATURE_NAME, {}, list(sample.outputs), None)


def test_errors_leave_the_servable_usable(servable: Servable, sample: Sample) -> None:
    with pytest.raises(AspiredError):
        servable.run(DEFAULT_SIGNATURE_NAME, sample.wrong_dtype, list(sample.outputs), None)
    assert_equal(run(servable, sample), sample.outputs)


def test_does_not_write_to_its_inputs(servable: Servable, sample: Sample) -> None:
    before = {alias: array.copy() for alias, array in sample.inputs.items()}
    run(servable, sample)
    assert_equal(sample.inputs, before)


def test_answers_from_several_threads_do_not_mix(servable: Servable, sample: Sample) -> None:
    def call(number: int) -> tuple[int, dict[str, Array]]:
        inputs = sample.other_inputs if number % 2 else sample.inputs
        return number, servable.run(DEFAULT_SIGNATURE_NAME, inputs, list(sample.outputs), None)

    with ThreadPoolExecutor(8) as threads:
        for number, got in threads.map(call, range(200)):
            assert_equal(got, sample.other_outputs if number % 2 else sample.outputs)


def test_a_servable_without_state_is_deterministic(servable: Servable) -> None:
    assert servable.deterministic
