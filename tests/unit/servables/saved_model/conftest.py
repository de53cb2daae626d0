"""SavedModels as users make them: by TF2, by TF1 and by Keras. Each is exported once a session, and is small."""

# TensorFlow has no types, and its classes and decorators are used throughout.
# mypy: disable-error-code="misc, untyped-decorator"

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from servables.platforms import platform
from servables.servable import PlatformOptions, Servable

tf.get_logger().setLevel("ERROR")

Load = Callable[[Path], Servable]


class Module(tf.Module):
    """A TF2 model with a variable, tables, strings, scalars, and signatures that fail, take long or keep state."""

    def __init__(self, vocabulary: str) -> None:
        super().__init__()
        self.half = tf.Variable(0.5, name="half")
        self.counter = tf.Variable(0, name="counter")
        self.generator = tf.random.Generator.from_seed(1)
        self.numbers = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["a", "b"], [1, 2]), -1)
        self.vocabulary = tf.lookup.StaticVocabularyTable(
            tf.lookup.TextFileInitializer(
                vocabulary, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
            ),
            num_oov_buckets=1,
        )
        self.mutable = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
        self.mutable.insert(["a"], [7])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x"), tf.TensorSpec([None], tf.string, "s")])
    def pure(self, x: Any, s: Any) -> dict[str, Any]:
        return {
            "halves": x * self.half,
            "shouted": tf.strings.join([s, "!"]),
            "number": self.numbers.lookup(s),
            "word": self.vocabulary.lookup(s),
            "remembered": self.mutable.lookup(s),
            "rows": tf.size(x),
            "motto": tf.constant(b"zero\0"),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def endless(self, x: Any) -> dict[str, Any]:
        return {"y": tf.while_loop(lambda y: tf.reduce_all(y > -1.0), lambda y: (y + 1.0,), (tf.abs(x),))[0]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "x")])
    def divide(self, x: Any) -> dict[str, Any]:
        return {"y": 12 // x}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def looped(self, x: Any) -> dict[str, Any]:
        tf.debugging.assert_non_negative(x)
        total = tf.TensorArray(tf.float32, size=3)
        for step in tf.range(3):
            total = total.write(step, tf.reduce_sum(x) * self.half)
        return {"y": total.stack()}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def counting(self, x: Any) -> dict[str, Any]:
        if tf.size(x) > 0:
            self.counter.assign_add(1)
        return {"y": x, "count": self.counter.read_value()}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def noisy(self, x: Any) -> dict[str, Any]:
        return {"y": x + tf.random.uniform(tf.shape(x))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def generating(self, x: Any) -> dict[str, Any]:
        return {"y": x + self.generator.uniform(tf.shape(x))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "s")])
    def learning(self, s: Any) -> dict[str, Any]:
        self.mutable.insert(s, tf.zeros_like(s, tf.int64))
        return {"size": self.mutable.size()}


ALL_SIGNATURES = ("pure", "endless", "divide", "looped", "counting", "noisy", "generating", "learning")


@pytest.fixture(scope="session")
def export_module(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Exports `Module` with the given signatures."""
    vocabulary = tmp_path_factory.mktemp("assets") / "words.txt"
    vocabulary.write_text("a\nb\n")
    module = Module(str(vocabulary))

    def export(*names: str) -> Path:
        path = tmp_path_factory.mktemp("module")
        tf.saved_model.save(module, str(path), signatures={name: getattr(module, name) for name in names})
        return path

    return export


@pytest.fixture(scope="session")
def module_path(export_module: Callable[..., Path]) -> Path:
    return export_module(*ALL_SIGNATURES)


@pytest.fixture(scope="session")
def tf1_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TF1 export with reference variables, random initializers, tags ("serve",) and ("serve", "alt"), and odd aliases."""
    path = tmp_path_factory.mktemp("tf1") / "1"
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None], "x")
        k = v1.placeholder(tf.float32, [], "k")
        initializer = v1.random_uniform_initializer(3.0, 3.0001)
        weight = v1.get_variable("weight", [1], use_resource=False, initializer=initializer)
        y = tf.multiply(x * weight, k, "y")
        bump = v1.assign_add(weight, [1.0], name="bump")
        session.run(v1.global_variables_initializer())
        session.run(v1.assign(weight, [3.0]))
        signature_def = v1.saved_model.predict_signature_def
        bump_definition = signature_def({"x": x}, {"weight": bump})
        del bump_definition.inputs["x"]
        # `deprecated_x` is the tensor of `x` under another name, and so are `y` and `same_y` one.
        definitions = {
            "serving_default": signature_def({"x": x, "k": k}, {"y": y, "same_y": y, "weight": weight}),
            "twins": signature_def({"x": x, "deprecated_x": x, "k": k}, {"y": y}),
            "bump": bump_definition,
        }
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=definitions)
        builder.add_meta_graph(["serve", "alt"], signature_def_map={"alternative": signature_def({"x": x}, {"y": x + 1.0})})
        builder.save()
    # The builder has no way to export a default.
    saved_model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    default = saved_model.meta_graphs[0].signature_def["serving_default"].defaults["k"]
    default.CopyFrom(tf.make_tensor_proto(np.float32(2.0)))
    (path / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    return path


@pytest.fixture
def load() -> Iterator[Load]:
    """Loads versions, and closes them when the test is over."""
    loaded: list[Servable] = []

    def load(path: Path) -> Servable:
        loaded.append(platform("tensorflow").load(str(path), PlatformOptions()))
        return loaded[-1]

    yield load
    for servable in loaded:
        servable.close()


@pytest.fixture(scope="session")
def module_servable(module_path: Path) -> Iterator[Servable]:
    servable = platform("tensorflow").load(str(module_path), PlatformOptions())
    yield servable
    servable.close()


@pytest.fixture(scope="session")
def tf1_servable(tf1_path: Path) -> Iterator[Servable]:
    servable = platform("tensorflow").load(str(tf1_path), PlatformOptions())
    yield servable
    servable.close()
