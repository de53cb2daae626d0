"""TensorFlow's fastest call path: a session callable. Needs nothing but TensorFlow, so that peers may use it too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2


@dataclass(frozen=True, slots=True)
class SessionCallable:
    """A SavedModel of one input and one output: `run` takes an array and returns one. Shapes are those of a row."""

    run: Callable[[Any], Any]
    input_alias: str
    input_shape: tuple[int, ...]
    output_alias: str
    output_shape: tuple[int, ...]


def session_callable(path: str, *, in_callers_thread: bool) -> SessionCallable:
    """`in_callers_thread` saves the way to TensorFlow's threads, which pays for small models only."""
    threads = -1 if in_callers_thread else 0
    session = tf.compat.v1.Session(
        graph=tf.Graph(), config=tf.compat.v1.ConfigProto(inter_op_parallelism_threads=threads, device_count={"GPU": 0})
    )
    with session.graph.as_default():
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], path)
    signature = loaded.signature_def["serving_default"]
    [(input_alias, fed)] = signature.inputs.items()
    [(output_alias, fetched)] = signature.outputs.items()
    call = session._make_callable_from_options(config_pb2.CallableOptions(feed=[fed.name], fetch=[fetched.name]))
    return SessionCallable(lambda array: call(array)[0], input_alias, _row(fed), output_alias, _row(fetched))


def _row(info: Any) -> tuple[int, ...]:
    return tuple(dimension.size for dimension in info.tensor_shape.dim[1:])
