from __future__ import annotations

import dataclasses
import os

import pytest

from cluster.config.flags import Information, flag_groups, parse_flags
from cluster.config.server_options import SERVER_FLAGS, ServerOptions
from cluster.core.errors import ConfigError

MODEL = "--model_base_path=/models/m"


def options(*arguments: str) -> ServerOptions:
    result = parse_flags([MODEL, *arguments])
    assert isinstance(result, ServerOptions)
    return result


def refusal(*arguments: str) -> str:
    with pytest.raises(ConfigError) as refused:
        parse_flags([MODEL, *arguments])
    assert "\n" not in refused.value.message
    return refused.value.message


def test_no_flags_but_a_model_give_tensorflow_servings_defaults() -> None:
    """Every flag of `model_servers/main.cc`, but for model_base_path and version."""
    cpus = os.cpu_count()
    expected = {
        "port": 8500,
        "model_name": "default",
        "rest_api_num_threads": 4 * (cpus or 1),
        "rest_api_timeout_in_ms": 30_000,
        "max_num_load_retries": 5,
        "load_retry_interval_micros": 60_000_000,
        "file_system_poll_wait_seconds": 1,
        "flush_filesystem_caches": True,
        "saved_model_tags": "serve",
        "grpc_max_threads": 4 * (cpus or 1),
        "enable_model_warmup": True,
        "remove_unused_fields_from_bundle_metagraph": True,
        "num_tflite_pools": cpus,
        "num_tflite_interpreters_per_pool": 1,
        "enable_profiler": True,
        **dict.fromkeys(
            (
                "rest_api_port",
                "model_config_file_poll_wait_seconds",
                "num_load_threads",
                "num_unload_threads",
                "tensorflow_session_parallelism",
                "tensorflow_intra_op_parallelism",
                "tensorflow_inter_op_parallelism",
                "per_process_gpu_memory_fraction",
                "num_request_iterations_for_warmup",
            ),
            0,
        ),
        **dict.fromkeys(
            (
                "grpc_socket_path",
                "batching_parameters_file",
                "model_config_file",
                "tensorflow_session_config_file",
                "ssl_config_file",
                "platform_config_file",
                "grpc_channel_arguments",
                "monitoring_config_file",
                "thread_pool_factory_config_file",
                "mixed_precision",
            ),
            "",
        ),
        **dict.fromkeys(
            (
                "rest_api_enable_cors_support",
                "enable_batching",
                "enable_per_model_batching_parameters",
                "allow_version_labels_for_unavailable_models",
                "use_alts_credentials",
                "prefer_tflite_model",
                "enable_signature_method_name_check",
                "xla_cpu_compilation_enabled",
                "xla_gpu_compilation_enabled",
                "skip_initialize_tpu",
                "enable_grpc_healthcheck_service",
                "enable_serialization_as_tensor_content",
            ),
            False,
        ),
    }
    given = options()
    assert given.model_base_path == "/models/m"
    assert {name: getattr(given, name) for name in expected} == expected


