from __future__ import annotations

import pytest

from cluster.config.model_config import (
    All,
    Latest,
    ModelConfig,
    ModelServerConfig,
    Specific,
    VersionPolicy,
    parse_model_server_config,
)
from cluster.core.errors import ConfigError
from cluster.core.request_logging import RequestLogging


def parse(text: str) -> ModelServerConfig:
    return parse_model_server_config(text, "/models/models.config")


def parse_model(fields: str) -> ModelConfig:
    (model,) = parse(f"model_config_list {{ config {{ name: 'm' base_path: '/models/m' {fields} }} }}").models
    return model


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        parse(text)
    assert "\n" not in refused.value.message
    return refused.value.message


def test_reads_the_example_of_tensorflow_servings_guide() -> None:
    config = parse(
        """
        # Comments and commas between fields are allowed.
        model_config_list {
          config {
            name: 'my_first_model',
            base_path: '/tmp/my_first_model/',
            model_platform: 'tensorflow'
          }
          config {
            name: 'my_second_model'
            base_path: 's3://bucket/my_second_model'
            model_platform: 'tensorflow'
            model_version_policy { specific { versions: 42 versions: 43 } }
          }
        }
        """
    )
    assert config == ModelServerConfig(
        (
            ModelConfig("my_first_model", "/tmp/my_first_model/"),
            ModelConfig("my_second_model", "s3://bucket/my_second_model", version_policy=Specific(frozenset({42, 43}))),
        )
    )


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", Latest(1)),
        ("model_version_policy {}", Latest(1)),
        ("model_version_policy { latest {} }", Latest(1)),
        ("model_version_policy { latest { num_versions: 0 } }", Latest(1)),
        ("model_version_policy { latest { num_versions: 3 } }", Latest(3)),
        ("model_version_policy { all {} }", All()),
        ("model_version_policy { specific { versions: 7 versions: 7 } }", Specific(frozenset({7}))),
        ("model_version_policy { specific {} }", Specific(frozenset())),
    ],
)
def test_reads_version_policies(text: str, policy: VersionPolicy) -> None:
    assert parse_model(f"model_platform: 'tensorflow' {text}").version_policy == policy


def test_reads_the_deprecated_model_type() -> None:
    assert parse_model("model_type: TENSORFLOW").platform == "tensorflow"


def test_reads_version_labels() -> None:
    model = parse_model("model_platform: 'tensorflow' version_labels { key: 'stable' value: 3 }")
    assert model.version_labels == {"stable": 3}


@pytest.mark.parametrize("collector", ["", "type: 'file'"])
def test_reads_which_requests_are_logged(collector: str) -> None:
    model = parse_model(
        f"model_platform: 'tensorflow' logging_config {{ log_collector_config {{ {collector} filename_prefix: '/logs/m' }} "
        "sampling_config { sampling_rate: 0.25 } }"
    )
    assert model.request_logging == RequestLogging("/logs/m", 0.25)
    assert parse_model("model_platform: 'tensorflow'").request_logging is None


@pytest.mark.parametrize(
    ("collector", "sampling", "message"),
    [
        ("", "sampling_rate: 1", "filename_prefix: '' is not absolute; give a path such as '/var/log/aspired/my_model'"),
        (
            "filename_prefix: 'logs/m'",
            "sampling_rate: 1",
            "filename_prefix: 'logs/m' is not absolute; give a path such as '/var/log/aspired/my_model'",
        ),
        (
            "filename_prefix: 'gs://logs/m'",
            "sampling_rate: 1",
            "filename_prefix: 'gs://logs/m': expected a path, as in '/var/log/aspired/my_model', or 's3://bucket/my_model'",
        ),
        (
            "filename_prefix: '/logs/'",
            "sampling_rate: 1",
            "filename_prefix: '/logs/' names no file; add what the names begin with: '/logs/my_model'",
        ),
        ("filename_prefix: '/m'", "sampling_rate: 1.5", "sampling_rate: 1.5: expected a number from 0 to 1"),
        ("filename_prefix: '/m'", "sampling_rate: -1", "sampling_rate: -1: expected a number from 0 to 1"),
        ("filename_prefix: '/m'", "sampling_rate: nan", "sampling_rate: nan: expected a number from 0 to 1"),
        (
            "filename_prefix: '/m'",
            "attributes: 1",
            "sampling_config.attributes is not supported: give sampling_rate alone",
        ),
        (
            "filename_prefix: '/m' type: 'kafka'",
            "sampling_rate: 1",
            "log_collector_config.type: Cannot find LogCollector::Factory for type: kafka; leave it out, or give 'file'",
        ),
    ],
)
def test_refuses_logging_that_cannot_be_done(collector: str, sampling: str, message: str) -> None:
    logging = f"logging_config {{ log_collector_config {{ {collector} }} sampling_config {{ {sampling} }} }}"
    assert refusal_of_logging(logging) == message


