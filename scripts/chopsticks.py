"""The classifier that is trained on the chopstick data set."""

# TensorFlow has no types, and its classes and decorators are used throughout.
# mypy: disable-error-code="misc, untyped-decorator"

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from scripts.measurements import BEST_LENGTH_MM, CLASSES, PERSONS, SEED, Measurements, generate_measurements


class ChopstickClassifier(tf.Module):
    """Length and person -> class probabilities and an efficiency score. Takes raw values: scaling is part of the graph.

    `persons` is the highest number of a person who took part.
    """

    def __init__(self, persons: int = PERSONS) -> None:
        super().__init__()
        self._persons = persons
        rng = np.random.default_rng(SEED)
        self._person_vector = tf.Variable(np.zeros((persons + 1, 4), np.float32))
        self._hidden_kernel = tf.Variable(rng.normal(0.0, 0.5, (6, 32)).astype(np.float32))
        self._hidden_bias = tf.Variable(np.zeros(32, np.float32))
        self._class_kernel = tf.Variable(np.zeros((32, len(CLASSES)), np.float32))
        self._class_bias = tf.Variable(np.zeros(len(CLASSES), np.float32))
        self._score_kernel = tf.Variable(np.zeros((32, 1), np.float32))
        self._score_bias = tf.Variable(np.zeros(1, np.float32))

    def logits_and_score(self, length_mm: Any, person: Any) -> tuple[Any, Any]:
        """Logits [rows, classes] and efficiency [rows]. A person who took no part counts as an average one."""
        scaled = tf.reshape((length_mm - BEST_LENGTH_MM) / 50.0, [-1])
        person = tf.reshape(person, [-1])
        row = tf.where((person >= 1) & (person <= self._persons), person, tf.zeros_like(person))
        features = tf.concat([tf.stack([scaled, scaled**2], axis=1), tf.gather(self._person_vector, row)], axis=1)
        hidden = tf.nn.tanh(features @ self._hidden_kernel + self._hidden_bias)
        logits = hidden @ self._class_kernel + self._class_bias
        return logits, 10.0 * (hidden @ self._score_kernel + self._score_bias)[:, 0]

    def generalise(self, took_part: Any) -> None:
        """Makes everybody but those who took part the average person: what these have in common."""
        vectors = self._person_vector.numpy()
        absent = ~np.isin(np.arange(len(vectors)), took_part)
        vectors[absent] = vectors[~absent].mean(axis=0)
        self._person_vector.assign(vectors)

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


def train(data: Measurements, *, steps: int = 600) -> ChopstickClassifier:
    """Full-batch gradient descent with momentum on the classes and the scores together; the same data give the same model."""
    model = ChopstickClassifier(max(PERSONS, int(data.person.max())))
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
    model.generalise(data.person)
    return model


def train_and_evaluate() -> tuple[ChopstickClassifier, Measurements, float]:
    """A model trained on four fifths of the first month, all of its data, and the accuracy on the other fifth."""
    data = generate_measurements()
    held_back = data.held_back()
    model = train(data.rows(~held_back))
    test = data.rows(held_back)
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
