"""TFLite models answer through the same API as SavedModels.

model       a signature for each of several methods of `tests.fakes.tflite_models.Module`
unsigned    half_plus_two, without signatures
quantized   integers of 8 bits in and out
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from servables.platforms import platform
from servables.servable import PlatformOptions
from tests.contract import test_grpc, test_rest
from tests.contract.contract_models import ContractServer, contract_server
from tests.fakes import tflite_models

CASES = Path(__file__).parent / "cases" / "tflite"
OPTIONS = PlatformOptions(prefer_tflite_model=True, num_tflite_pools=2)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContractServer]:
    exports = tmp_path_factory.mktemp("exports")
    methods = {name: name for name in ("half_plus_two", "pick", "project")}
    contents = {
        "model": tflite_models.convert(exports / "model", **methods),
        "unsigned": tflite_models.without_signatures(
            tflite_models.convert(exports / "unsigned", serving_default="half_plus_two")
        ),
        "quantized": tflite_models.convert_quantized(exports / "quantized", tf.uint8),
    }
    with ExitStack() as stack:
        models = {}
        for name, content in contents.items():
            version = tflite_models.write(content, exports / f"{name}_version" / "1")
            models[name] = platform("tensorflow").load(str(version), OPTIONS)
            stack.callback(models[name].close)
        yield stack.enter_context(contract_server(models))


@pytest.fixture(scope="module")
def stubs(server: ContractServer) -> Iterator[test_grpc.Stubs]:
    with test_grpc.connect(server) as channel:
        yield test_grpc.Stubs(channel)


@pytest.mark.parametrize("case", test_grpc.cases(CASES, "grpc.json"))
def test_grpc_answers_as_tf_serving(stubs: test_grpc.Stubs, case: dict[str, Any]) -> None:
    test_grpc.assert_answers(stubs, case)


@pytest.mark.parametrize("case", test_rest.cases(CASES, "rest.json"))
def test_rest_answers_as_tf_serving(server: ContractServer, case: dict[str, Any]) -> None:
    test_rest.assert_answers(server, case)
