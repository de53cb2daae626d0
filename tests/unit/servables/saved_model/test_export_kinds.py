"""SavedModels by every way that TensorFlow has had of making them load, initialize themselves and answer."""

# TensorFlow has no types, and its classes and decorators are used throughout.
# mypy: disable-error-code="misc, untyped-decorator"

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from servables.platforms import platform
from servables.servable import Array, PlatformOptions, Servable
from servables.tensors import DataType

v1 = tf.compat.v1
WORDS = "zero\none\ntwo\n"


def strings(*values: bytes) -> Array:
    return np.array(values, np.object_)


@dataclass(frozen=True)
class Graph:
    """A TF1 graph: two variables, of a reference and of a resource, and a table that reads an asset."""

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    initializer: Any


def build_graph(vocabulary: Path) -> Graph:
    asset = tf.constant(str(vocabulary), name="vocabulary")
    v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, asset)
    lines = tf.lookup.TextFileInitializer(
        asset, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
    )
    table = tf.lookup.StaticHashTable(lines, -1)
    word = v1.placeholder(tf.string, [None], "word")
    reference = v1.get_variable("reference", [], tf.float32, v1.constant_initializer(10.0), use_resource=False)
    resource = v1.get_variable("resource", [], tf.float32, v1.constant_initializer(0.5), use_resource=True)
    number = table.lookup(word)
    value = tf.cast(number, tf.float32) * reference + resource
    return Graph({"word": word}, {"number": number, "value": value}, v1.tables_initializer())


def simple_save(session: Any, graph: Graph, path: str) -> None:
    v1.saved_model.simple_save(session, path, dict(graph.inputs), dict(graph.outputs), legacy_init_op=graph.initializer)


def builder_with_main_op(session: Any, graph: Graph, path: str) -> None:
    _build(session, graph, path, ["serve"], main_op=graph.initializer)


def builder_with_legacy_init_op(session: Any, graph: Graph, path: str) -> None:
    """As TensorFlow wrote it before 1.13: in a collection of its own, and the assets in another."""
    v1.add_to_collection("legacy_init_op", graph.initializer)
    _build(session, graph, path, ["serve"])


def builder_with_other_tags(session: Any, graph: Graph, path: str) -> None:
    _build(session, graph, path, ["serve", "gpu"], main_op=graph.initializer)


def _build(session: Any, graph: Graph, path: str, tags: list[str], **details: Any) -> None:
    definition = v1.saved_model.predict_signature_def(graph.inputs, graph.outputs)
    builder = v1.saved_model.Builder(path)
    builder.add_meta_graph_and_variables(
        session,
        tags,
        signature_def_map={"serving_default": definition},
        assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
        **details,
    )
    builder.save()


@dataclass(frozen=True)
class Kind:
    """A way to export, and the options that load what it gives."""

    save: Callable[[Any, Graph, str], None]
    options: PlatformOptions = field(default_factory=PlatformOptions)


TF1_KINDS = [
    Kind(simple_save),
    Kind(builder_with_main_op),
    Kind(builder_with_legacy_init_op),
    Kind(builder_with_other_tags, PlatformOptions(saved_model_tags=("gpu", "serve"))),
]


@pytest.mark.parametrize("kind", TF1_KINDS, ids=lambda kind: kind.save.__name__)
def test_a_tf1_export_reads_its_variables_and_the_copy_of_its_asset(kind: Kind, tmp_path: Path) -> None:
    vocabulary = tmp_path / "words.txt"
    vocabulary.write_text(WORDS)
    exported = tmp_path / "exported"
    with tf.Graph().as_default(), v1.Session() as session:
        graph = build_graph(vocabulary)
        session.run(v1.global_variables_initializer())
        kind.save(session, graph, str(exported))
    vocabulary.unlink()
    moved = tmp_path / "moved" / "1"
    shutil.move(exported, moved)
    servable = platform("tensorflow").load(str(moved), kind.options)
    try:
        outputs = servable.run("serving_default", {"word": strings(b"two", b"?", b"one")}, ["number", "value"], None)
        assert outputs["number"].tolist() == [2, -1, 1]
        assert outputs["value"].tolist() == [20.5, -9.5, 10.5]
        assert servable.deterministic
    finally:
        servable.close()


