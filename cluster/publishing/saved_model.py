"""Whether a directory is a SavedModel that has all its parts, and how it is asked; read without TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from cluster.core.errors import DataLoss, FailedPrecondition, InvalidArgument
from cluster.protos import MetaGraphDef, SavedModel, SignatureDefMap
from servables.signatures import Signature, decode_signatures

SAVED_MODEL_NAMES = ("saved_model.pb", "saved_model.pbtxt")
_SERVE = frozenset({"serve"})
_INDEX = "variables/variables.index"
_SHARD = re.compile(r"variables/variables\.data-(\d{5})-of-(\d{5})")
_VARIABLE_OPS = frozenset({"VarHandleOp", "VariableV2", "Variable"})
# TensorFlow keeps a SavedModel's initializer and training step as signatures; no client sees them.
_INTERNAL_KEYS = frozenset({"__saved_model_init_op", "__saved_model_train_op"})


def check_saved_model(root: Path, names: Set[str]) -> tuple[Mapping[str, Signature], tuple[str, ...]]:
    """The signatures of the SavedModel in `root`, whose files have these names, and remarks about it.

    Raises InvalidArgument for what is none, FailedPrecondition when a part of it is not there.
    """
    file_name = next((name for name in SAVED_MODEL_NAMES if name in names), None)
    if file_name is None:
        raise FailedPrecondition(f"{root} holds no {SAVED_MODEL_NAMES[0]}: it is not a SavedModel")
    saved_model = _read(root / file_name)
    if not saved_model.meta_graphs:
        raise InvalidArgument(f"{root / file_name} holds no graph: it is not a SavedModel")
    served = [meta_graph for meta_graph in saved_model.meta_graphs if set(meta_graph.meta_info_def.tags) == _SERVE]
    meta_graph = served[0] if served else saved_model.meta_graphs[0]
    _check_variables(root, names, meta_graph)
    for asset in meta_graph.asset_file_def:
        if f"assets/{asset.filename}" not in names:
            raise _missing(root, f"assets/{asset.filename}", "which the graph reads")
    signatures = _signatures(meta_graph, root / file_name)
    remarks = []
    if not served:
        tags = " or ".join(f"{{{', '.join(sorted(graph.meta_info_def.tags))}}}" for graph in saved_model.meta_graphs)
        remarks.append(f"No graph has the tag {{serve}} alone: a server needs --saved_model_tags for {tags}.")
    if not signatures:
        remarks.append("It has no signatures: a server can load it, but no request can be sent to it.")
    return signatures, tuple(remarks)


def _read(file: Path) -> Any:
    saved_model = SavedModel()
    try:
        content = file.read_bytes()
        if file.suffix == ".pb":
            saved_model.ParseFromString(content)
        else:
            text_format.Parse(content, saved_model, allow_unknown_field=True)
    except (DecodeError, text_format.ParseError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{file} is not a SavedModel: it cannot be parsed") from error
    return saved_model


def _check_variables(root: Path, names: Set[str], meta_graph: MetaGraphDef) -> None:
    if _INDEX not in names:
        if any(node.op in _VARIABLE_OPS for node in meta_graph.graph_def.node):
            raise _missing(root, _INDEX, "and the graph has variables")
        return
    shards = [match for name in names if (match := _SHARD.fullmatch(name))]
    counts = {int(match[2]) for match in shards}
    if not counts:
        raise _missing(root, "variables/variables.data-00000-of-00001", "of which variables.index tells")
    if len(counts) > 1:
        raise FailedPrecondition(
            f"{root}/variables is of several exports, with {' and '.join(map(str, sorted(counts)))} parts: export it anew"
        )
    (count,) = counts
    there = {int(match[1]) for match in shards}
    for number in range(count):
        if number not in there:
            raise _missing(root, f"variables/variables.data-{number:05d}-of-{count:05d}", f"one of {count} parts")


def _missing(root: Path, name: str, why: str) -> FailedPrecondition:
    return FailedPrecondition(f"{root / name} is missing, {why}: the export is not whole")


def _signatures(meta_graph: MetaGraphDef, file: Path) -> Mapping[str, Signature]:
    told = SignatureDefMap()
    for name, definition in meta_graph.signature_def.items():
        if name not in _INTERNAL_KEYS:
            told.signature_def[name].CopyFrom(definition)
    try:
        return decode_signatures(told.SerializeToString())
    except DataLoss as error:
        raise InvalidArgument(f"{file}: its signatures cannot be read") from error
