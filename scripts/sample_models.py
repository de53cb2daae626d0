"""Exports the models of the examples, the tests and the benchmarks.

Each `export_*` writes one version, `base_path/<version>`, and returns its directory. A version appears whole or not at all,
and one that this generator wrote before with the same settings is left as it is, without importing TensorFlow.
"""

# TensorFlow has no types, and its classes and decorators are used throughout.
# mypy: disable-error-code="misc, untyped-decorator"

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

# Goes up when what is exported changes, so that older exports are written anew.
GENERATOR_VERSION = 1

_STAMP = Path("assets.extra", "sample_model.json")
_CLASSIFY = "tensorflow/serving/classify"
_REGRESS = "tensorflow/serving/regress"


def export_chopsticks(base_path: Path, version: int = 1, *, report: Callable[[str], None] = print) -> Path:
    """The chopstick classifier, with a predict, a classify and a regress signature, and its data set in `assets.extra`."""

    def write(directory: Path) -> None:
        from scripts.chopsticks import train_and_evaluate

        model, data, accuracy = train_and_evaluate()
        report(f"chopsticks: {accuracy:.1%} of the held-out trials are classified correctly (by chance: 33.3%)")
        save_chopsticks(model, directory)
        extra = directory / "assets.extra"
        extra.mkdir()
        (extra / "chopsticks.csv").write_text(data.to_csv())

    return _export(base_path, version, {"model": "chopsticks"}, write)


def save_chopsticks(model: Any, directory: Path) -> None:
    """A `ChopstickClassifier` with its signatures as a SavedModel."""
    signatures = {"serving_default": model.predict, "classify": model.classify, "regress": model.regress}
    _save(model, directory, signatures, {"classify": _CLASSIFY, "regress": _REGRESS})


