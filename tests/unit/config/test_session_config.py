"""A ConfigProto is read without TensorFlow, and means to TensorFlow what its text says."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.config.server_config import ServerConfig, read_server_config
from cluster.config.server_options import ServerOptions
from cluster.config.session_config import parse_session_config
from cluster.core.errors import ConfigError
from cluster.protos import ConfigProto, RewriterConfig

TEXT = """
intra_op_parallelism_threads: 3
graph_options { optimizer_options { global_jit_level: ON_1 } rewrite_options { remapping: OFF } }
gpu_options { per_process_gpu_memory_fraction: 0.25 polling_active_delay_usecs: 7 }
"""


def config_of(tmp_path: Path, text: str = TEXT, **flags: object) -> ServerConfig:
    file = tmp_path / "session.txt"
    file.write_text(text)
    values = {"model_base_path": "/models/m", "tensorflow_session_config_file": str(file), **flags}
    return read_server_config(ServerOptions(**values))  # type: ignore[arg-type]


def test_the_file_reaches_the_replicas_as_tensorflow_reads_it(tmp_path: Path) -> None:
    message = ConfigProto.FromString(config_of(tmp_path).session.config_proto)
    assert message.intra_op_parallelism_threads == 3
    assert message.graph_options.optimizer_options.global_jit_level == 1
    assert message.graph_options.rewrite_options.remapping == RewriterConfig.Toggle.Value("OFF")
    assert message.gpu_options.polling_active_delay_usecs == 7


def test_without_a_file_sessions_have_tensorflows_defaults() -> None:
    assert read_server_config(ServerOptions(model_base_path="/models/m")).session.config_proto == b""


def test_a_part_of_the_gpu_is_the_ledgers_to_give_and_the_flag_wins(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    assert config.options.per_process_gpu_memory_fraction == 0.25
    assert not ConfigProto.FromString(config.session.config_proto).gpu_options.per_process_gpu_memory_fraction
    assert config_of(tmp_path, per_process_gpu_memory_fraction=0.5).options.per_process_gpu_memory_fraction == 0.5


def test_a_part_of_the_gpu_larger_than_all_of_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"per_process_gpu_memory_fraction=2\.0: expected a number from 0 to 1"):
        config_of(tmp_path, "gpu_options { per_process_gpu_memory_fraction: 2 }")


def test_mixed_precision_is_a_rewrite_beside_what_the_file_says(tmp_path: Path) -> None:
    rewrites = ConfigProto.FromString(config_of(tmp_path, mixed_precision="bfloat16").session.config_proto)
    options = rewrites.graph_options.rewrite_options
    assert options.auto_mixed_precision_onednn_bfloat16 == RewriterConfig.Toggle.Value("ON")
    assert options.remapping == RewriterConfig.Toggle.Value("OFF")
    alone = read_server_config(ServerOptions(model_base_path="/m", mixed_precision="bfloat16")).session
    assert alone.config_proto != b""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "intra_op_threads: 3",
            "Error parsing text-format tensorflow.ConfigProto: "
            '1:1 : Message type "tensorflow.ConfigProto" has no field named "intra_op_threads". (in /s)',
        ),
        ("gpu_options {", 'Error parsing text-format tensorflow.ConfigProto: 1:13 : Expected "}". (in /s)'),
        (
            "gpu_options { visible_device_list: '1' }",
            "gpu_options.visible_device_list: the server assigns devices to versions; leave it out (in /s)",
        ),
        (
            "gpu_options { experimental { virtual_devices { memory_limit_mb: 100 } } }",
            "gpu_options.experimental.virtual_devices: the server assigns devices to versions; leave it out (in /s)",
        ),
        ("device_filters: '/gpu:0'", "device_filters: the server assigns devices to versions; leave it out (in /s)"),
        (
            "cluster_def { job { name: 'worker' } }",
            "cluster_def: the server assigns devices to versions; leave it out (in /s)",
        ),
    ],
)
def test_refuses(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_session_config(text, "/s")
    assert refused.value.message == message
