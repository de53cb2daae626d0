"""Requests from a file, whose name tells what it holds.

.json                     the body of one :predict request
.jsonl, .ndjson           one body a line
.npz, .npy                tensors by input, or of the only input
.pb                       a serialized PredictRequest
.tfrecord, tf_serving_warmup_requests      PredictionLogs: a request log, or what a model is warmed up with
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError

from cluster.bench.load_request import LoadRequest, RequestEncoder, rows_of
from cluster.client.results import Array
from cluster.core.errors import AspiredError, ConfigError, InvalidArgument
from cluster.protos import PredictionLog, PredictRequest
from servables.tf_record import read_records

MAX_REQUESTS = 10_000
"""What more a file holds is not read: the requests are kept in memory, encoded."""

_WARMUP_FILE = "tf_serving_warmup_requests"


def read_requests(path: str, encoder: RequestEncoder, signature_name: str, batch_size: int | None) -> list[LoadRequest]:
    """The file's requests, in its order.

    `batch_size` cuts the rows of .npy and .npz into requests; None sends them as one. `signature_name` is for these too: others
    name their own. Raises ConfigError, naming the file and the place in it, for what cannot be read or does not fit the model.
    """
    suffix = _WARMUP_FILE if Path(path).name == _WARMUP_FILE else Path(path).suffix
    read = _READERS.get(suffix)
    arrays = suffix in (".npy", ".npz")
    if read is None and not arrays:
        raise ConfigError(f"--input={path}: expected a name that ends in {', '.join((*_READERS, '.npy', '.npz'))}")
    if not arrays and (signature_name or batch_size is not None):
        flag = "--signature_name" if signature_name else "--batch_size"
        raise ConfigError(f"{flag} is for generated, .npy and .npz input: each request of {path} has its own")
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"--input={path}: cannot be read: {error.strerror or error}") from error
    requests: list[LoadRequest] = []
    try:
        found = read(content, encoder) if read is not None else _tensors(content, encoder, signature_name, batch_size)
        for request in found:
            requests.append(request)
            if len(requests) == MAX_REQUESTS:
                break
    except AspiredError as error:
        raise ConfigError(f"--input={path}: request {len(requests) + 1}: {error.message}") from error
    if not requests:
        raise ConfigError(f"--input={path}: there are no requests in it")
    return requests


def _body(content: bytes, encoder: RequestEncoder) -> Iterator[LoadRequest]:
    yield encoder.predict_body(content)


def _body_lines(content: bytes, encoder: RequestEncoder) -> Iterator[LoadRequest]:
    return (encoder.predict_body(line) for line in content.splitlines() if line.strip())


def _predict_message(content: bytes, encoder: RequestEncoder) -> Iterator[LoadRequest]:
    try:
        request = PredictRequest.FromString(content)
    except DecodeError as error:
        raise InvalidArgument("it is no serialized PredictRequest") from error
    yield encoder.predict_message(request)


def _logs(content: bytes, encoder: RequestEncoder) -> Iterator[LoadRequest]:
    for record in read_records(io.BytesIO(content)):
        try:
            log = PredictionLog.FromString(record)
        except DecodeError as error:
            raise InvalidArgument("it is no serialized PredictionLog") from error
        yield encoder.logged(log)


def _tensors(content: bytes, encoder: RequestEncoder, signature_name: str, batch_size: int | None) -> Iterator[LoadRequest]:
    arrays = _load(content)
    if batch_size is None:
        yield encoder.tensors(arrays, signature_name)
        return
    tensors = [arrays] if isinstance(arrays, np.ndarray) else list(arrays.values())
    rows = rows_of(tensors)
    if any(tensor.ndim == 0 or tensor.shape[0] != rows for tensor in tensors):
        raise InvalidArgument("its arrays differ in their first dimension, so --batch_size cannot cut them: leave it out")
    if rows < batch_size:
        raise InvalidArgument(f"--batch_size={batch_size} is more than the {rows} rows there are")
    for start in range(0, rows - batch_size + 1, batch_size):
        part = slice(start, start + batch_size)
        if isinstance(arrays, np.ndarray):
            yield encoder.tensors(arrays[part], signature_name)
        else:
            yield encoder.tensors({name: array[part] for name, array in arrays.items()}, signature_name)


def _load(content: bytes) -> Array | Mapping[str, Array]:
    try:
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
        return loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise InvalidArgument(f"numpy cannot read it: {error}") from error


_READERS: dict[str, Callable[[bytes, RequestEncoder], Iterator[LoadRequest]]] = {
    ".json": _body,
    ".jsonl": _body_lines,
    ".ndjson": _body_lines,
    ".pb": _predict_message,
    ".tfrecord": _logs,
    _WARMUP_FILE: _logs,
}
