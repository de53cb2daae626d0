"""Loading: exports of every kind, tags, session options, and files that are wrong."""

# TensorFlow has no types, and its classes and decorators are used throughout.
# mypy: disable-error-code="misc, untyped-decorator"

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cluster.config.session_config import parse_session_config
from cluster.core.errors import AspiredError, DataLoss, NotFound
from servables.platforms import platform
from servables.saved_model.bundle import session_config
from servables.servable import PlatformOptions, Servable

Load = Callable[[Path], Servable]


def only_output(servable: Servable, inputs: dict[str, Any]) -> Any:
    (alias,) = servable.signatures["serving_default"].outputs
    return servable.run("serving_default", inputs, [alias], None)[alias]


def copy_of(path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(path, tmp_path / "copy"))


def test_loads_the_meta_graph_with_exactly_the_tags(tf1_path: Path) -> None:
    servable = platform("tensorflow").load(str(tf1_path), PlatformOptions(saved_model_tags=("alt", "serve")))
    assert set(servable.signatures) == {"alternative"}
    assert servable.run("alternative", {"x": np.ones(1, np.float32)}, ["y"], None)["y"].tolist() == [2.0]
    servable.close()


def test_missing_tags_have_tensorflows_text(tf1_path: Path) -> None:
    with pytest.raises(NotFound) as failure:
        platform("tensorflow").load(str(tf1_path), PlatformOptions(saved_model_tags=("alt",)))
    assert failure.value.message == (
        "Could not find meta graph def matching supplied tags: { alt }. To inspect available tag-sets in the SavedModel, "
        "please use the SavedModel CLI: `saved_model_cli`"
    )


def test_a_directory_without_a_saved_model_has_tensorflows_text(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as failure:
        platform("tensorflow").check(str(tmp_path), PlatformOptions())
    assert failure.value.message.startswith(
        f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {tmp_path}"
    )


def test_loads_a_text_saved_model(tf1_path: Path, tmp_path: Path, load: Load) -> None:
    from google.protobuf import text_format
    from tensorflow.core.protobuf import saved_model_pb2

    path = copy_of(tf1_path, tmp_path)
    binary = path / "saved_model.pb"
    text = text_format.MessageToString(saved_model_pb2.SavedModel.FromString(binary.read_bytes()))
    binary.rename(tmp_path / "away")
    (path / "saved_model.pbtxt").write_text(text)
    platform("tensorflow").check(str(path), PlatformOptions())
    assert load(path).run("serving_default", {}, ["weight"], None)["weight"].tolist() == [3.0]
    (path / "saved_model.pbtxt").write_text("meta_graphs {")
    with pytest.raises(DataLoss, match=r"saved_model\.pbtxt as text proto"):
        load(path)


def test_keras_export_with_preprocessing(tmp_path: Path, load: Load) -> None:
    words = tf.keras.Input((1,), dtype="string", name="words")
    layer = tf.keras.layers.StringLookup(vocabulary=["a", "b"])(words)
    layer = tf.keras.layers.Flatten()(tf.keras.layers.Embedding(3, 2)(layer))
    layer = tf.keras.layers.BatchNormalization()(tf.keras.layers.Dropout(0.5)(layer))
    model = tf.keras.Model(words, tf.keras.layers.Dense(2)(layer))
    model.export(str(tmp_path), verbose=False)
    servable = load(tmp_path)
    values = [[b"a"], [b"b"], [b"?"]]
    expected = model(tf.constant(values)).numpy()
    np.testing.assert_allclose(only_output(servable, {"words": np.array(values, np.object_)}), expected, rtol=1e-5)
    assert servable.deterministic


def test_keras_models_saved_as_a_part_of_a_module_have_their_weights(tmp_path: Path, load: Load) -> None:
    """TF Serving answers such a model's requests with "Could not find variable": the restore op does not restore it."""

    class Pair(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            # Of one name, so that only their places in the object graph tell their variables apart.
            self.ones, self.twos = (
                tf.keras.Sequential(
                    [
                        tf.keras.Input((2,)),
                        tf.keras.layers.Dense(1, name="dense", kernel_initializer=tf.keras.initializers.Constant(value)),
                    ],
                    name="model",
                )
                for value in (1.0, 2.0)
            )

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
        def both(self, x: Any) -> dict[str, Any]:
            return {"ones": self.ones(x), "twos": self.twos(x)}

    pair = Pair()
    tf.saved_model.save(pair, str(tmp_path), signatures={"serving_default": pair.both})
    outputs = load(tmp_path).run("serving_default", {"x": np.ones((1, 2), np.float32)}, ["ones", "twos"], None)
    assert {alias: array.tolist() for alias, array in outputs.items()} == {"ones": [[2.0]], "twos": [[4.0]]}


def test_a_model_without_variables_needs_no_checkpoint(tmp_path: Path, load: Load) -> None:
    module = tf.Module()
    module.double = tf.function(lambda x: {"y": x + x}, input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.double})
    shutil.rmtree(tmp_path / "variables")
    assert only_output(load(tmp_path), {"x": np.ones(1, np.float32)}).tolist() == [2.0]


@pytest.mark.parametrize("model", ["module_path", "tf1_path"])
def test_a_model_whose_variables_are_missing_does_not_load(
    model: str, request: pytest.FixtureRequest, tmp_path: Path, load: Load
) -> None:
    path = copy_of(request.getfixturevalue(model), tmp_path)
    shutil.rmtree(path / "variables")
    with pytest.raises(NotFound, match=r"Could not find the variables of the SavedModel: .*variables\.index"):
        load(path)


@pytest.mark.parametrize("kept", [0, 3, 40])
@pytest.mark.parametrize("file_name", ["variables/variables.index", "variables/variables.data-00000-of-00001"])
def test_a_checkpoint_that_is_cut_short_does_not_load(
    module_path: Path, tmp_path: Path, load: Load, file_name: str, kept: int
) -> None:
    path = copy_of(module_path, tmp_path)
    file = path / file_name
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(AspiredError) as failure:
        load(path)
    assert "Graph execution error" not in failure.value.message


def test_a_checkpoint_of_another_model_does_not_load(module_path: Path, tf1_path: Path, tmp_path: Path, load: Load) -> None:
    path = copy_of(tf1_path, tmp_path)
    shutil.rmtree(path / "variables")
    shutil.copytree(module_path / "variables", path / "variables")
    with pytest.raises(NotFound, match=r"^Key weight not found in checkpoint"):
        load(path)


def test_a_missing_asset_does_not_load(module_path: Path, tmp_path: Path, load: Load) -> None:
    path = copy_of(module_path, tmp_path)
    shutil.rmtree(path / "assets")
    with pytest.raises(NotFound, match=r"^\S*assets/words\.txt; No such file or directory") as failure:
        load(path)
    assert "stack trace" not in failure.value.message


@pytest.mark.parametrize("share", [0.3, 0.7, 0.999])
def test_a_graph_that_is_cut_short_does_not_load(module_path: Path, tmp_path: Path, load: Load, share: float) -> None:
    path = copy_of(module_path, tmp_path)
    file = path / "saved_model.pb"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataLoss, match=rf"^Can't parse {file} as binary proto$"):
        load(path)


