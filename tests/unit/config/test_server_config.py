from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from cluster.config.batching_parameters import BatchingParameters
from cluster.config.model_config import ModelConfig
from cluster.config.model_settings import ModelSettings
from cluster.config.server_config import read_server_config
from cluster.config.server_options import ServerOptions
from cluster.core.errors import ConfigError

EXAMPLES = Path(__file__).parents[3] / "configs"


def test_the_flags_alone_describe_one_model() -> None:
    config = read_server_config(ServerOptions(model_name="m", model_base_path="/models/m"))
    assert config.models.models == (ModelConfig("m", "/models/m"),)
    assert config.batching is None


def test_a_config_file_wins_over_the_flags(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    path.write_text("model_config_list { config { name: 'a' base_path: '/a' model_platform: 'tensorflow' } }")
    config = read_server_config(ServerOptions(model_config_file=str(path), model_name="m", model_base_path="/models/m"))
    assert [model.name for model in config.models.models] == ["a"]


def test_a_config_files_form_goes_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text("models: [{name: a, base_path: /a, replicas: 2}]")
    (model,) = read_server_config(ServerOptions(model_config_file=str(path))).models.models
    assert model == ModelConfig("a", "/a", settings=ModelSettings(replicas=2))
    other = path.rename(tmp_path / "models.config")
    with pytest.raises(ConfigError) as refused:
        read_server_config(ServerOptions(model_config_file=str(other)))
    assert refused.value.message == f"{other}: models: this is a native config; its name must end in .yaml or .yml"


def test_batching_without_a_file_takes_the_defaults() -> None:
    assert read_server_config(ServerOptions(model_base_path="/m", enable_batching=True)).batching == BatchingParameters()


def test_batching_parameters_come_from_their_file(tmp_path: Path) -> None:
    path = tmp_path / "batching.txt"
    path.write_text("max_batch_size { value: 7 }")
    options = ServerOptions(model_base_path="/m", enable_batching=True, batching_parameters_file=str(path))
    batching = read_server_config(options).batching
    assert batching is not None
    assert batching.max_batch_size == 7


def test_a_relative_base_path_is_refused_with_the_absolute_one() -> None:
    with pytest.raises(ConfigError) as refused:
        read_server_config(ServerOptions(model_name="m", model_base_path="models/m"))
    assert refused.value.message == (
        "Expected model m to have an absolute path or URI; got base_path()=models/m; "
        f"did you mean --model_base_path={Path.cwd()}/models/m?"
    )


def test_a_file_that_cannot_be_read_is_named_with_its_flag(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(ConfigError) as refused:
        read_server_config(ServerOptions(model_config_file=str(missing)))
    assert refused.value.message == f"--model_config_file={missing}: cannot be read: No such file or directory"
    with pytest.raises(ConfigError, match=r"--batching_parameters_file=.*: cannot be read: Is a directory"):
        read_server_config(ServerOptions(model_base_path="/m", enable_batching=True, batching_parameters_file=str(tmp_path)))


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "saved_model.pb"
    path.write_bytes(b"\x0a\xff\xfe")
    with pytest.raises(ConfigError, match="not a text file: invalid start byte at byte 1"):
        read_server_config(ServerOptions(model_config_file=str(path)))


def test_travels_to_actors() -> None:
    config = read_server_config(ServerOptions(model_base_path="/m", enable_batching=True))
    assert pickle.loads(pickle.dumps(config)) == config


def test_the_examples_are_valid() -> None:
    options = ServerOptions(
        model_config_file=str(EXAMPLES / "models.config"),
        enable_batching=True,
        batching_parameters_file=str(EXAMPLES / "batching_parameters.txt"),
    )
    config = read_server_config(options)
    assert len(config.models.models) > 1
    assert config.batching is not None
