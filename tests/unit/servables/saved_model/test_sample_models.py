"""The sample models answer as their users are told."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

from scripts import sample_models
from scripts.export_sample_models import main
from scripts.sample_models import export_half_plus_two
from servables.servable import Array, Servable
from servables.signatures import CLASSIFY_METHOD_NAME, PREDICT_METHOD_NAME, REGRESS_METHOD_NAME

Load = Callable[[Path], Servable]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Everything that the script exports by default, and what it says."""
    out = tmp_path_factory.mktemp("samples")
    result = CliRunner().invoke(main, ["--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0
    return out, result.output


def examples(**features: list[Any]) -> Array:
    rows = []
    for values in zip(*features.values(), strict=True):
        example = tf.train.Example()
        for name, value in zip(features, values, strict=True):
            feature = example.features.feature[name]
            (feature.int64_list if isinstance(value, int) else feature.float_list).value.append(value)
        rows.append(example.SerializeToString())
    return np.array(rows, np.object_)


def test_half_plus_two_predicts_classifies_and_regresses(exported: tuple[Path, str], load: Load) -> None:
    servable = load(exported[0] / "half_plus_two" / "1")
    assert {name: signature.method_name for name, signature in servable.signatures.items()} == {
        "serving_default": PREDICT_METHOD_NAME,
        "classify_x_to_y": CLASSIFY_METHOD_NAME,
        "regress_x_to_y": REGRESS_METHOD_NAME,
    }
    # The flat form that TF Serving's own examples send, although the signature's shape is [-1, 1].
    flat = np.array([1.0, 2.0, 5.0], np.float32)
    assert servable.run("serving_default", {"x": flat}, ["y"], None)["y"].tolist() == [2.5, 3.0, 4.5]
    inputs = {"inputs": examples(x=[1.0, 2.0])}
    assert servable.run("classify_x_to_y", inputs, ["scores"], None)["scores"].tolist() == [[2.5], [3.0]]
    assert servable.run("regress_x_to_y", inputs, ["outputs"], None)["outputs"].tolist() == [[2.5], [3.0]]
    assert servable.deterministic


def test_chopsticks_predicts_a_label_for_a_length_and_a_person(exported: tuple[Path, str], load: Load) -> None:
    servable = load(exported[0] / "chopsticks" / "1")
    inputs: dict[str, Array] = {
        "length_mm": np.array([240.0, 330.0], np.float32),
        "person": np.array([0, 999], np.int64),
    }
    outputs = servable.run("serving_default", inputs, ["probabilities", "label"], None)
    np.testing.assert_allclose(outputs["probabilities"].sum(axis=1), [1.0, 1.0], rtol=1e-5)
    best, longest = outputs["label"].tolist()
    assert (best, longest) == (b"high", b"low")
    column = {alias: array.reshape(-1, 1) for alias, array in inputs.items()}
    assert servable.run("serving_default", column, ["label"], None)["label"].tolist() == [best, longest]


def test_chopsticks_classifies_and_regresses_examples(exported: tuple[Path, str], load: Load) -> None:
    servable = load(exported[0] / "chopsticks" / "1")
    assert servable.signatures["classify"].method_name == CLASSIFY_METHOD_NAME
    assert servable.signatures["regress"].method_name == REGRESS_METHOD_NAME
    lengths, persons = [330.0, 240.0], [3, 3]
    inputs = {"inputs": examples(length_mm=lengths, person=persons)}
    outputs = servable.run("classify", inputs, ["classes", "scores"], None)
    assert outputs["classes"].tolist() == [[b"low", b"medium", b"high"]] * 2
    predicted = servable.run(
        "serving_default",
        {"length_mm": np.array(lengths, np.float32), "person": np.array(persons)},
        ["probabilities"],
        None,
    )
    assert np.allclose(outputs["scores"].tolist(), predicted["probabilities"].tolist(), rtol=1e-5)
    longest, best = servable.run("regress", inputs, ["outputs"], None)["outputs"].tolist()
    assert longest < best


def test_chopsticks_learns_and_says_how_well(exported: tuple[Path, str]) -> None:
    (line,) = [line for line in exported[1].splitlines() if "held-out" in line]
    accuracy = float(line.split("%")[0].split()[-1])
    assert accuracy > 75.0


def test_the_chopstick_data_set_is_there(exported: tuple[Path, str]) -> None:
    with (exported[0] / "chopsticks" / "1" / "assets.extra" / "chopsticks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["length_mm"] for row in rows} == {"180", "210", "240", "270", "300", "330"}
    assert {row["person"] for row in rows} == {str(person) for person in range(1, 32)}
    counts = [sum(row["class"] == label for row in rows) for label in ("low", "medium", "high")]
    assert counts == [len(rows) // 3] * 3


def test_mlp_gives_probabilities(exported: tuple[Path, str], load: Load) -> None:
    servable = load(exported[0] / "mlp" / "1")
    image = np.random.default_rng(1).random((2, 784), np.float32)
    probabilities = servable.run("serving_default", {"image": image}, ["probabilities"], None)["probabilities"]
    assert probabilities.shape == (2, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), [1.0, 1.0], rtol=1e-5)


def test_an_offset_by_version_tells_versions_apart(tmp_path: Path, load: Load) -> None:
    arguments = ["--out", str(tmp_path), "--models", "half_plus_two", "--versions", "1,4", "--offset-by-version"]
    assert CliRunner().invoke(main, arguments, catch_exceptions=False).exit_code == 0
    x = np.zeros((1, 1), np.float32)
    answers = {
        version: load(tmp_path / "half_plus_two" / str(version)).run("serving_default", {"x": x}, ["y"], None)["y"].item()
        for version in (1, 4)
    }
    assert answers == {1: 2.0, 4: 5.0}


def test_a_complete_export_is_left_alone_and_another_is_replaced(tmp_path: Path) -> None:
    path = export_half_plus_two(tmp_path, 1)
    model = path / "saved_model.pb"
    written = model.stat()
    export_half_plus_two(tmp_path, 1)
    assert model.stat() == written
    export_half_plus_two(tmp_path, 1, offset=3.0)
    assert model.stat().st_ino != written.st_ino
    assert [child.name for child in tmp_path.iterdir()] == ["1"]


def test_an_export_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_model: Any, directory: Path, *_rest: Any) -> None:
        directory.mkdir()
        (directory / "saved_model.pb").touch()
        raise OSError("disk full")

    monkeypatch.setattr(sample_models, "_save", fail)
    with pytest.raises(OSError, match="disk full"):
        export_half_plus_two(tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "mlp,resnet"], "unknown resnet"),
        (["--versions", "one"], "expected numbers"),
        (["--versions", "-1"], "not negative"),
    ],
)
def test_wrong_arguments_are_explained(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["--out", str(tmp_path), *arguments])
    assert result.exit_code == 2
    assert message in result.output
