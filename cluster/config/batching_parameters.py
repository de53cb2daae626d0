"""TF Serving's BatchingParameters (`servables/tensorflow/session_bundle_config.proto`) as a value."""

from __future__ import annotations

import os

from pydantic import BaseModel, ConfigDict, Field


class BatchingParameters(BaseModel):
    """How requests of one model version are put together. Sizes count rows (the 0th dimension), not requests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_batch_size: int = Field(default=1000, ge=1)
    batch_timeout_micros: int = Field(default=0, ge=0)
    max_enqueued_batches: int = Field(default=10, ge=1)
    num_batch_threads: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    thread_pool_name: str = "model_server_batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int | None = Field(default=None, ge=1)
