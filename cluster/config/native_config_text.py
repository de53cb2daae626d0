"""Writing a native config: as plain values for programs, as text for people to go on with."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from cluster.config.batching_parameters import BatchingParameters
from cluster.config.model_config import All, Latest, ModelConfig, ModelServerConfig, Specific, VersionPolicy
from cluster.config.model_settings import Batching, Unbatched, overrides
from cluster.config.yaml_document import yaml_text
from cluster.core.resources import GpuUse, ResourceRequest

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
    listed = native_form(models)["models"]
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


def native_form(models: ModelServerConfig) -> dict[str, Any]:
    """The models as a native config that is read back as the same; what is as it is by default is left out."""
    return {"models": [_native_model(model) for model in models.models]}


def _native_model(model: ModelConfig) -> dict[str, Any]:
    settings, serving = model.settings, model.settings.serving
    platform = overrides(serving.platform)
    if "saved_model_tags" in platform:
        platform["saved_model_tags"] = list(platform["saved_model_tags"])
    fields = {
        "name": model.name,
        "base_path": model.base_path,
        "platform": model.platform,
        "version_policy": _native_policy(model.version_policy),
        "version_labels": dict(model.version_labels),
        "request_logging": dataclasses.asdict(model.request_logging) if model.request_logging else None,
        "replicas": settings.replicas,
        "resources": _native_resources(settings.resources),
        "node_labels": dict(settings.node_labels),
        "version_transition": "resource_preserving" if settings.resource_preserving else None,
        "batching": _native_batching(serving.batching),
        "warmup": overrides(serving.warmup),
        "platform_options": platform,
    }
    return {name: value for name, value in fields.items() if value not in (None, {})}


def _native_policy(policy: VersionPolicy) -> Any:
    match policy:
        case Latest(num_versions):
            return {"latest": num_versions} if num_versions != 1 else "latest"
        case All():
            return "all"
        case Specific(versions):
            return {"specific": sorted(versions)}


def _native_resources(request: ResourceRequest) -> dict[str, Any]:
    fields = {
        "cpus": request.cpus or None,
        "memory": request.memory_bytes,
        "gpu": request.gpu.value if request.gpu is not GpuUse.SHARED else None,
        "gpu_memory": request.gpu_memory_bytes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _native_batching(batching: Batching | None) -> dict[str, Any] | None:
    match batching:
        case None:
            return None
        case Unbatched():
            return {"enabled": False}
        case BatchingParameters():
            return batching.model_dump(mode="json", exclude_unset=True) or {"enabled": True}
