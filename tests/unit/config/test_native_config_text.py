from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cluster.config.model_config import All, Latest, ModelConfig, ModelServerConfig, Specific, parse_model_server_config
from cluster.config.native_config import parse_native_config
from cluster.config.native_config_text import BEYOND_TEXT, native_config_text
from cluster.core.request_logging import RequestLogging

MODELS_CONFIG = Path(__file__).parents[3] / "configs" / "models.config"

POLICIES = st.sampled_from([Latest(), Latest(3), All(), Specific(frozenset()), Specific(frozenset({2, 1}))])
MODELS = st.builds(
    ModelConfig,
    name=st.text(min_size=1),
    base_path=st.builds("/{}".format, st.text()),
    platform=st.sampled_from(["tensorflow", "hashmap"]),
    version_policy=POLICIES,
    version_labels=st.dictionaries(st.text(), st.integers(0, 2**63 - 1), max_size=2),
    request_logging=st.none() | st.just(RequestLogging("/var/log/m", 0.5)),
)


@given(st.lists(MODELS, max_size=3, unique_by=lambda model: model.name), st.text())
def test_reads_back_as_the_models_it_was_made_of(models: list[ModelConfig], source: str) -> None:
    config = ModelServerConfig(tuple(models))
    assert parse_native_config(native_config_text(config, source), "models.yaml") == config


def test_explains_each_field_once_and_shows_what_the_text_form_has_no_words_for() -> None:
    models = parse_model_server_config(MODELS_CONFIG.read_text(), str(MODELS_CONFIG))
    text = native_config_text(models, "configs/models.config")
    assert text.startswith("# The models of a server, converted from models.config.\n")
    assert text.count("# Which of them are served") == 1
    assert text.count("# replicas: 2") == 1
    assert parse_native_config(text, "models.yaml") == models


def test_the_fields_that_it_shows_work() -> None:
    comment, *fields = BEYOND_TEXT.splitlines()
    model = native_config_text(ModelServerConfig((ModelConfig("m", "/m"),)), "models.config")
    for field in fields:
        assert f"    # {field}\n" in model
        model = model.replace(f"    # {field}", f"    {field}")
    (read,) = parse_native_config(model, "models.yaml").models
    assert read.settings.replicas == 2
    assert read.settings.serving.warmup.iterations == 3
    assert comment in model