@pytest.mark.parametrize(
    ("logging", "message"),
    [
        ("", "sampling_config is missing: add sampling_config { sampling_rate: 0.01 }"),
        (
            "custom_logging_config {}",
            "custom_logging_config is not supported: give log_collector_config and sampling_config",
        ),
    ],
)
def test_refuses_logging_without_a_rate(logging: str, message: str) -> None:
    assert refusal_of_logging(f"logging_config {{ log_collector_config {{ filename_prefix: '/m' }} {logging} }}") == message


def refusal_of_logging(logging: str) -> str:
    """What is wrong with a model's logging_config, without the words that all such errors share."""
    model = f"config {{ name: 'm' base_path: '/m' model_platform: 'tensorflow' {logging} }}"
    message = refusal(f"model_config_list {{ {model} }}")
    assert message.startswith("Model m: logging_config: ")
    assert message.endswith(" (in /models/models.config)")
    return message.removeprefix("Model m: logging_config: ").removesuffix(" (in /models/models.config)")


@pytest.mark.parametrize("text", ["", "model_config_list {}", "# nothing"])
def test_a_file_with_nothing_set_lists_no_model(text: str) -> None:
    assert parse(text).models == ()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            "name: 'm' base_path: 'm' model_platform: 'tensorflow'",
            "Expected model m to have an absolute path or URI; got base_path()=m",
        ),
        ("name: 'm' model_platform: 'tensorflow'", "Expected model m to have an absolute path or URI; got base_path()="),
        ("base_path: '/m' model_platform: 'tensorflow'", "the model with base_path '/m' has no name: add name: 'my_model'"),
        (
            "name: 'm' base_path: '/m'",
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
            "model name is m; add model_platform: 'tensorflow'",
        ),
        (
            "name: 'm' base_path: '/m' model_platform: 'tensorflow' model_type: TENSORFLOW",
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform, "
            "model name is m",
        ),
        (
            "name: 'm' base_path: '/m' model_type: OTHER",
            "ModelServerConfig::model_type choice 2 not supported, model name is m",
        ),
        (
            "name: 'm' base_path: '/m' model_platform: 'caffe'",
            "Model m requests unsupported platform caffe; expected one of hashmap, tensorflow, tflite",
        ),
        (
            "name: 'm' base_path: '/m' model_platform: 'tensorflow' model_version_policy { specific { versions: -1 } }",
            "specific { versions: -1 }: expected version numbers from 0 to 9223372036854775807",
        ),
    ],
)
def test_refuses_a_model(fields: str, message: str) -> None:
    assert refusal(f"model_config_list {{ config {{ {fields} }} }}") == f"{message} (in /models/models.config)"


def test_refuses_two_models_with_one_name() -> None:
    one = "config { name: 'm' base_path: '/m' model_platform: 'tensorflow' }"
    assert refusal(f"model_config_list {{ {one} {one} }}") == (
        "Illegal to list model m multiple times in config list (in /models/models.config)"
    )


def test_refuses_a_custom_config() -> None:
    assert refusal("custom_model_config {}").startswith("ModelServerConfig::custom_model_config is not supported")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("model_config_list {\n  config { nam: 'm' } }", "2:12 :"),
        ("model_config_list {\n  config { name: m } }", "2:18 :"),
        ("model_config_list {", "1:19 :"),
        ("models: 3", "1:1 :"),
        ("model_config_list { config { version_labels { key: 'a' value: 99999999999999999999 } } }", "1:63 :"),
    ],
)
def test_a_file_that_does_not_parse_is_shown_with_protobufs_own_message(text: str, place: str) -> None:
    message = refusal(text)
    assert message.startswith(f"Error parsing text-format tensorflow.serving.ModelServerConfig: {place}")
    assert message.endswith(" (in /models/models.config)")
