"""SavedModels behind both protocols: what only TensorFlow itself decides.

half_plus_two   the sample model: x of shape [-1, 1]; its examples are parsed by the graph
unnamed         classifies and regresses by signatures that say predict, as every TF2 export does; one takes nothing
types           passes one tensor through, a signature for each type that can be fed
"""

# TensorFlow has no types.
# mypy: disable-error-code="misc, untyped-decorator"

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from scripts.sample_models import export_half_plus_two
from servables.platforms import platform
from servables.proto_codec import array_to_tensor
from servables.servable import PlatformOptions
from servables.tensors import DataType, string_array, to_numpy
from tests.contract import test_grpc, test_rest
from tests.contract.contract_models import ContractServer, contract_server

CASES = Path(__file__).parent / "cases" / "saved_model"
FED = sorted(set(DataType) - {DataType.DT_INVALID, DataType.DT_RESOURCE, DataType.DT_VARIANT})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContractServer]:
    exports = tmp_path_factory.mktemp("exports")
    export_half_plus_two(exports / "half_plus_two", 1)
    export_unnamed(exports / "unnamed" / "1")
    export_types(exports / "types" / "1")
    with ExitStack() as stack:
        models = {}
        for name in ("half_plus_two", "unnamed", "types"):
            models[name] = platform("tensorflow").load(str(exports / name / "1"), PlatformOptions())
            stack.callback(models[name].close)
        yield stack.enter_context(contract_server(models))


@pytest.fixture(scope="module")
def stubs(server: ContractServer) -> Iterator[test_grpc.Stubs]:
    with test_grpc.connect(server) as channel:
        yield test_grpc.Stubs(channel)


def export_unnamed(path: Path) -> None:
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def classify(inputs: Any) -> dict[str, Any]:
        return {"scores": tf.ones_like(tf.strings.length(inputs), tf.float32)[:, tf.newaxis]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def regress(inputs: Any) -> dict[str, Any]:
        return {"outputs": tf.ones_like(tf.strings.length(inputs), tf.float32)}

    @tf.function(input_signature=[])
    def constant() -> dict[str, Any]:
        return {"y": tf.constant([1.0])}

    tf.saved_model.save(module, str(path), signatures={"classify": classify, "regress": regress, "constant": constant})


def export_types(path: Path) -> None:
    v1 = tf.compat.v1
    signatures = {}
    with tf.Graph().as_default(), v1.Session() as session:
        for data_type in FED:
            x = v1.placeholder(data_type.value, [None], f"x_{data_type.label}")
            y = tf.identity(x, f"y_{data_type.label}")
            signatures[data_type.label] = v1.saved_model.predict_signature_def({"x": x}, {"y": y})
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()


@pytest.mark.parametrize("case", test_rest.cases(CASES, "rest.json"))
def test_rest_answers_as_tf_serving(server: ContractServer, case: dict[str, Any]) -> None:
    test_rest.assert_answers(server, case)


@pytest.mark.parametrize("case", test_grpc.cases(CASES, "grpc.json"))
def test_grpc_answers_as_tf_serving(stubs: test_grpc.Stubs, case: dict[str, Any]) -> None:
    test_grpc.assert_answers(stubs, case)


@pytest.mark.parametrize("as_content", [False, True], ids=["values", "content"])
@pytest.mark.parametrize("data_type", FED, ids=[data_type.label for data_type in FED])
def test_every_type_that_can_be_fed_goes_through_the_model(
    stubs: test_grpc.Stubs, data_type: DataType, as_content: bool
) -> None:
    values = string_array([b"one", b"\xff\x00"]) if data_type is DataType.DT_STRING else np.array([1, 0], to_numpy(data_type))
    in_fields = array_to_tensor(values, data_type, as_content=False)
    request = test_grpc.REQUESTS["Predict"]()
    request.model_spec.name = "types"
    request.model_spec.signature_name = data_type.label
    sent = array_to_tensor(values, data_type, as_content=as_content)
    request.inputs["x"].MergeFromString(sent.SerializeToString())
    response = stubs.method("Predict")(request, timeout=test_grpc.TIMEOUT_S)
    assert response.outputs["y"].SerializeToString() == in_fields.SerializeToString()
