"""Everything that a server is told, in one value that its actors get."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from cluster.config.batching_parameters import BatchingParameters
from cluster.config.batching_parameters_file import parse_batching_parameters
from cluster.config.model_config import ModelConfig, ModelServerConfig, parse_model_server_config
from cluster.config.monitoring_config import parse_monitoring_config
from cluster.config.native_config import is_native, parse_native_config
from cluster.config.platform_config_file import parse_platform_config
from cluster.config.server_options import ServerOptions
from cluster.config.session_config import SessionConfig, parse_session_config
from cluster.config.ssl_config import SSLConfig, parse_ssl_config
from cluster.core.errors import ConfigError

_NATIVE_FORM = re.compile(r"^models *:", re.MULTILINE)
_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The flags and what the files that they name hold.

    `options` are what is in force: a file that wins over flags has taken their place in them. `batching` None: requests run one
    by one; `ssl` None: no TLS; `metrics_path` empty: no metrics are to be had.
    """

    options: ServerOptions
    models: ModelServerConfig
    batching: BatchingParameters | None = None
    metrics_path: str = ""
    session: SessionConfig = SessionConfig()
    ssl: SSLConfig | None = None


def read_server_config(options: ServerOptions) -> ServerConfig:
    """Reads the files that `options` name. Raises ConfigError for one that cannot be read or used."""
    config = ServerConfig(options, _models(options), metrics_path=_metrics_path(options), ssl=_ssl(options))
    if options.platform_config_file:
        platform = _parse("platform_config_file", options.platform_config_file, parse_platform_config)
        return replace(
            config, options=platform.in_place_of_flags(options), batching=platform.batching, session=platform.session
        )
    session = _session(options)
    fraction = options.per_process_gpu_memory_fraction or session.gpu_memory_fraction
    options = replace(options, per_process_gpu_memory_fraction=fraction)
    return replace(config, options=options, batching=_batching(options), session=session)


def read_model_server_config(path: str) -> ModelServerConfig:
    """The models that a model config file lists, in either form. Raises ConfigError for one that cannot be read or used."""
    return _parse("model_config_file", path, parse_model_config_file)


@dataclass(frozen=True, slots=True)
class ModelConfigFile:
    """The model config file, for whoever reads it again and again (see `cluster.actors.source_actor.ModelsTold`)."""

    path: str

    @property
    def named(self) -> str:
        return "model config"

    def read(self, last: ModelServerConfig) -> ModelServerConfig:
        return read_model_server_config(self.path)


def parse_model_config_file(text: str, path: str) -> ModelServerConfig:
    """The models that a model config file's text lists; its form goes by the name. Raises ConfigError."""
    if is_native(path):
        return parse_native_config(text, path)
    try:
        return parse_model_server_config(text, path)
    except ConfigError as error:
        if _NATIVE_FORM.search(text) is None:
            raise
        raise ConfigError(f"{path}: models: this is a native config; its name must end in .yaml or .yml") from error


def _models(options: ServerOptions) -> ModelServerConfig:
    if options.model_config_file:
        # What says nothing lists no models when there were none before.
        return replace(read_model_server_config(options.model_config_file), unset=False)
    if options.model_repository:
        return ModelServerConfig(unset=True)  # until the source has looked
    try:
        return ModelServerConfig((ModelConfig(options.model_name, options.model_base_path),))
    except ConfigError as error:
        absolute = Path(options.model_base_path).absolute()
        raise ConfigError(f"{error.message}; did you mean --model_base_path={absolute}?") from error


def _batching(options: ServerOptions) -> BatchingParameters | None:
    if not options.enable_batching:
        return None
    if not options.batching_parameters_file:
        return BatchingParameters()
    return _parse("batching_parameters_file", options.batching_parameters_file, parse_batching_parameters)


def _metrics_path(options: ServerOptions) -> str:
    if not options.monitoring_config_file:
        return ""
    return _parse("monitoring_config_file", options.monitoring_config_file, parse_monitoring_config)


def _ssl(options: ServerOptions) -> SSLConfig | None:
    return _parse("ssl_config_file", options.ssl_config_file, parse_ssl_config) if options.ssl_config_file else None


def _session(options: ServerOptions) -> SessionConfig:
    file = options.tensorflow_session_config_file
    session = _parse("tensorflow_session_config_file", file, parse_session_config) if file else SessionConfig()
    return session.with_bfloat16() if options.mixed_precision == "bfloat16" else session


def _parse(flag: str, path: str, parse: Callable[[str, str], _Parsed]) -> _Parsed:
    return parse(read_config_text(path, f"--{flag}={path}"), path)


def read_config_text(path: str, named: str) -> str:
    """What a config file holds. Raises ConfigError, which calls the file as it was `named`, when it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{named}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{named}: not a text file: {error.reason} at byte {error.start}") from error
