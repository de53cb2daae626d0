"""TF Serving's batching parameters file: a text-format BatchingParameters, every scalar in a wrapper (`{ value: 128 }`)."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from cluster import protos
from cluster.config.batching_parameters import BatchingParameters
from cluster.config.text_form import parse_text_form
from cluster.core.errors import ConfigError

# A file that gives no name gets another default than a server without a file.
_THREAD_POOL_NAME = "batch_threads"


def parse_batching_parameters(text: str, path: str) -> BatchingParameters:
    """The parameters that a file's text holds; `path` is named in errors. Raises ConfigError for what cannot be used."""
    message = parse_text_form(text, protos.BatchingParameters(), path)
    return to_batching_parameters(message, path)


def to_batching_parameters(message: Any, path: str) -> BatchingParameters:
    """The parameters in a message of ours. Raises ConfigError for what cannot be used."""
    values: dict[str, object] = {"thread_pool_name": _THREAD_POOL_NAME}
    for field, value in message.ListFields():
        if field.name == "allowed_batch_sizes":
            values[field.name] = tuple(value)
        else:
            values[field.name] = getattr(value, "value", value)
    try:
        return BatchingParameters.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{'.'.join(map(str, first['loc']))} {{ value: {first['input']} }}: " if first["loc"] else ""
        raise ConfigError(f"{where}{first['msg']} (in {path})") from error
