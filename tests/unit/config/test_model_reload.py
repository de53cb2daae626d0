from __future__ import annotations

import pytest

from cluster.config.model_config import ModelConfig, ModelServerConfig
from cluster.config.model_reload import check_reload
from cluster.core.errors import FailedPrecondition, InvalidArgument
from cluster.core.servable_id import ServableId

AVAILABLE = {ServableId("m", 1), ServableId("m", 2)}


def config(platform: str = "tensorflow", name: str = "m", **labels: int) -> ModelServerConfig:
    return ModelServerConfig((ModelConfig(name, "/models/m", platform, version_labels=labels),))


def check(current: ModelServerConfig, requested: ModelServerConfig, *, allow: bool = False) -> None:
    check_reload(current, requested, AVAILABLE, allow_labels_for_unavailable=allow)


def refusal(current: ModelServerConfig, requested: ModelServerConfig, *, allow: bool = False) -> str:
    with pytest.raises(FailedPrecondition) as refused:
        check(current, requested, allow=allow)
    return refused.value.message


@pytest.mark.parametrize("before", [config(), config(stable=1), config(name="other")])
def test_a_label_may_name_any_version_that_is_available(before: ModelServerConfig) -> None:
    check(before, config(stable=2))


@pytest.mark.parametrize("before", [config(), config(stable=1), config(stable=3), config(name="other")])
def test_a_label_may_name_no_other_version(before: ModelServerConfig) -> None:
    assert refusal(before, config(stable=3)) == (
        "Request to assign label to version 3 of model m, which is not currently available for inference"
    )


def test_a_new_label_may_name_what_is_not_available_where_that_is_allowed() -> None:
    check(config(), config(next=3), allow=True)
    check(config(next=3), config(next=3), allow=True)
    check(config(name="other"), config(next=3), allow=True)


def test_a_label_that_moves_may_not_even_there() -> None:
    check(config(stable=1), config(stable=2), allow=True)
    assert "version 3 of model m" in refusal(config(stable=1), config(stable=3), allow=True)


def test_a_model_keeps_its_platform() -> None:
    with pytest.raises(InvalidArgument) as refused:
        check(config(), config("tflite"))
    assert refused.value.message == (
        "Illegal to change a model's platform. For model m platform was tensorflow and new platform requested is tflite"
    )
    check(config(), config("tflite", name="other"))
