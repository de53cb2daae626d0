"""How the processes of a server log. Each of them calls `configure_logging` once, first of all."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

FIELDS = "fields"
"""`extra={FIELDS: {...}}` of a log call: named values beside the message. `None` stands for one that there is not."""

# Ours; "__main__" is the host. What other packages have to say is heard from warnings on.
_OUR_LOGGERS = ("cluster", "servables", "__main__")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """`level`: the least important message of ours that is logged, by its name in `logging`. `json`: an object a line."""

    level: str = "INFO"
    json: bool = False


def configure_logging(options: LogOptions, stream: TextIO | None = None) -> None:
    """Has this process log to `stream`, by default standard error, in place of what was configured before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if options.json else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in _OUR_LOGGERS:
        logging.getLogger(name).setLevel(options.level)


class TextFormatter(logging.Formatter):
    """A line of text, with the fields as `name=value` at its end; values with spaces or the like are in JSON's quotes."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        fields = "".join(f" {name}={_quoted(value)}" for name, value in _fields(record).items())
        return super().formatMessage(record) + fields


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (ISO 8601, UTC), level, logger, message, the fields, and a traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = getattr(record, FIELDS, {})
    return {name: value for name, value in fields.items() if value is not None}


def _quoted(value: object) -> str:
    text = str(value)
    return text if text and text.isprintable() and not set(text) & set(' "=') else json.dumps(text)
