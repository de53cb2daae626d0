"""Joining the tensors of several calls along dimension 0, and cutting the outputs apart again.

Follows TF Serving's `batching/batching_session.cc` and `batching/batching_util.{h,cc}`, its texts included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cluster.core.errors import FailedPrecondition, InvalidArgument
from servables.servable import Array

_MAX_PADDED_RANK = 6


def row_count(inputs: Mapping[str, Array]) -> int:
    """The rows of a call: the size of dimension 0, which all its inputs must share. Raises InvalidArgument."""
    if not inputs:
        raise InvalidArgument("Batching Run() must have at least one input tensor")
    rows = -1
    for array in inputs.values():
        if array.ndim == 0:
            raise InvalidArgument("Batching Run() input tensors must have at least one dimension")
        if rows < 0:
            rows = array.shape[0]
        elif array.shape[0] != rows:
            raise InvalidArgument("Batching Run() input tensors must have equal 0th-dimension size")
    return rows


def check_can_be_padded(inputs: Mapping[str, Array]) -> None:
    """Raises InvalidArgument for inputs that `concatenate` cannot pad to the dimensions of others."""
    if any(array.ndim > _MAX_PADDED_RANK for array in inputs.values()):
        raise InvalidArgument("Only tensors with rank from 1 to 6 can be padded.")


def rounded_up(rows: int, allowed_batch_sizes: Sequence[int]) -> int:
    """The first allowed size that holds `rows`; `rows` itself when there is none, or when there are none to fill it with."""
    if rows == 0:
        return 0
    return next((size for size in allowed_batch_sizes if size >= rows), rows)


def concatenate(
    tasks: Sequence[Mapping[str, Array]], batch_rows: int, *, pad_variable_length: bool = False
) -> dict[str, Array]:
    """The inputs of all tasks as one, filled up to `batch_rows` rows; nothing is copied for one task that fills them.

    All tasks have the same inputs, each of one dtype and rank. The filling repeats a row that some task sent (row 0 of the
    last one), so it is as valid as any. With `pad_variable_length`, dimensions other than 0 grow to the largest among the
    tasks, filled with the first element of the tensor that is too small; without, they must be equal.
    """
    return {name: _concatenate([inputs[name] for inputs in tasks], batch_rows, pad_variable_length) for name in tasks[0]}


def split(outputs: Mapping[str, Array], task_rows: Sequence[int], batch_rows: int) -> list[dict[str, Array]]:
    """Each task's part of a batch's outputs, as views. What stands in rows that were filled up is left out.

    Raises FailedPrecondition when an output does not have a row for every row of the batch.
    """
    for array in outputs.values():
        if array.ndim == 0:
            raise FailedPrecondition("Batched output tensor has 0 dimensions")
        if array.shape[0] != batch_rows:
            raise FailedPrecondition(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input tensors"
            )
    parts = []
    start = 0
    for rows in task_rows:
        parts.append({name: array[start : start + rows] for name, array in outputs.items()})
        start += rows
    return parts


def join(parts: Sequence[dict[str, Array]]) -> dict[str, Array]:
    """The outputs of a task that was split over several batches. Raises FailedPrecondition when they do not fit together."""
    if len(parts) == 1:
        return parts[0]
    try:
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    except ValueError as error:
        raise FailedPrecondition(
            f"The outputs of a call that was split over several batches cannot be joined: {error}"
        ) from None


def _concatenate(arrays: list[Array], batch_rows: int, pad_variable_length: bool) -> Array:
    rows = sum(len(array) for array in arrays)
    if len(arrays) == 1 and rows == batch_rows:
        return arrays[0]
    inner_shapes = {array.shape[1:] for array in arrays}
    if pad_variable_length and len(inner_shapes) > 1:
        return _concatenate_padded(arrays, batch_rows, tuple(map(max, *inner_shapes)))
    if rows < batch_rows:
        filler = next(array for array in reversed(arrays) if len(array))[:1]
        arrays = [*arrays, np.broadcast_to(filler, (batch_rows - rows, *filler.shape[1:]))]
    return np.concatenate(arrays)


def _concatenate_padded(arrays: list[Array], batch_rows: int, inner_shape: tuple[int, ...]) -> Array:
    batch: Array = np.empty((batch_rows, *inner_shape), arrays[0].dtype)
    start = 0
    filler = 0
    for array in arrays:
        if not len(array):
            continue
        rows = batch[start : start + len(array)]
        if array.shape[1:] != inner_shape:
            if array.size == 0:
                raise InvalidArgument("Got empty tensor in batch of non-empty tensors.")
            rows[...] = array.flat[0]
        rows[tuple(slice(size) for size in array.shape)] = array
        filler = start
        start += len(array)
    batch[start:] = batch[filler]
    return batch