def test_the_command_line_of_tensorflow_servings_docker_image_is_understood() -> None:
    result = parse_flags(["--port=8500", "--rest_api_port=8501", "--model_name=m", "--model_base_path=/models/m"])
    assert result == ServerOptions(rest_api_port=8501, model_name="m", model_base_path="/models/m")


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--port=9000"], "port", 9000),
        (["--port", "9000"], "port", 9000),
        (["--port=+9000"], "port", 9000),
        (["--load_retry_interval_micros=-1"], "load_retry_interval_micros", -1),
        (["--load_retry_interval_micros", "-1"], "load_retry_interval_micros", -1),
        (["--drain_timeout_s=2.5"], "drain_timeout_s", 2.5),
        (["--drain_timeout_s", "3"], "drain_timeout_s", 3.0),
        (["--model_name=a=b"], "model_name", "a=b"),
        (["--model_name", "serve"], "model_name", "serve"),
        (["--enable_batching"], "enable_batching", True),
        (["--enable_batching=true"], "enable_batching", True),
        (["--enable_batching", "true"], "enable_batching", True),
        (["--enable_batching=False"], "enable_batching", False),
        (["--enable_batching", "false"], "enable_batching", False),
        (["--enable_batching=1"], "enable_batching", True),
        (["--replicas_per_version=3"], "replicas_per_version", 3),
        (["--port=9000", "--port=9001"], "port", 9001),
        (["--enable_batching", "--port=9000"], "port", 9000),
    ],
)
def test_reads(arguments: list[str], name: str, value: object) -> None:
    assert getattr(options(*arguments), name) == value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--modle_name=m"], "unknown flag --modle_name; did you mean --model_name?"),
        (["--model-name=m"], "unknown flag --model-name; did you mean --model_name?"),
        (["-port=1"], "unknown flag -port; did you mean --port?"),
        (["--noenable_batching"], "unknown flag --noenable_batching; did you mean --enable_batching=false?"),
        (["--no-enable-batching"], "unknown flag --no-enable-batching; did you mean --enable_batching=false?"),
        (["--xyzzy"], "unknown flag --xyzzy; `aspired serve --help` lists them all"),
        (["m"], "unexpected argument 'm': flags are written --name=value"),
        (["--"], "unexpected argument '--': flags are written --name=value"),
        (["--port"], "--port needs a value: --port=PORT"),
        (["--port", "--enable_batching"], "--port needs a value: --port=PORT"),
        (["--port=abc"], "--port=abc: expected a whole number from 0 to 65535"),
        (["--port="], "--port=: expected a whole number from 0 to 65535"),
        (["--port=65536"], "--port=65536: expected a whole number from 0 to 65535"),
        (["--port=-1"], "--port=-1: expected a whole number from 0 to 65535"),
        (["--port=8_500"], "--port=8_500: expected a whole number from 0 to 65535"),
        (["--port=8500.0"], "--port=8500.0: expected a whole number from 0 to 65535"),
        (["--enable_batching=maybe"], "--enable_batching=maybe: expected true or false"),
        (["--drain_timeout_s=soon"], "--drain_timeout_s=soon: expected a number, 0 or more"),
        (["--drain_timeout_s=nan"], "--drain_timeout_s=nan: expected a number, 0 or more"),
        (["--drain_timeout_s=inf"], "--drain_timeout_s=inf: expected a number, 0 or more"),
        (["--log_level=loud"], "--log_level=loud: expected one of debug, info, warning, error"),
        (["--mixed_precision=float8"], "--mixed_precision=float8: expected one of nothing, bfloat16"),
        (["--replicas_per_version=0"], "--replicas_per_version=0: expected a whole number from 1 to 10000"),
    ],
)
def test_refuses(arguments: list[str], message: str) -> None:
    assert refusal(*arguments) == message


@pytest.mark.parametrize(
    ("argument", "asked_for"),
    [("--help", Information.HELP), ("-h", Information.HELP), ("--version", Information.VERSION)],
)
def test_information_needs_no_model(argument: str, asked_for: Information) -> None:
    assert parse_flags([argument]) is asked_for


def test_needless_flags_are_accepted_in_silence() -> None:
    needless = [flag for flag in SERVER_FLAGS.values() if flag.needless]
    assert needless
    arguments = [f"--{flag.name}={str(flag.default).lower()}" for flag in needless]
    assert options(*arguments) == options()


def test_every_flag_accepts_its_own_default() -> None:
    stated = [
        f"--{flag.name}={str(flag.default).lower() if flag.kind is bool else flag.default}"
        for flag in SERVER_FLAGS.values()
        if flag.default is not None and flag.name != "model_base_path"
    ]
    assert options(*stated) == options()


def test_the_table_and_the_options_are_one() -> None:
    assert list(SERVER_FLAGS) == [field.name for field in dataclasses.fields(ServerOptions)]
    assert sum(map(len, flag_groups().values())) == len(SERVER_FLAGS)


def test_every_help_text_is_a_sentence_that_fits_a_table() -> None:
    for flag in SERVER_FLAGS.values():
        assert flag.declaration.help.endswith(".")
        assert "|" not in flag.declaration.help
        assert flag.kind in (bool, int, float, str)
