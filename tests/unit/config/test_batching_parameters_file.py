from __future__ import annotations

import os

import pytest

from cluster.config.batching_parameters import BatchingParameters
from cluster.config.batching_parameters_file import parse_batching_parameters
from cluster.core.errors import ConfigError


def parse(text: str) -> BatchingParameters:
    return parse_batching_parameters(text, "/etc/batching.txt")


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        parse(text)
    assert "\n" not in refused.value.message
    assert refused.value.message.endswith(" (in /etc/batching.txt)")
    return refused.value.message.removesuffix(" (in /etc/batching.txt)")


def test_reads_every_field() -> None:
    parameters = parse(
        """
        max_batch_size { value: 128 }
        batch_timeout_micros { value: 0 }
        max_enqueued_batches { value: 1000000 }
        num_batch_threads { value: 8 }
        thread_pool_name { value: 'threads' }
        allowed_batch_sizes: 32 allowed_batch_sizes: 128
        pad_variable_length_inputs: true
        enable_large_batch_splitting { value: true }
        max_execution_batch_size { value: 64 }
        """
    )
    assert parameters == BatchingParameters(
        max_batch_size=128,
        batch_timeout_micros=0,
        max_enqueued_batches=1_000_000,
        num_batch_threads=8,
        thread_pool_name="threads",
        allowed_batch_sizes=(32, 128),
        pad_variable_length_inputs=True,
        enable_large_batch_splitting=True,
        max_execution_batch_size=64,
    )


def test_an_empty_file_has_tensorflow_servings_defaults() -> None:
    parameters = parse("")
    assert (parameters.max_batch_size, parameters.batch_timeout_micros, parameters.max_enqueued_batches) == (1000, 0, 10)
    assert parameters.num_batch_threads == os.cpu_count()
    assert parameters.thread_pool_name == "batch_threads"
    assert BatchingParameters().thread_pool_name == "model_server_batch_threads", "without a file"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "max_batch_size { value: 16 } allowed_batch_sizes: 4 allowed_batch_sizes: 8",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 8; expected 16",
        ),
        (
            "max_batch_size { value: 16 } allowed_batch_sizes: 8 "
            "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 8 }",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 8; expected 16",
        ),
        (
            "max_batch_size { value: 4 } allowed_batch_sizes: 8 allowed_batch_sizes: 4",
            "allowed_batch_sizes [8, 4]: expected each size to be larger than the one before",
        ),
        ("max_batch_size { value: 4 } allowed_batch_sizes: 0", "allowed_batch_sizes [0]: expected sizes of 1 or more"),
        ("max_batch_size { value: 0 }", "max_batch_size { value: 0 }: Input should be greater than or equal to 1"),
        (
            "batch_timeout_micros { value: -1 }",
            "batch_timeout_micros { value: -1 }: Input should be greater than or equal to 0",
        ),
        ("num_batch_threads { value: 0 }", "num_batch_threads { value: 0 }: Input should be greater than or equal to 1"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    assert refusal(text) == message


@pytest.mark.parametrize(
    ("text", "place"),
    [("max_batch_size: 128", "1:17 :"), ("max_batch_size { value: 128", "1:25 :"), ("batch_size { value: 1 }", "1:1 :")],
)
def test_a_file_that_does_not_parse_is_shown_with_protobufs_own_message(text: str, place: str) -> None:
    assert refusal(text).startswith(f"Error parsing text-format tensorflow.serving.BatchingParameters: {place}")