class Signatures(tf.Module):
    """A TF2 model whose signatures share a variable; one has an input that may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x"), tf.TensorSpec([], tf.float32, "bias")])
    def with_bias(self, x: Any, bias: Any = tf.constant(1.0)) -> dict[str, Any]:  # noqa: B008
        return {"y": x * self.weight + bias}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def shout(self, text: Any) -> dict[str, Any]:
        return {"loud_bytes": tf.strings.upper(text), "length": tf.strings.length(text)}

    @tf.function(input_signature=[])
    def weights(self) -> dict[str, Any]:
        return {"weight": self.weight.read_value()}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")], jit_compile=True)
    def compiled(self, x: Any) -> dict[str, Any]:
        return {"y": tf.nn.relu(x) * self.weight}


@pytest.fixture(scope="module")
def tf2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servable]:
    path = str(tmp_path_factory.mktemp("tf2"))
    module = Signatures()
    names = ("with_bias", "shout", "weights", "compiled")
    tf.saved_model.save(module, path, signatures={name: getattr(module, name) for name in names})
    servable = platform("tensorflow").load(path, PlatformOptions())
    yield servable
    servable.close()


def test_a_tf2_export_has_all_its_signatures(tf2: Servable) -> None:
    assert sorted(tf2.signatures) == ["compiled", "shout", "weights", "with_bias"]
    assert tf2.run("weights", {}, ["weight"], None)["weight"].tolist() == 2.0
    text = {"text": strings("aé".encode(), b"\0b")}
    outputs = tf2.run("shout", text, ["loud_bytes", "length"], None)
    assert outputs["loud_bytes"].tolist() == ["Aé".encode(), b"\0B"]
    assert outputs["length"].tolist() == [3, 2]


def test_an_input_with_a_default_may_be_left_out(tf2: Servable) -> None:
    signature = tf2.signatures["with_bias"]
    assert signature.inputs["bias"].dtype is DataType.DT_FLOAT
    assert {alias: value.tolist() for alias, value in signature.defaults.items()} == {"bias": 1.0}
    x = np.array([1.0, 2.0], np.float32)
    assert tf2.run("with_bias", {"x": x}, ["y"], None)["y"].tolist() == [3.0, 5.0]
    assert tf2.run("with_bias", {"x": x, "bias": np.array(5, np.float32)}, ["y"], None)["y"].tolist() == [7.0, 9.0]


def test_a_function_that_is_marked_for_xla_runs(tf2: Servable) -> None:
    for rows in (1, 3):
        x = np.full(rows, 4.0, np.float32)
        assert tf2.run("compiled", {"x": x}, ["y"], None)["y"].tolist() == [8.0] * rows


def test_a_keras_export_answers_as_the_model_does(tmp_path: Path) -> None:
    number = tf.keras.Input((2,), name="number")
    mask = tf.keras.Input((2,), dtype="bool", name="mask")
    masked = tf.keras.layers.Lambda(lambda pair: pair[0] * tf.cast(pair[1], tf.float32), output_shape=(2,))([number, mask])
    outputs = {"score": tf.keras.layers.Dense(1)(masked), "masked": masked}
    model = tf.keras.Model({"number": number, "mask": mask}, outputs)
    model.export(str(tmp_path), verbose=False)
    inputs = {"number": np.array([[1, 2], [3, 4]], np.float32), "mask": np.array([[True, False], [True, True]])}
    servable = platform("tensorflow").load(str(tmp_path), PlatformOptions())
    try:
        got = servable.run("serving_default", inputs, ["score", "masked"], None)
        expected = model(inputs)
        for alias, array in got.items():
            np.testing.assert_allclose(array, expected[alias].numpy(), rtol=1e-6)
        # Keras exports its forward pass and `serve` under two names.
        assert servable.signatures.keys() >= {"serving_default", "serve"}
    finally:
        servable.close()
