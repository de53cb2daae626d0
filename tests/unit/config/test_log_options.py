from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.config.log_options import FIELDS, JsonFormatter, TextFormatter


def record(message: str = "loaded %s", *args: Any, **extra: Any) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "cluster.host", "levelname": "INFO", "msg": message, "args": args, "created": 0.0625})
    made.__dict__.update(extra)
    return made


def test_json_has_one_object_a_line_with_the_time_in_utc() -> None:
    line = JsonFormatter().format(record("loaded %s\nand %s", "m", "é"))
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.062Z",
        "level": "INFO",
        "logger": "cluster.host",
        "message": "loaded m\nand é",
    }
    assert "\n" not in line
    assert line.isascii()


def test_json_has_fields_beside_the_message_and_leaves_out_those_that_there_are_not() -> None:
    line = json.loads(
        JsonFormatter().format(record("request", **{FIELDS: {"status": 200, "version": None, "path": Path("/p")}}))
    )
    assert line["message"] == "request"
    assert line["status"] == 200
    assert line["path"] == "/p"
    assert "version" not in line


def test_json_holds_a_traceback() -> None:
    try:
        raise ValueError("bad")
    except ValueError:
        line = json.loads(JsonFormatter().format(record("failed", exc_info=sys.exc_info())))
    assert line["traceback"].startswith("Traceback")
    assert line["traceback"].endswith("ValueError: bad")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.5, "1.5"),
        ("/v1/models/m:predict", "/v1/models/m:predict"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ("end\nINFO forged", r'"end\nINFO forged"'),
        ('"', r'"\""'),
    ],
)
def test_text_has_fields_at_the_end_each_of_which_is_one_word_or_quoted(value: object, shown: str) -> None:
    line = TextFormatter().format(record("request", **{FIELDS: {"model": None, "path": value}}))
    assert line.endswith(f" INFO cluster.host: request path={shown}")


def test_ours_is_heard_from_the_level_that_is_asked_for_and_others_from_warnings_on() -> None:
    code = """
import logging
from cluster.config.log_options import LogOptions, configure_logging
logging.basicConfig(format="configured before: %(message)s")
configure_logging(LogOptions(level="DEBUG", json=True))
for name in ("cluster.host", "servables.frontend", "library"):
    logging.getLogger(name).debug("debug of %s", name)
    logging.getLogger(name).warning("warning of %s", name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert [json.loads(line)["message"] for line in done.stderr.splitlines()] == [
        "debug of cluster.host",
        "warning of cluster.host",
        "debug of servables.frontend",
        "warning of servables.frontend",
        "warning of library",
    ]
