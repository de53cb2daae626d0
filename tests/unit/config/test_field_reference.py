from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from cluster.config.batching_parameters import BatchingParameters
from cluster.config.field_reference import field_reference
from cluster.config.native_config import parse_native_config
from cluster.config.native_fields import NativeConfigFields, PlatformOptionFields
from cluster.config.server_options import SERVER_FLAGS
from servables.servable import PlatformOptions

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "configuration.md").read_text()


def test_the_page_ends_with_what_the_fields_say() -> None:
    fields = field_reference()
    assert PAGE.endswith(f"## Fields\n\n{fields}"), "put what python -m cluster.config.field_reference prints under Fields"


def test_every_field_has_a_meaning() -> None:
    rows = [line for line in field_reference().splitlines() if line.startswith("| `")]
    assert all(re.fullmatch(r"\| `\w+` \| [^|]+ \| [^|]* \| [^|]* \| [^|]+\. \|", row) for row in rows)
    for field in (*NativeConfigFields.model_fields, *BatchingParameters.model_fields):
        assert any(row.startswith(f"| `{field}` |") for row in rows)


def test_flags_that_stand_for_fields_exist() -> None:
    assert set(re.findall(r"`--(\w+)`", field_reference())) <= SERVER_FLAGS.keys()


def test_every_platform_option_can_be_said_but_for_those_that_are_the_servers_or_the_ledgers() -> None:
    options = {field.name for field in dataclasses.fields(PlatformOptions)}
    assert options - {"session_config", "gpu", "gpu_memory_bytes"} == PlatformOptionFields.model_fields.keys()


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_the_examples_of_the_page_are_valid(example: str) -> None:
    assert parse_native_config(example, "example.yaml").models


def test_the_sample_is_valid_and_shows_a_setting_of_each_kind() -> None:
    path = ROOT / "configs" / "models.yaml"
    models = parse_native_config(path.read_text(), str(path)).models
    assert [model.name for model in models] == ["half_plus_two", "mlp", "chopsticks"]
    mlp, chopsticks = (model.settings for model in models[1:])
    assert mlp.replicas == 2
    assert isinstance(mlp.serving.batching, BatchingParameters)
    assert chopsticks.serving.batching == mlp.serving.batching.model_copy(update={"batch_timeout_micros": 0})
