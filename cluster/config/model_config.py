"""The models that a server serves (TF Serving: `config/model_server_config.proto`), and the text file that lists them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster import protos
from cluster.config.model_settings import ModelSettings
from cluster.config.platform_names import known_platforms
from cluster.config.text_form import parse_text_form
from cluster.core.errors import ConfigError
from cluster.core.request_logging import RequestLogging

_ABSOLUTE_OR_URI = re.compile(r"/|[A-Za-z][A-Za-z0-9+.-]*://")
_VERSION_MAX = 2**63 - 1
_LOG_COLLECTORS = ("", "file")


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

    `version_labels` gives names to versions. `request_logging` None: no request is logged.
    `settings` are what only a native config says.
    """

    name: str
    base_path: str
    platform: str = "tensorflow"
    version_policy: VersionPolicy = Latest()
    version_labels: Mapping[str, int] = field(default_factory=dict)
    request_logging: RequestLogging | None = None
    settings: ModelSettings = ModelSettings()

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError(f"the model with base_path {self.base_path!r} has no name: add name: 'my_model'")
        if not _ABSOLUTE_OR_URI.match(self.base_path):
            raise ConfigError(f"Expected model {self.name} to have an absolute path or URI; got base_path()={self.base_path}")


@dataclass(frozen=True, slots=True)
class ModelServerConfig:
    """All models of a server, in the order of the config. Raises ConfigError when two have one name.

    `unset`: it says nothing at all, not even that there are no models; in place of another config it changes nothing
    (TF Serving: `ServerCore::ReloadConfig`).
    """

    models: tuple[ModelConfig, ...] = ()
    unset: bool = False

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for model in self.models:
            if model.name in seen:
                raise ConfigError(f"Illegal to list model {model.name} multiple times in config list")
            seen.add(model.name)


def parse_model_server_config(text: str, path: str) -> ModelServerConfig:
    """The models of a text-format ModelServerConfig; a file with nothing set lists none.

    `path` is named in errors. Raises ConfigError: with protobuf's own message (its `line:column` too) for text that does not
    parse, with TF Serving's for models that cannot be served (`model_servers/server_core.cc`).
    """
    message = parse_text_form(text, protos.ModelServerConfig(), path)
    try:
        return model_server_config(message)
    except ConfigError as error:
        raise ConfigError(f"{error.message} (in {path})") from error


def model_server_config(message: Any) -> ModelServerConfig:
    """The models of a ModelServerConfig message. Raises ConfigError as `parse_model_server_config` does."""
    if message.WhichOneof("config") == "custom_model_config":
        raise ConfigError("ModelServerConfig::custom_model_config is not supported: list the models in model_config_list")
    models = tuple(_model_config(model) for model in message.model_config_list.config)
    return ModelServerConfig(models, unset=message.WhichOneof("config") is None)


def _model_config(message: Any) -> ModelConfig:
    return ModelConfig(
        name=message.name,
        base_path=message.base_path,
        platform=_platform(message),
        version_policy=_version_policy(message),
        version_labels=dict(message.version_labels),
        request_logging=_request_logging(message) if message.HasField("logging_config") else None,
    )


def _platform(message: Any) -> str:
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
    if platform not in known_platforms():
        raise ConfigError(
            f"Model {message.name} requests unsupported platform {platform}; "
            f"expected one of {', '.join(sorted(known_platforms()))}"
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


def _request_logging(message: Any) -> RequestLogging:
    config = message.logging_config
    collector = config.log_collector_config
    try:
        if config.HasField("custom_logging_config"):
            raise ConfigError("custom_logging_config is not supported: give log_collector_config and sampling_config")
        if collector.type not in _LOG_COLLECTORS:
            raise ConfigError(
                f"log_collector_config.type: Cannot find LogCollector::Factory for type: {collector.type}; "
                "leave it out, or give 'file'"
            )
        if not config.HasField("sampling_config"):
            raise ConfigError("sampling_config is missing: add sampling_config { sampling_rate: 0.01 }")
        for field_set, _ in config.sampling_config.ListFields():
            if field_set.name != "sampling_rate":
                raise ConfigError(f"sampling_config.{field_set.name} is not supported: give sampling_rate alone")
        return RequestLogging(collector.filename_prefix, config.sampling_config.sampling_rate)
    except ConfigError as error:
        raise ConfigError(f"Model {message.name}: logging_config: {error.message}") from error
