"""Which file of a version is loaded, and what is said of those that cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cluster.core.errors import DataLoss, NotFound, Unimplemented
from scripts.sample_models import export_half_plus_two
from servables.platforms import platform
from servables.servable import PlatformOptions, Servable
from tests.fakes import tflite_models

Load = Callable[..., Servable]
PREFER = PlatformOptions(prefer_tflite_model=True)


@pytest.fixture
def both(tmp_path: Path, half_plus_two: bytes) -> Path:
    """A version whose SavedModel adds three, and whose model.tflite adds two."""
    version = export_half_plus_two(tmp_path, 1, offset=3.0)
    (version / "model.tflite").write_bytes(half_plus_two)
    return version


def answer(version: Path, options: PlatformOptions) -> list[float]:
    servable = platform("tensorflow").load(str(version), options)
    try:
        rank = len(servable.signatures["serving_default"].inputs["x"].shape or ())
        x = np.ones((1,) * rank, np.float32)
        y = servable.run("serving_default", {"x": x}, ["y"], None)["y"]
        return [float(value) for value in y.ravel()]
    finally:
        servable.close()


def test_the_flag_decides_between_two_models_of_a_version(both: Path) -> None:
    assert answer(both, PREFER) == [2.5]
    assert answer(both, PlatformOptions()) == [3.5]


def test_without_the_file_the_saved_model_is_served(both: Path) -> None:
    (both / "model.tflite").unlink()
    platform("tensorflow").check(str(both), PREFER)
    assert answer(both, PREFER) == [3.5]


def test_the_file_alone_is_a_version_only_where_it_is_preferred(half_plus_two: bytes, tmp_path: Path) -> None:
    version = tflite_models.write(half_plus_two, tmp_path / "1")
    platform("tensorflow").check(str(version), PREFER)
    platform("tflite").check(str(version), PlatformOptions())
    with pytest.raises(NotFound, match=r"Could not find SavedModel \.pb or \.pbtxt"):
        platform("tensorflow").check(str(version), PlatformOptions())


def test_a_damaged_file_is_no_reason_to_serve_the_other(both: Path) -> None:
    (both / "model.tflite").write_bytes(b"not a model")
    with pytest.raises(DataLoss, match=str(both / "model.tflite")):
        platform("tensorflow").load(str(both), PREFER)


@pytest.mark.parametrize("kept", [0, 3, 100, 500])
def test_a_file_that_is_cut_short_does_not_load(half_plus_two: bytes, load: Load, kept: int) -> None:
    assert len(half_plus_two) > 500
    with pytest.raises(DataLoss, match=r"model\.tflite") as failure:
        load(half_plus_two[:kept])
    assert "\n" not in failure.value.message


@pytest.mark.parametrize(("select", "op"), [(True, "FlexParseExampleV2"), (False, "ParseExampleV2")])
def test_an_op_that_the_interpreter_lacks_is_named(select: bool, op: str, tmp_path: Path, load: Load) -> None:
    content = tflite_models.convert_custom(tmp_path / "export", select=select)
    with pytest.raises(
        Unimplemented, match=rf"model\.tflite: it has an op that the TFLite interpreter here lacks: .*\({op}\)"
    ) as failure:
        load(content)
    assert "\n" not in failure.value.message
