"""TF Serving's BatchingParameters (`servables/tensorflow/session_bundle_config.proto`) as a value."""

from __future__ import annotations

import os

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


class BatchingParameters(BaseModel):
    """How requests of one model version are put together. Sizes count rows (the 0th dimension), not requests.

    `json_schema_extra` of a field says its unit, and its default where no value shows it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_batch_size: int = Field(
        default=1000, ge=1, description="A batch runs as soon as it has this many.", json_schema_extra={"unit": "rows"}
    )
    batch_timeout_micros: int = Field(
        default=0,
        ge=0,
        description="A batch runs when its first request has waited this long; 0: whenever a thread is free.",
        json_schema_extra={"unit": "µs"},
    )
    max_enqueued_batches: int = Field(
        default=10,
        ge=1,
        description="With more of them in a queue, new requests get UNAVAILABLE (503) at once.",
        json_schema_extra={"unit": "batches"},
    )
    num_batch_threads: int = Field(
        default_factory=lambda: os.cpu_count() or 1,
        ge=1,
        description="Batches that a replica runs at the same time.",
        json_schema_extra={"unit": "threads", "default": "CPUs of the machine that starts the server"},
    )
    thread_pool_name: str = Field(default="model_server_batch_threads", description="Name of these threads.")
    allowed_batch_sizes: tuple[int, ...] = Field(
        default=(),
        description="A batch is padded up to the next of these, smallest first. The last has to be `max_batch_size`.",
        json_schema_extra={"unit": "rows", "default": "any size"},
    )
    pad_variable_length_inputs: bool = Field(
        default=False, description="Pad inputs of unequal inner shapes so that they share a batch."
    )
    enable_large_batch_splitting: bool = Field(
        default=False, description="Split requests that are larger than `max_execution_batch_size`."
    )
    max_execution_batch_size: int | None = Field(
        default=None,
        ge=1,
        description="The largest batch that is run, with splitting.",
        json_schema_extra={"unit": "rows", "default": "`max_batch_size`"},
    )

    @model_validator(mode="after")
    def _check_sizes(self) -> BatchingParameters:
        sizes = self.allowed_batch_sizes
        if any(size < 1 for size in sizes):
            raise _refusal(f"allowed_batch_sizes {list(sizes)}: expected sizes of 1 or more")
        if list(sizes) != sorted(set(sizes)):
            raise _refusal(f"allowed_batch_sizes {list(sizes)}: expected each size to be larger than the one before")
        if sizes and sizes[-1] != self.max_batch_size:
            raise _refusal(
                "Last entry in allowed_batch_sizes must match max_batch_size; "
                f"last entry was {sizes[-1]}; expected {self.max_batch_size}"
            )
        return self


def _refusal(message: str) -> PydanticCustomError:
    return PydanticCustomError("allowed_batch_sizes", "{message}", {"message": message})
