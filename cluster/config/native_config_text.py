"""Writing a native config, for people to go on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cluster.config.model_config import ModelServerConfig
from cluster.config.native_config import native_fields
from cluster.config.yaml_document import yaml_text

_HEADER = """\
# The models of a server, converted from {source}.
#   aspired serve --model_config_file=models.yaml --rest_api_port=8501
#   aspired config check models.yaml
# docs/configuration.md describes every field.
"""

# Each stands above the first field of its name.
_COMMENTS = {
    "base_path": "Holds a directory for each version, named by its number: 1, 2, ...",
    "version_policy": "Which of them are served: latest, all, {latest: COUNT} or {specific: [VERSION, ...]}.",
    "version_labels": "Names for versions in requests: /v1/models/NAME/labels/LABEL:predict",
    "request_logging": "The part of the requests that is written to files, with their answers.",
}

BEYOND_TEXT = """\
What TensorFlow Serving's form has no words for; what is not said is as the server's flags say.
replicas: 2
resources: {cpus: 1, memory: 2GiB, gpu: shared}
node_labels: {pool: gold}
batching: {max_batch_size: 128, batch_timeout_micros: 1000}
warmup: {iterations: 3}
platform_options: {intra_op_parallelism_threads: 2}
"""
"""A line about fields that the first model might have, and an example of each."""


def native_config_text(models: ModelServerConfig, source: str) -> str:
    """A native config of these models that explains itself; `source` is the file that they come from."""
    header = _HEADER.format(source=ascii(Path(source).name)[1:-1])  # no character of a file's name ends a comment
    listed = native_fields(models)["models"]
    if not listed:
        return f"{header}models: []\n"
    told: set[str] = set()
    items = [_item(model, told) for model in listed]
    items[0] += [f"# {line}" for line in BEYOND_TEXT.splitlines()]
    return header + "models:\n" + "\n".join(_indented(item) for item in items)


def _item(model: dict[str, Any], told: set[str]) -> list[str]:
    lines: list[str] = []
    for name, value in model.items():
        if name in _COMMENTS and name not in told:
            told.add(name)
            lines.append(f"# {_COMMENTS[name]}")
        lines += yaml_text({name: value}).splitlines()
    return lines


def _indented(lines: list[str]) -> str:
    return "".join(f"{'  - ' if number == 0 else '    '}{line}\n" for number, line in enumerate(lines))
