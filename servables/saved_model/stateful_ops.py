"""Decides from a graph alone whether running it changes, or depends on, more than its inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

# Ops that TensorFlow calls stateful, or that take a variable by reference, and that are harmless to run again.
_HANDLES = frozenset(
    [
        "VarHandleOp",
        "_VarHandlesOp",
        "Variable",
        "VariableV2",
        "HashTable",
        "HashTableV2",
        "MutableHashTable",
        "MutableHashTableV2",
        "MutableHashTableOfTensors",
        "MutableHashTableOfTensorsV2",
        "MutableDenseHashTable",
        "MutableDenseHashTableV2",
        "RefIdentity",
        "RefSwitch",
        "RefMerge",
        "RefSelect",
        "RefEnter",
        "RefExit",
        "RefNextIteration",
    ]
)
_READS = frozenset(
    [
        "ReadVariableOp",
        "_ReadVariablesOp",
        "ResourceGather",
        "ResourceGatherNd",
        "VariableShape",
        "VarIsInitializedOp",
        "IsVariableInitialized",
        "DisableCopyOnRead",
        "LookupTableFind",
        "LookupTableFindV2",
        "LookupTableSize",
        "LookupTableSizeV2",
        "LookupTableExport",
        "LookupTableExportV2",
        "GuaranteeConst",
    ]
)
_ONE_STEP_ONLY = frozenset(
    [
        "TensorArrayV3",
        "TensorArrayReadV3",
        "TensorArrayWriteV3",
        "TensorArrayGatherV3",
        "TensorArrayScatterV3",
        "TensorArrayConcatV3",
        "TensorArraySplitV3",
        "TensorArraySizeV3",
        "TensorArrayCloseV3",
        "StackV2",
        "StackPushV2",
        "StackPopV2",
        "StackCloseV2",
        "Empty",
    ]
)
_CHECKS = frozenset(["Assert", "CheckNumerics", "CheckNumericsV2", "Print", "PrintV2", "IsTensorFloat32Enabled"])
_CALLS = frozenset(["StatefulPartitionedCall", "If", "While", "Case", "XlaLaunch", "XlaCallModule"])
_HARMLESS = _HANDLES | _READS | _ONE_STEP_ONLY | _CHECKS | _CALLS

OpDefOf = Callable[[str], Any]


def keeps_state(graph_def: Any, signature_defs: Iterable[Any], op_def_of: OpDefOf) -> bool:
    """True if a run of some signature writes a variable or table, draws a random number, or calls out of the graph.

    Only what the outputs need counts, up to the tensors that are fed; saving, restoring and initializing are not part of a
    run. Inside a function everything counts, as the runtime keeps a function's stateful ops.
    `op_def_of` gives an op's OpDef by name, None for an unknown op, which then counts as stateful.
    """
    functions = {function.signature.name: function for function in graph_def.library.function}
    visited_functions: set[str] = set()

    def node_keeps_state(node: Any) -> bool:
        is_call = node.op in functions
        if not is_call and node.op not in _HARMLESS and _is_stateful(op_def_of(node.op)):
            return True
        called = [*_function_names(node), *([node.op] if is_call else [])]
        return any(function_keeps_state(name) for name in called)

    def function_keeps_state(name: str) -> bool:
        if name in visited_functions or name not in functions:
            return False
        visited_functions.add(name)
        return any(node_keeps_state(node) for node in functions[name].node_def)

    nodes = {node.name: node for node in graph_def.node}
    return any(
        node_keeps_state(nodes[name]) for signature_def in signature_defs for name in _nodes_to_run(nodes, signature_def)
    )


def _is_stateful(op_def: Any) -> bool:
    return op_def is None or op_def.is_stateful or any(argument.is_ref for argument in op_def.input_arg)


def _function_names(node: Any) -> list[str]:
    names: list[str] = []
    for attribute in node.attr.values():
        if attribute.HasField("func"):
            names.append(attribute.func.name)
        names.extend(function.name for function in attribute.list.func)
    return names


def _nodes_to_run(nodes: Mapping[str, Any], signature_def: Any) -> set[str]:
    fed = {_node_name(tensor_info.name) for tensor_info in signature_def.inputs.values()}
    pending = [name for tensor_info in signature_def.outputs.values() for name in _tensor_nodes(tensor_info)]
    reached: set[str] = set()
    while pending:
        name = pending.pop()
        if name in reached or name in fed or name not in nodes:
            continue
        reached.add(name)
        pending.extend(_node_name(tensor) for tensor in nodes[name].input)
    return reached


def _tensor_nodes(tensor_info: Any) -> list[str]:
    if tensor_info.HasField("coo_sparse"):
        sparse = tensor_info.coo_sparse
        tensors = [sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name]
    else:
        tensors = [tensor_info.name, *(component.name for component in tensor_info.composite_tensor.components)]
    return [_node_name(tensor) for tensor in tensors]


def _node_name(tensor: str) -> str:
    """`scope/op:1`, or `^scope/op` for a control input, without what is not the node's name."""
    return tensor.removeprefix("^").partition(":")[0]
