"""TF Serving's configuration files: protobuf messages in text form."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message

from cluster import protos
from cluster.core.errors import ConfigError

M = TypeVar("M", bound=Message)


def parse_text_form(text: str, message: M, path: str) -> M:
    """Reads a file's text into `message`. Raises ConfigError with protobuf's own text, its `line:column` too, and `path`."""
    try:
        return text_format.Parse(text, message, descriptor_pool=protos.POOL)
    except text_format.ParseError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"Error parsing text-format {message.DESCRIPTOR.full_name}: {reason} (in {path})") from error
