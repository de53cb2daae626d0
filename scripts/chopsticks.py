"""The chopstick data set and the classifier that is trained on it.

Which chopsticks are best to eat with? The question comes from a study of 1991 in which 31 people pinched food with
chopsticks of six lengths. These data are not that study's: they are drawn from a model of our own with the same design,
so that they have something to learn (a best length, and skilful and clumsy people) and may be given to anyone.
"""

# TensorFlow has no types, and its classes and decorators are used throughout.
# mypy: disable-error-code="misc, untyped-decorator"

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

LENGTHS_MM = (180, 210, 240, 270, 300, 330)
PERSONS = 31
TRIALS = 8
CLASSES = ("low", "medium", "high")

_BEST_LENGTH_MM = 240.0
_SEED = 1991


@dataclass(frozen=True, slots=True)
class Measurements:
    """One row a trial: `person` is 1..31, `efficiency` the score of food pinched, `label` indexes `CLASSES`."""

    length_mm: NDArray[np.float32]
    person: NDArray[np.int64]
    efficiency: NDArray[np.float32]
    label: NDArray[np.int64]

    def rows(self, chosen: NDArray[np.bool_]) -> Measurements:
        return Measurements(self.length_mm[chosen], self.person[chosen], self.efficiency[chosen], self.label[chosen])

    def to_csv(self) -> str:
        header = "length_mm,person,efficiency,class"
        columns = zip(self.length_mm, self.person, self.efficiency, self.label, strict=True)
        lines = [f"{length:.0f},{person},{efficiency:.2f},{CLASSES[label]}" for length, person, efficiency, label in columns]
        return "\n".join([header, *lines, ""])


def generate_measurements() -> Measurements:
    """The data set; the same one every time. A third of the rows is in each class."""
    rng = np.random.default_rng(_SEED)
    skill = rng.normal(0.0, 4.0, PERSONS + 1)
    best_length_mm = rng.normal(_BEST_LENGTH_MM, 12.0, PERSONS + 1)
    person, length_mm = (
        column.reshape(-1).repeat(TRIALS) for column in np.meshgrid(np.arange(1, PERSONS + 1), LENGTHS_MM, indexing="ij")
    )
    off_mm = length_mm - best_length_mm[person]
    efficiency = 26.0 + skill[person] - (off_mm / 30.0) ** 2 + rng.normal(0.0, 1.2, person.size)
    label = np.digitize(efficiency, np.quantile(efficiency, [1 / 3, 2 / 3]))
    return Measurements(length_mm.astype(np.float32), person.astype(np.int64), efficiency.astype(np.float32), label)


class ChopstickClassifier(tf.Module):
    """Length and person -> class probabilities and an efficiency score. Takes raw values: scaling is part of the graph."""

    def __init__(self) -> None:
        super().__init__()
        rng = np.random.default_rng(_SEED)
        self._person_vector = tf.Variable(np.zeros((PERSONS + 1, 4), np.float32))
        self._hidden_kernel = tf.Variable(rng.normal(0.0, 0.5, (6, 32)).astype(np.float32))
        self._hidden_bias = tf.Variable(np.zeros(32, np.float32))
        self._class_kernel = tf.Variable(np.zeros((32, len(CLASSES)), np.float32))
        self._class_bias = tf.Variable(np.zeros(len(CLASSES), np.float32))
        self._score_kernel = tf.Variable(np.zeros((32, 1), np.float32))
        self._score_bias = tf.Variable(np.zeros(1, np.float32))

    def logits_and_score(self, length_mm: Any, person: Any) -> tuple[Any, Any]:
        """Logits [rows, classes] and efficiency [rows]. A person who took no part counts as an average one."""
        scaled = tf.reshape((length_mm - _BEST_LENGTH_MM) / 50.0, [-1])
        person = tf.reshape(person, [-1])
        row = tf.where((person >= 1) & (person <= PERSONS), person, tf.zeros_like(person))
        features = tf.concat([tf.stack([scaled, scaled**2], axis=1), tf.gather(self._person_vector, row)], axis=1)
        hidden = tf.nn.tanh(features @ self._hidden_kernel + self._hidden_bias)
        logits = hidden @ self._class_kernel + self._class_bias
        return logits, 10.0 * (hidden @ self._score_kernel + self._score_bias)[:, 0]

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.float32, "length_mm"), tf.TensorSpec([None], tf.int64, "person")],
    )
    def predict(self, length_mm: Any, person: Any) -> dict[str, Any]:
        logits, _ = self.logits_and_score(length_mm, person)
        label = tf.gather(tf.constant(CLASSES), tf.argmax(logits, axis=1))
        return {"probabilities": tf.nn.softmax(logits), "label": label}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def classify(self, inputs: Any) -> dict[str, Any]:
        logits, _ = self.logits_and_score(*_parse_examples(inputs))
        classes = tf.tile(tf.constant([CLASSES]), [tf.shape(logits)[0], 1])
        return {"classes": classes, "scores": tf.nn.softmax(logits)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def regress(self, inputs: Any) -> dict[str, Any]:
        _, score = self.logits_and_score(*_parse_examples(inputs))
        return {"outputs": score}


def train(model: ChopstickClassifier, data: Measurements, *, steps: int = 600) -> None:
    """Full-batch gradient descent with momentum on the classes and the scores together."""
    variables = model.trainable_variables
    velocities = [tf.Variable(tf.zeros_like(variable)) for variable in variables]

    @tf.function
    def descend() -> None:
        for _ in tf.range(steps):
            with tf.GradientTape() as tape:
                logits, score = model.logits_and_score(data.length_mm, data.person)
                cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=data.label, logits=logits)
                square_error = tf.square((score - data.efficiency) / 10.0)
                loss = tf.reduce_mean(cross_entropy) + tf.reduce_mean(square_error)
            gradients, _ = tf.clip_by_global_norm(tape.gradient(loss, variables), 1.0)
            for variable, velocity, gradient in zip(variables, velocities, gradients, strict=True):
                velocity.assign(0.9 * velocity + gradient)
                variable.assign_sub(0.1 * velocity)

    descend()


def train_and_evaluate() -> tuple[ChopstickClassifier, Measurements, float]:
    """A model trained on four fifths of the trials, the whole data set, and the accuracy on the other fifth."""
    data = generate_measurements()
    held_out = np.random.default_rng(_SEED).random(data.label.size) < 0.2
    model = ChopstickClassifier()
    train(model, data.rows(~held_out))
    # The average person: what the people who took part have in common.
    model._person_vector[0].assign(tf.reduce_mean(model._person_vector[1:], axis=0))
    test = data.rows(held_out)
    logits, _ = model.logits_and_score(test.length_mm, test.person)
    accuracy = float(np.mean(np.argmax(logits.numpy(), axis=1) == test.label))
    return model, data, accuracy


def _parse_examples(serialized: Any) -> tuple[Any, Any]:
    features = {
        "length_mm": tf.io.FixedLenFeature([], tf.float32),
        "person": tf.io.FixedLenFeature([], tf.int64, default_value=0),
    }
    parsed = tf.io.parse_example(serialized, features)
    return parsed["length_mm"], parsed["person"]
