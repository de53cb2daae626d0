"""The native model config: one YAML file with all that TF Serving's text file can say, and for each model what it cannot."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from cluster.config.model_config import ModelServerConfig
from cluster.config.native_config_problems import problems, repeated_names
from cluster.config.native_fields import NativeConfigFields
from cluster.config.yaml_document import parse_yaml
from cluster.core.errors import ConfigError

SUFFIXES = (".yaml", ".yml")
"""How the name of a native config ends; any other file has TF Serving's text form."""

_TEXT_FORM = re.compile(r"^ *model_config_list\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class NativeConfig:
    """What a file holds: its models, or else everything that is wrong with it, a line for each in the file's order."""

    models: ModelServerConfig = ModelServerConfig()
    problems: tuple[str, ...] = ()


def is_native(path: str) -> bool:
    """Whether a model config file of this name is a native one."""
    return Path(path).suffix.lower() in SUFFIXES


def read_native_config(text: str, path: str) -> NativeConfig:
    """The models of a native config. Problems name `path`, the line and the field."""
    config = _read(text, path)
    match = _TEXT_FORM.search(text)
    if not config.problems or match is None:
        return config
    line = text.count("\n", 0, match.start()) + 1
    what = "model_config_list: this is TensorFlow Serving's text form; its name must not end in .yaml or .yml"
    return NativeConfig(problems=(f"{path}:{line}: {what}",))


def parse_native_config(text: str, path: str) -> ModelServerConfig:
    """The models of a native config. Raises ConfigError with the first problem and the number of the others."""
    config = read_native_config(text, path)
    if not config.problems:
        return config.models
    first, *others = config.problems
    more = f" (and {len(others)} more; `aspired config check {path}` lists them all)" if others else ""
    raise ConfigError(first + more)


def _read(text: str, path: str) -> NativeConfig:
    try:
        document = parse_yaml(text, path)
    except ConfigError as error:
        return NativeConfig(problems=(error.message,))
    try:
        fields = NativeConfigFields.model_validate({} if document.value is None else document.value)
    except ValidationError as error:
        return NativeConfig(problems=problems(error, document, path))
    if repeated := repeated_names(fields.models, document, path):
        return NativeConfig(problems=repeated)
    return NativeConfig(ModelServerConfig(tuple(model.model() for model in fields.models)))
