"""Which graphs may be run a second time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from servables.saved_model.bundle import load_bundle
from servables.saved_model.signature_defs import serving_signature_defs
from servables.saved_model.stateful_ops import keeps_state
from servables.servable import PlatformOptions


@pytest.fixture(scope="module")
def signature_keeps_state() -> Callable[[Path, str], bool]:
    bundles: dict[Path, Any] = {}

    def ask(path: Path, name: str) -> bool:
        if path not in bundles:
            bundle = load_bundle(str(path), PlatformOptions())
            bundles[path] = bundle.meta_graph
            bundle.close()
        definitions = serving_signature_defs(bundles[path])
        return keeps_state(bundles[path].graph_def, [definitions[name]], op_def_registry.get)

    return ask


@pytest.mark.parametrize("name", ["pure", "endless", "divide", "looped"])
def test_reading_variables_and_tables_is_no_state(
    signature_keeps_state: Callable[[Path, str], bool], module_path: Path, name: str
) -> None:
    assert not signature_keeps_state(module_path, name)


@pytest.mark.parametrize("name", ["counting", "noisy", "generating", "learning"])
def test_writing_and_drawing_random_numbers_are_state_however_deep(
    signature_keeps_state: Callable[[Path, str], bool], module_path: Path, name: str
) -> None:
    assert signature_keeps_state(module_path, name)


@pytest.mark.parametrize(("name", "expected"), [("serving_default", False), ("twins", False), ("bump", True)])
def test_a_random_initializer_is_no_state_but_an_assignment_is(
    signature_keeps_state: Callable[[Path, str], bool], tf1_path: Path, name: str, expected: bool
) -> None:
    assert signature_keeps_state(tf1_path, name) is expected


def test_one_signature_with_state_makes_the_model_stateful(module_path: Path) -> None:
    bundle = load_bundle(str(module_path), PlatformOptions())
    definitions = serving_signature_defs(bundle.meta_graph)
    assert keeps_state(bundle.meta_graph.graph_def, definitions.values(), op_def_registry.get)
    bundle.close()


def graph_of(*nodes: tuple[str, str, list[str]]) -> Any:
    graph_def = tf.compat.v1.GraphDef()
    for name, op, inputs in nodes:
        graph_def.node.add(name=name, op=op, input=inputs)
    return graph_def


def signature_of(inputs: list[str], outputs: list[str]) -> Any:
    definition = tf.compat.v1.saved_model.signature_def_utils.build_signature_def()
    for tensor in inputs:
        definition.inputs[tensor].name = tensor
    for tensor in outputs:
        definition.outputs[tensor].name = tensor
    return definition


def test_what_a_feed_replaces_does_not_run() -> None:
    graph_def = graph_of(("noise", "RandomUniform", []), ("y", "Neg", ["noise"]))
    assert keeps_state(graph_def, [signature_of([], ["y:0"])], op_def_registry.get)
    assert not keeps_state(graph_def, [signature_of(["noise:0"], ["y:0"])], op_def_registry.get)


def test_what_an_output_waits_for_runs_too() -> None:
    graph_def = graph_of(("write", "AssignVariableOp", []), ("x", "Placeholder", []), ("y", "Neg", ["x", "^write"]))
    assert keeps_state(graph_def, [signature_of(["x:0"], ["y:0"])], op_def_registry.get)


def test_an_op_nobody_knows_counts_as_stateful() -> None:
    graph_def = graph_of(("y", "Novelty", []))
    assert keeps_state(graph_def, [signature_of([], ["y:0"])], op_def_registry.get)


def test_a_function_that_calls_itself_is_looked_at_once() -> None:
    graph_def = graph_of(("y", "recursive", []))
    function = graph_def.library.function.add()
    function.signature.name = "recursive"
    function.node_def.add(name="again", op="recursive")
    assert not keeps_state(graph_def, [signature_of([], ["y:0"])], op_def_registry.get)
    function.node_def.add(name="noise", op="RandomUniform")
    assert keeps_state(graph_def, [signature_of([], ["y:0"])], op_def_registry.get)


def test_the_parts_of_a_sparse_output_count() -> None:
    graph_def = graph_of(("values", "RandomUniform", []))
    definition = signature_of([], [])
    definition.outputs["sparse"].coo_sparse.values_tensor_name = "values:0"
    assert keeps_state(graph_def, [definition], op_def_registry.get)
