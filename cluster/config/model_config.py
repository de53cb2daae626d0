"""The models that a server serves (TF Serving: `config/model_server_config.proto`), and the text file that lists them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import text_format

from cluster import protos
from cluster.config.model_settings import ModelSettings
from cluster.core.errors import ConfigError

PLATFORMS = frozenset({"tensorflow", "hashmap"})
"""The values that `model_platform` may have."""

_ABSOLUTE_OR_URI = re.compile(r"/|[A-Za-z][A-Za-z0-9+.-]*://")
_VERSION_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Latest:
    """Serve the `num_versions` largest version numbers."""

    num_versions: int = 1

    def __post_init__(self) -> None:
        if self.num_versions < 1:
            raise ConfigError(f"latest {{ num_versions: {self.num_versions} }}: expected 1 or more")


@dataclass(frozen=True, slots=True)
class All:
    """Serve every version there is."""


@dataclass(frozen=True, slots=True)
class Specific:
    """Serve these versions, those of them that are there. None listed: serve nothing."""

    versions: frozenset[int]

    def __post_init__(self) -> None:
        for version in sorted(self.versions):
            if not 0 <= version <= _VERSION_MAX:
                raise ConfigError(f"specific {{ versions: {version} }}: expected version numbers from 0 to {_VERSION_MAX}")


VersionPolicy = Latest | All | Specific


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model. Making one with a name, path or platform that cannot be served raises ConfigError.

    `version_labels` gives names to versions. `logs_requests`: the config asks for its requests to be logged.
    `settings` are what only a native config says.
    """

    name: str
    base_path: str
    platform: str = "tensorflow"
    version_policy: VersionPolicy = Latest()
    version_labels: Mapping[str, int] = field(default_factory=dict)
    logs_requests: bool = False
    settings: ModelSettings = ModelSettings()

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError(f"the model with base_path {self.base_path!r} has no name: add name: 'my_model'")
        if not _ABSOLUTE_OR_URI.match(self.base_path):
            raise ConfigError(f"Expected model {self.name} to have an absolute path or URI; got base_path()={self.base_path}")


@dataclass(frozen=True, slots=True)
class ModelServerConfig:
    """All models of a server, in the order of the config. Raises ConfigError when two have one name."""

    models: tuple[ModelConfig, ...] = ()

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for model in self.models:
            if model.name in seen:
                raise ConfigError(f"Illegal to list model {model.name} multiple times in config list")
            seen.add(model.name)

    def without_effect(self) -> tuple[str, ...]:
        """One line for each thing that the config asks for and that is not served yet."""
        return tuple(
            f"model {model.name}: logging_config has no effect yet: no request is logged"
            for model in self.models
            if model.logs_requests
        )


def parse_model_server_config(text: str, path: str, platforms: Collection[str] = PLATFORMS) -> ModelServerConfig:
    """The models of a text-format ModelServerConfig; a file with nothing set lists none.

    `path` is named in errors. Raises ConfigError: with protobuf's own message (its `line:column` too) for text that does not
    parse, with TF Serving's for models that cannot be served (`model_servers/server_core.cc`).
    """
    try:
        message = text_format.Parse(text, protos.ModelServerConfig())
    except text_format.ParseError as error:
        raise ConfigError(
            f"Error parsing text-format tensorflow.serving.ModelServerConfig: {' '.join(str(error).split())} (in {path})"
        ) from error
    try:
        return model_server_config(message, platforms)
    except ConfigError as error:
        raise ConfigError(f"{error.message} (in {path})") from error


def model_server_config(message: Any, platforms: Collection[str] = PLATFORMS) -> ModelServerConfig:
    """The models of a ModelServerConfig message. Raises ConfigError as `parse_model_server_config` does."""
    if message.WhichOneof("config") == "custom_model_config":
        raise ConfigError("ModelServerConfig::custom_model_config is not supported: list the models in model_config_list")
    return ModelServerConfig(tuple(_model_config(model, platforms) for model in message.model_config_list.config))


def _model_config(message: Any, platforms: Collection[str]) -> ModelConfig:
    return ModelConfig(
        name=message.name,
        base_path=message.base_path,
        platform=_platform(message, platforms),
        version_policy=_version_policy(message),
        version_labels=dict(message.version_labels),
        logs_requests=message.HasField("logging_config"),
    )


def _platform(message: Any, platforms: Collection[str]) -> str:
    platform: str = message.model_platform
    if message.model_type:
        if platform:
            raise ConfigError(
                "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform, "
                f"model name is {message.name}"
            )
        if message.model_type != protos.ModelType.Value("TENSORFLOW"):
            raise ConfigError(
                f"ModelServerConfig::model_type choice {message.model_type} not supported, model name is {message.name}"
            )
        platform = "tensorflow"
    if not platform:
        raise ConfigError(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
            f"model name is {message.name}; add model_platform: 'tensorflow'"
        )
    if platform not in platforms:
        raise ConfigError(
            f"Model {message.name} requests unsupported platform {platform}; expected one of {', '.join(sorted(platforms))}"
        )
    return platform


def _version_policy(message: Any) -> VersionPolicy:
    policy = message.model_version_policy
    match policy.WhichOneof("policy_choice"):
        case "all":
            return All()
        case "specific":
            return Specific(frozenset(policy.specific.versions))
        case _:
            return Latest(max(policy.latest.num_versions, 1))
