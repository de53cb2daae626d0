"""A platform config file takes the place of the flags that would say the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.config.platform_config_file import parse_platform_config
from cluster.config.server_config import ServerConfig, read_server_config
from cluster.config.server_options import ServerOptions
from cluster.core.errors import ConfigError
from cluster.protos import ConfigProto


def text_of(legacy_config: str, adapter: str = "tensorflow.serving.SavedModelBundleSourceAdapterConfig") -> str:
    return f"""
    platform_configs {{
      key: "tensorflow"
      value {{ source_adapter_config {{ [type.googleapis.com/{adapter}] {{ {legacy_config} }} }} }}
    }}
    """


def config_of(tmp_path: Path, legacy_config: str, **flags: object) -> ServerConfig:
    file = tmp_path / "platform.txt"
    file.write_text(text_of(f"legacy_config {{ {legacy_config} }}"))
    values = {"model_base_path": "/models/m", "platform_config_file": str(file), **flags}
    return read_server_config(ServerOptions(**values))  # type: ignore[arg-type]


def test_sessions_and_batching_come_from_the_file(tmp_path: Path) -> None:
    config = config_of(
        tmp_path,
        """
        session_config { inter_op_parallelism_threads: 5 gpu_options { per_process_gpu_memory_fraction: 0.5 } }
        batching_parameters { max_batch_size { value: 7 } }
        """,
        tensorflow_session_parallelism=2,
        mixed_precision="bfloat16",
        per_process_gpu_memory_fraction=0.25,
    )
    assert ConfigProto.FromString(config.session.config_proto) == ConfigProto(inter_op_parallelism_threads=5, gpu_options={})
    assert (config.options.inter_op_parallelism_threads, config.options.intra_op_parallelism_threads) == (0, 0)
    assert config.options.per_process_gpu_memory_fraction == 0.5
    assert config.batching is not None
    assert (config.batching.max_batch_size, config.batching.thread_pool_name) == (7, "batch_threads")


def test_flags_for_batching_are_ignored(tmp_path: Path) -> None:
    for enabled in (True, False):
        config = config_of(tmp_path, "", enable_batching=enabled, batching_parameters_file="/absent")
        assert config.batching is None
        assert not config.options.enable_batching


def test_flags_for_threads_are_ignored_even_if_they_exclude_each_other(tmp_path: Path) -> None:
    options = config_of(
        tmp_path,
        "",
        tensorflow_session_parallelism=1,
        tensorflow_intra_op_parallelism=2,
        tensorflow_inter_op_parallelism=3,
    ).options
    assert (options.inter_op_parallelism_threads, options.intra_op_parallelism_threads) == (0, 0)


def test_what_the_file_leaves_out_has_the_defaults_of_its_messages(tmp_path: Path) -> None:
    options = config_of(tmp_path, "", saved_model_tags="tpu", prefer_tflite_model=True, num_tflite_pools=9).options
    assert options.tags == ("serve",)
    assert not options.enable_model_warmup
    assert not options.prefer_tflite_model
    assert (options.num_tflite_pools, options.num_tflite_interpreters_per_pool) == (1, 1)


def test_tags_warm_up_and_tflite_come_from_the_file(tmp_path: Path) -> None:
    options = config_of(
        tmp_path,
        """
        saved_model_tags: "serve" saved_model_tags: "gpu"
        enable_model_warmup: true model_warmup_options { num_request_iterations { value: 3 } }
        prefer_tflite_model: true num_tflite_pools: 4 num_tflite_interpreters_per_pool: 2
        """,
    ).options
    assert options.tags == ("serve", "gpu")
    assert (options.enable_model_warmup, options.num_request_iterations_for_warmup) == (True, 3)
    assert (options.prefer_tflite_model, options.num_tflite_pools, options.num_tflite_interpreters_per_pool) == (True, 4, 2)


def test_other_flags_stay(tmp_path: Path) -> None:
    assert config_of(tmp_path, "", rest_api_port=8501, max_num_load_retries=1).options == ServerOptions(
        model_base_path="/models/m",
        platform_config_file=str(tmp_path / "platform.txt"),
        rest_api_port=8501,
        max_num_load_retries=1,
        enable_model_warmup=False,
        num_tflite_pools=1,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'platform_configs: expected an entry with the key "tensorflow" (in /p)'),
        (
            'platform_configs { key: "pytorch" value { } }',
            'platform_configs { key: "pytorch" }: only "tensorflow" can be configured (in /p)',
        ),
        (
            'platform_configs { key: "tensorflow" value { } }',
            "source_adapter_config: expected a [type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig], "
            "got nothing (in /p)",
        ),
        (
            text_of("", "tensorflow.serving.SessionBundleConfig"),
            "source_adapter_config: expected a [type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig], "
            "got tensorflow.serving.SessionBundleConfig (in /p)",
        ),
        (
            text_of('legacy_config { session_target: "grpc://there" }'),
            'session_target: "grpc://there": sessions run in their replicas; leave it out (in /p)',
        ),
        (
            text_of("legacy_config { batching_parameters { max_batch_size { value: 0 } } }"),
            "max_batch_size { value: 0 }: Input should be greater than or equal to 1 (in /p)",
        ),
        (
            text_of("legacy_config { session_config { device_filters: 'x' } }"),
            "device_filters: the server assigns devices to versions; leave it out (in /p)",
        ),
    ],
)
def test_refuses(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_platform_config(text, "/p")
    assert refused.value.message == message


@pytest.mark.parametrize("text", ["platform_config {}", text_of("", "some.other.AdapterConfig"), text_of("threads: 1")])
def test_text_that_does_not_parse_is_named_in_one_line(text: str) -> None:
    start = r"^Error parsing text-format tensorflow\.serving\.PlatformConfigMap: .* \(in /p\)$"
    with pytest.raises(ConfigError, match=start) as refused:
        parse_platform_config(text, "/p")
    assert "\n" not in refused.value.message
