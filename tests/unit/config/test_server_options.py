from __future__ import annotations

import os
import pickle
from typing import Any

import pytest

from cluster.config.server_options import ServerOptions
from cluster.core.errors import ConfigError


def made(**values: Any) -> ServerOptions:
    return ServerOptions(**{"model_base_path": "/models/m", **values})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"model_base_path": ""},
            "Both server_options.model_base_path and server_options.model_config_file are empty! "
            "Give --model_base_path=DIRECTORY (and --model_name=NAME), or --model_config_file=FILE.",
        ),
        ({"model_name": ""}, "--model_name is empty: give the model a name, as in --model_name=my_model"),
        (
            {"batching_parameters_file": "/b"},
            "server_options.batching_parameters_file is set without setting server_options.enable_batching to true. "
            "Add --enable_batching, or leave --batching_parameters_file out.",
        ),
        (
            {"port": 0},
            "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set. "
            "Give --port=8500 or --grpc_socket_path=PATH.",
        ),
        ({"rest_api_port": 8500}, "--port and --rest_api_port are both 8500: gRPC and REST need a port each"),
        (
            {"model_cache_dir": "relative/cache"},
            "--model_cache_dir=relative/cache: expected an absolute path, as it is meant on every node; did you mean "
            f"--model_cache_dir={os.path.abspath('relative/cache')}?",
        ),
        ({"host": ""}, "--host is empty: give an address of the nodes, or 0.0.0.0 for all of them"),
        (
            {"grpc_socket_path": "/tmp/s", "frontends_per_node": 2},
            "--grpc_socket_path takes one frontend: leave --frontends_per_node at 1",
        ),
        (
            {"ssl_config_file": "/ssl.txt", "use_alts_credentials": True},
            "--ssl_config_file and --use_alts_credentials exclude each other: leave the second out",
        ),
        (
            {"grpc_channel_arguments": "grpc.max_connection_age_ms=1,grpc.other"},
            "--grpc_channel_arguments=grpc.max_connection_age_ms=1,grpc.other: 'grpc.other' is not key=value; expected a list "
            "like grpc.max_connection_age_ms=60000,grpc.lb_policy_name=round_robin",
        ),
        (
            {"grpc_channel_arguments": "=1"},
            "--grpc_channel_arguments==1: '=1' is not key=value; expected a list "
            "like grpc.max_connection_age_ms=60000,grpc.lb_policy_name=round_robin",
        ),
        (
            {"grpc_channel_arguments": "grpc.so_reuseport=0"},
            "--grpc_channel_arguments: grpc.so_reuseport=0 cannot be, since frontends share the port",
        ),
        ({"saved_model_tags": " , "}, "--saved_model_tags is empty: name the MetaGraph's tags, as in --saved_model_tags=serve"),
        (
            {"tensorflow_session_parallelism": 1, "tensorflow_intra_op_parallelism": 1, "tensorflow_inter_op_parallelism": 1},
            "--tensorflow_session_parallelism, --tensorflow_intra_op_parallelism and --tensorflow_inter_op_parallelism "
            "are all set: give the first, or the other two",
        ),
        ({"server_name": "Mine"}, "--server_name=Mine: expected 1 to 40 of the characters a-z, 0-9 and '-'"),
        ({"server_name": "a.b"}, "--server_name=a.b: expected 1 to 40 of the characters a-z, 0-9 and '-'"),
        ({"server_name": "a" * 41}, f"--server_name={'a' * 41}: expected 1 to 40 of the characters a-z, 0-9 and '-'"),
        ({"ray_address": ""}, "--ray_address is empty: give local, auto or HOST:PORT"),
        ({"frontends_per_node": 0}, "--frontends_per_node=0: expected a whole number from 1 to 1000"),
        ({"drain_timeout_s": -1.0}, "--drain_timeout_s=-1.0: expected a number, 0 or more"),
    ],
)
def test_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        made(**values)
    assert refused.value.message == message


def test_grpc_may_be_off_where_a_socket_is_on() -> None:
    assert made(port=0, grpc_socket_path="/tmp/s").port == 0


def test_a_config_file_needs_no_base_path() -> None:
    assert ServerOptions(model_config_file="/models/models.config").model_base_path == ""


def test_tags_are_split() -> None:
    assert made(saved_model_tags="serve, gpu,").tags == ("serve", "gpu")


def test_channel_arguments_that_read_as_numbers_are_numbers() -> None:
    text = "grpc.max_connection_age_ms=60000, a=-1 ,b=x=y,c=,d=2147483648,e=１"
    assert made(grpc_channel_arguments=text).channel_arguments == {
        "grpc.max_connection_age_ms": 60000,
        "a": -1,
        "b": "x=y",
        "c": "",
        "d": "2147483648",
        "e": "１",
    }
    assert made().channel_arguments == {}


@pytest.mark.parametrize(
    ("session", "intra", "inter", "threads"),
    [(0, 0, 0, (0, 0)), (3, 0, 0, (3, 3)), (0, 2, 0, (2, 0)), (0, 0, 4, (0, 4)), (3, 2, 0, (2, 0)), (0, 2, 4, (2, 4))],
)
def test_either_specific_thread_count_puts_both_in_force(
    session: int, intra: int, inter: int, threads: tuple[int, int]
) -> None:
    options = made(
        tensorflow_session_parallelism=session, tensorflow_intra_op_parallelism=intra, tensorflow_inter_op_parallelism=inter
    )
    assert (options.intra_op_parallelism_threads, options.inter_op_parallelism_threads) == threads


def test_travels_between_processes() -> None:
    assert pickle.loads(pickle.dumps(made(port=1))) == made(port=1)
