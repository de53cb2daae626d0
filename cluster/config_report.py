"""What `aspired config check` says of a model config file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cluster.config.model_config import All, Latest, ModelConfig, ModelServerConfig, Specific
from cluster.config.native_config import is_native, read_native_config
from cluster.config.native_config_text import native_form
from cluster.config.server_config import parse_model_config_file, read_config_text
from cluster.core.errors import ConfigError
from cluster.terminal import Terminal

_COLUMNS_OF_THEIR_OWN = ("name", "base_path", "platform", "version_policy", "version_labels")


@dataclass(frozen=True, slots=True)
class ConfigReport:
    """One file. It lists models, or else has errors; each error and warning is a line that names the file."""

    path: str
    models: ModelServerConfig
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> str:
        fields = {"file": self.path, **native_form(self.models), "errors": self.errors, "warnings": self.warnings}
        return json.dumps(fields, indent=2) + "\n"


def check_config_file(path: str) -> ConfigReport:
    """Reads a model config file of either form, and looks whether its base paths are there. Raises nothing."""
    try:
        text = read_config_text(path, path)
        if is_native(path):
            read = read_native_config(text, path)
            models, errors = read.models, read.problems
        else:
            models, errors = parse_model_config_file(text, path), ()
    except ConfigError as error:
        return ConfigReport(path, ModelServerConfig(), (error.message,))
    return ConfigReport(path, models, errors, tuple(_missing(path, model) for model in models.models if _is_missing(model)))


def print_config_report(terminal: Terminal, report: ConfigReport) -> None:
    for warning in report.warnings:
        terminal.warn(warning)
    for error in report.errors:
        terminal.error(error)
    if report.errors:
        return
    if not report.models.models:
        terminal.print(f"{report.path} lists no models")
        return
    terminal.table(
        ("MODEL", "PLATFORM", "VERSIONS", "LABELS", "SETTINGS", "BASE PATH"), [_row(model) for model in report.models.models]
    )


def _row(model: ModelConfig) -> tuple[str, ...]:
    (fields,) = native_form(ModelServerConfig((model,)))["models"]
    return (
        model.name,
        model.platform,
        _versions(model),
        ", ".join(f"{label}={version}" for label, version in sorted(model.version_labels.items())) or "-",
        ", ".join(name for name in fields if name not in _COLUMNS_OF_THEIR_OWN) or "-",
        model.base_path,
    )


def _versions(model: ModelConfig) -> str:
    match model.version_policy:
        case Latest(num_versions):
            return f"latest {num_versions}"
        case All():
            return "all"
        case Specific(versions):
            return ", ".join(map(str, sorted(versions))) or "none"


def _is_missing(model: ModelConfig) -> bool:
    """Whether a base path of this machine's file system is not there; others are not looked at."""
    scheme, separator, path = model.base_path.partition("://")
    if separator and scheme != "file":
        return False
    return not Path(path if separator else model.base_path).is_dir()


def _missing(path: str, model: ModelConfig) -> str:
    return f"{path}: model {model.name}: there is no directory {model.base_path}; the server waits for it"