def export_half_plus_two(base_path: Path, version: int, offset: float = 2.0) -> Path:
    """y = x / 2 + `offset`, under the signature names of TF Serving's test model of this name.

    An offset for each version tells in every answer which version gave it.
    """

    def write(directory: Path) -> None:
        import tensorflow as tf

        class HalfPlusTwo(tf.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a = tf.Variable(0.5, name="a")
                self.b = tf.Variable(offset, name="b")

            def y(self, x: Any) -> Any:
                return self.a * x + self.b

            @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, "x")])
            def predict(self, x: Any) -> dict[str, Any]:
                return {"y": self.y(x)}

            @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
            def classify(self, inputs: Any) -> dict[str, Any]:
                return {"scores": self.y(_parse_x(inputs))}

            @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
            def regress(self, inputs: Any) -> dict[str, Any]:
                return {"outputs": self.y(_parse_x(inputs))}

        def _parse_x(serialized: Any) -> Any:
            return tf.io.parse_example(serialized, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"]

        model = HalfPlusTwo()
        signatures = {
            "serving_default": model.predict,
            "classify_x_to_y": model.classify,
            "regress_x_to_y": model.regress,
        }
        _save(model, directory, signatures, {"classify_x_to_y": _CLASSIFY, "regress_x_to_y": _REGRESS})

    return _export(base_path, version, {"model": "half_plus_two", "offset": offset}, write)


def export_mlp(base_path: Path, version: int = 1) -> Path:
    """An untrained 784-512-512-10 perceptron with fixed weights: `image` in, `probabilities` out. For load, not for sense."""

    def write(directory: Path) -> None:
        import numpy as np
        import tensorflow as tf

        class Mlp(tf.Module):
            def __init__(self) -> None:
                super().__init__()
                rng = np.random.default_rng(784)
                widths = [784, 512, 512, 10]
                self.kernels = [
                    tf.Variable((rng.standard_normal((rows, columns)) * (2.0 / rows) ** 0.5).astype(np.float32))
                    for rows, columns in pairwise(widths)
                ]
                self.biases = [tf.Variable(np.zeros(columns, np.float32)) for columns in widths[1:]]

            @tf.function(input_signature=[tf.TensorSpec([None, 784], tf.float32, "image")])
            def predict(self, image: Any) -> dict[str, Any]:
                layer = image
                for kernel, bias in zip(self.kernels[:-1], self.biases[:-1], strict=True):
                    layer = tf.nn.relu(layer @ kernel + bias)
                return {"probabilities": tf.nn.softmax(layer @ self.kernels[-1] + self.biases[-1])}

        model = Mlp()
        _save(model, directory, {"serving_default": model.predict}, {})

    return _export(base_path, version, {"model": "mlp"}, write)


def export_cnn(base_path: Path, version: int = 1, *, side: int) -> Path:
    """An untrained convolutional network for square images of `side` 32 or 224 pixels: `image` in, `probabilities` out.

    Either takes 0.5 GFLOP a row: what is large enters through wider strides. For load, not for sense.
    """
    # Channels and stride of each 3x3 convolution.
    layers = {
        32: ((64, 1), (64, 1), (64, 1), (128, 2), (128, 1), (128, 1), (128, 1), (128, 1)),
        224: ((16, 4), (64, 2), (64, 1), (64, 1), (64, 1), (64, 1), (128, 2), (128, 1), (128, 1), (128, 1), (128, 1)),
    }[side]

    def write(directory: Path) -> None:
        import numpy as np
        import tensorflow as tf

        class Cnn(tf.Module):
            def __init__(self) -> None:
                super().__init__()
                rng = np.random.default_rng(side)
                channels = [3, *(width for width, _ in layers)]
                self.kernels = [
                    tf.Variable((rng.standard_normal((3, 3, *pair)) * (2.0 / (9 * pair[0])) ** 0.5).astype(np.float32))
                    for pair in pairwise(channels)
                ]
                self.head = tf.Variable(rng.standard_normal((channels[-1], 10)).astype(np.float32))

            @tf.function(input_signature=[tf.TensorSpec([None, side, side, 3], tf.float32, "image")])
            def predict(self, image: Any) -> dict[str, Any]:
                layer = image
                for kernel, (_, stride) in zip(self.kernels, layers, strict=True):
                    layer = tf.nn.relu(tf.nn.conv2d(layer, kernel, stride, "SAME"))
                return {"probabilities": tf.nn.softmax(tf.reduce_mean(layer, [1, 2]) @ self.head)}

        model = Cnn()
        _save(model, directory, {"serving_default": model.predict}, {})

    return _export(base_path, version, {"model": "cnn", "side": side}, write)


def export_hashmap(base_path: Path, version: int, entries: Mapping[str, str]) -> Path:
    """A version of the "hashmap" platform. Needs no TensorFlow."""

    def write(directory: Path) -> None:
        directory.mkdir()
        (directory / "hashmap.csv").write_text("".join(f"{key},{value}\n" for key, value in entries.items()))

    return _export(base_path, version, {"model": "hashmap", "entries": dict(entries)}, write)


def _export(base_path: Path, version: int, settings: Mapping[str, Any], write: Callable[[Path], None]) -> Path:
    """Lets `write` fill a directory that does not exist yet, and moves it to its place when it is whole."""
    stamp = json.dumps({"generator": GENERATOR_VERSION, **settings}, sort_keys=True)
    final = base_path / str(version)
    if _read_stamp(final) == stamp:
        return final
    base_path.mkdir(parents=True, exist_ok=True)
    # Beside the version, hence on the same file system; a server passes over names that are no numbers.
    with tempfile.TemporaryDirectory(prefix=f".{version}-", dir=base_path) as workspace:
        fresh = Path(workspace, "fresh")
        write(fresh)
        stamp_file = fresh / _STAMP
        stamp_file.parent.mkdir(exist_ok=True)
        stamp_file.write_text(stamp)
        if final.exists():
            final.rename(Path(workspace, "stale"))
        fresh.rename(final)
    return final


def _read_stamp(directory: Path) -> str | None:
    try:
        return (directory / _STAMP).read_text()
    except OSError:
        return None


def _save(model: Any, directory: Path, signatures: Mapping[str, Any], method_names: Mapping[str, str]) -> None:
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    tf.saved_model.save(model, str(directory), signatures=dict(signatures))
    if method_names:
        # TF2 calls every signature a predict signature.
        updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(directory))
        for signature_name, method_name in method_names.items():
            updater.replace_method_name(signature_key=signature_name, method_name=method_name, tags="serve")
        updater.save()
