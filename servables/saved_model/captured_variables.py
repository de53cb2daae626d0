"""Restores the variables that a SavedModel's own restore op leaves out.

A Keras 3 model that is a part of what `tf.saved_model.save` saved has every variable twice in its graph. The restore op fills
one, the signatures read the other, and a server that runs the restore op only (TF Serving does) answers every request with
"Could not find variable ...". The object graph beside the graph knows better: a function's captures are numbered in it, and
the checkpoint has a value for each number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

_OBJECT_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE_ATTRIBUTE = "VARIABLE_VALUE"


def restore_captured_variables(session: Any, meta_graph: Any, variables_path: str) -> None:
    """Gives their checkpoint values to the captured variables that are still uninitialized; most models have none.

    Called after the restore op has run, before the graph is finalized.
    """
    uninitialized = _uninitialized_handles(session)
    if not uninitialized:
        return
    object_ids = _captured_object_ids(meta_graph)
    reader = tf.train.load_checkpoint(variables_path)
    checkpoint_keys = _checkpoint_keys(reader)
    with session.graph.as_default():
        for handle in uninitialized:
            checkpoint_key = checkpoint_keys.get(object_ids.get(handle.name, -1))
            if checkpoint_key is None:
                continue
            dtype = tf.as_dtype(handle.get_attr("dtype"))
            value = tf.compat.v1.placeholder(dtype)
            assign = tf.raw_ops.AssignVariableOp(resource=handle.outputs[0], value=value)
            session.run(assign, feed_dict={value: reader.get_tensor(checkpoint_key)})


def _uninitialized_handles(session: Any) -> list[Any]:
    handles = [operation for operation in session.graph.get_operations() if operation.type == "VarHandleOp"]
    if not handles:
        return []
    with session.graph.as_default():
        initialized = session.run([tf.raw_ops.VarIsInitializedOp(resource=handle.outputs[0]) for handle in handles])
    return [handle for handle, is_initialized in zip(handles, initialized, strict=True) if not is_initialized]


def _captured_object_ids(meta_graph: Any) -> Mapping[str, int]:
    """Handle's node name -> the object it stands for, from the calls in the graph: captures are a call's last inputs."""
    functions = meta_graph.object_graph_def.concrete_functions
    object_ids: dict[str, int] = {}
    for node in meta_graph.graph_def.node:
        function_name = node.attr["f"].func.name if "f" in node.attr else ""
        if function_name not in functions:
            continue
        captures = functions[function_name].bound_inputs
        arguments = [name for name in node.input if not name.startswith("^")]
        captured = arguments[len(arguments) - len(captures) :]
        object_ids.update(zip(captured, captures, strict=True))
    return object_ids


def _checkpoint_keys(reader: Any) -> Mapping[int, str]:
    if not reader.has_tensor(_OBJECT_GRAPH_KEY):
        return {}
    graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(reader.get_tensor(_OBJECT_GRAPH_KEY))
    return {
        object_id: attribute.checkpoint_key
        for object_id, node in enumerate(graph.nodes)
        for attribute in node.attributes
        if attribute.name == _VALUE_ATTRIBUTE
    }
