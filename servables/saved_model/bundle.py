"""Brings a SavedModel into a session (TF Serving: `cc/saved_model/loader.cc` of TensorFlow)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow.python.saved_model.loader_impl import SavedModelLoader

from cluster.core.errors import DataLoss, NotFound
from servables.saved_model.captured_variables import restore_captured_variables
from servables.servable import PlatformOptions

_VARIABLE_OPS = frozenset({"VarHandleOp", "VariableV2", "Variable"})


@dataclass(frozen=True, slots=True)
class SavedModelBundle:
    """A loaded model: the `tf.compat.v1.Session` that holds it, initialized, and the MetaGraphDef it came from."""

    session: Any
    meta_graph: Any

    def close(self) -> None:
        self.session.close()


def load_bundle(path: str, options: PlatformOptions) -> SavedModelBundle:
    """Loads the MetaGraph whose tags are exactly those of the options, restores its variables and runs its init op.

    Raises AspiredError for files that cannot be used, and whatever TensorFlow raises for the rest.
    """
    loader = _open(path)
    tags = options.saved_model_tags
    meta_graph = _find_meta_graph(loader.saved_model, tags)
    session = tf.compat.v1.Session(graph=tf.Graph(), config=session_config(options))
    try:
        saver, _ = loader.load_graph(session.graph, tags)
        if saver is not None and _has_checkpoint(loader.variables_path, meta_graph):
            loader.restore_variables(session, saver)
            restore_captured_variables(session, meta_graph, loader.variables_path)
        loader.run_init_ops(session, tags)
        session.graph.finalize()
    except BaseException:
        session.close()
        raise
    return SavedModelBundle(session, meta_graph)


def session_config(options: PlatformOptions) -> Any:
    """The session's ConfigProto: the one of the options, with what their other fields say.

    Devices that a graph names and this machine lacks are replaced (soft placement), so what was exported on a GPU runs on
    CPUs. GPU memory is taken as it is needed, up to the limit, because a GPU is shared by the versions on it.
    """
    config = tf.compat.v1.ConfigProto.FromString(options.session_config)
    config.allow_soft_placement = True
    if options.intra_op_parallelism_threads:
        config.intra_op_parallelism_threads = options.intra_op_parallelism_threads
    if options.inter_op_parallelism_threads:
        config.inter_op_parallelism_threads = options.inter_op_parallelism_threads
    if options.gpu is None:
        config.device_count["GPU"] = 0
        return config
    config.gpu_options.allow_growth = True
    if options.gpu_memory_bytes is not None:
        virtual_devices = config.gpu_options.experimental.virtual_devices.add()
        virtual_devices.memory_limit_mb.append(options.gpu_memory_bytes / 2**20)
    return config


def _open(path: str) -> SavedModelLoader:
    try:
        return SavedModelLoader(path)
    except OSError as error:
        # The loader's word for a file that does not parse. TensorFlow's own file errors are no OSErrors.
        kind, file_name = ("binary", "saved_model.pb")
        if not os.path.exists(os.path.join(path, file_name)):
            kind, file_name = ("text", "saved_model.pbtxt")
        raise DataLoss(f"Can't parse {os.path.join(path, file_name)} as {kind} proto") from error


def _find_meta_graph(saved_model: Any, tags: Sequence[str]) -> Any:
    for meta_graph in saved_model.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == set(tags):
            return meta_graph
    raise NotFound(
        f"Could not find meta graph def matching supplied tags: {{ {' '.join(tags)} }}. To inspect available tag-sets in "
        "the SavedModel, please use the SavedModel CLI: `saved_model_cli`"
    )


def _has_checkpoint(variables_path: str, meta_graph: Any) -> bool:
    """False for a model without variables, which needs none. A model with variables but without them on disk is a bad copy."""
    index_path = f"{variables_path}.index"
    if tf.io.gfile.exists(index_path):
        return True
    if any(node.op in _VARIABLE_OPS for node in meta_graph.graph_def.node):
        raise NotFound(f"Could not find the variables of the SavedModel: {index_path}")
    return False
