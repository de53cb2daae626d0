"""Exports as TensorFlow writes them, made without it: small, whole, and of any number of files."""

from __future__ import annotations

from pathlib import Path

from cluster.protos import MetaGraphDef, SavedModel
from servables.signatures import PREDICT_METHOD_NAME, Signature, TensorInfo, signature_def
from servables.tensors import DataType

X = TensorInfo("x:0", DataType.DT_FLOAT, (-1, 3))
Y = TensorInfo("y:0", DataType.DT_FLOAT, None)


def write_export(directory: Path, *, assets: int = 0, size_bytes: int = 20, tags: tuple[str, ...] = ("serve",)) -> Path:
    """A SavedModel with one variable of `size_bytes` and so many assets; returns its directory."""
    (directory / "variables").mkdir(parents=True)
    meta_graph = MetaGraphDef()
    meta_graph.meta_info_def.tags.extend(tags)
    meta_graph.graph_def.node.add(name="v", op="VarHandleOp")
    signature = Signature(PREDICT_METHOD_NAME, {"x": X}, {"y": Y})
    meta_graph.signature_def["serving_default"].CopyFrom(signature_def(signature))
    meta_graph.signature_def["__saved_model_init_op"].method_name = "none"
    for number in range(assets):
        meta_graph.asset_file_def.add(filename=f"words-{number}.txt")
        (directory / "assets").mkdir(exist_ok=True)
        (directory / "assets" / f"words-{number}.txt").write_text(f"word {number}\n")
    saved_model = SavedModel(saved_model_schema_version=1, meta_graphs=[meta_graph])
    (directory / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    (directory / "variables" / "variables.index").write_bytes(b"index")
    (directory / "variables" / "variables.data-00000-of-00001").write_bytes(b"v" * size_bytes)
    return directory