def test_an_empty_graph_file_has_no_tags(module_path: Path, tmp_path: Path, load: Load) -> None:
    path = copy_of(module_path, tmp_path)
    (path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(NotFound, match=r"Could not find meta graph def matching supplied tags: \{ serve \}"):
        load(path)


def test_an_unknown_op_is_named(module_path: Path, tmp_path: Path, load: Load) -> None:
    path = copy_of(module_path, tmp_path)
    file = path / "saved_model.pb"
    file.write_bytes(file.read_bytes().replace(b"StringJoin", b"StringJoim"))
    with pytest.raises(NotFound, match="Op type not registered 'StringJoim'"):
        load(path)


def test_without_a_gpu_the_session_has_none() -> None:
    config = session_config(PlatformOptions(intra_op_parallelism_threads=3, inter_op_parallelism_threads=2))
    assert dict(config.device_count) == {"GPU": 0}
    assert (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads) == (3, 2)


def test_a_session_has_what_its_config_says_unless_flags_say_otherwise() -> None:
    text = "inter_op_parallelism_threads: 4 intra_op_parallelism_threads: 5 graph_options { infer_shapes: true }"
    config_proto = parse_session_config(text, "session.txt").config_proto
    alone = session_config(PlatformOptions(session_config=config_proto))
    assert (alone.inter_op_parallelism_threads, alone.intra_op_parallelism_threads) == (4, 5)
    assert alone.graph_options.infer_shapes
    assert dict(alone.device_count) == {"GPU": 0}
    flags = session_config(PlatformOptions(session_config=config_proto, intra_op_parallelism_threads=2))
    assert (flags.inter_op_parallelism_threads, flags.intra_op_parallelism_threads) == (4, 2)


def test_with_a_gpu_memory_grows_up_to_the_limit() -> None:
    config = session_config(PlatformOptions(gpu=0, gpu_memory_bytes=3 * 2**30))
    assert config.gpu_options.allow_growth
    assert [list(device.memory_limit_mb) for device in config.gpu_options.experimental.virtual_devices] == [[3072.0]]
    unlimited = session_config(PlatformOptions(gpu=0))
    assert unlimited.gpu_options.allow_growth
    assert not unlimited.gpu_options.experimental.virtual_devices
    assert not unlimited.device_count
