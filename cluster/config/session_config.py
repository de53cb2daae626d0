"""TensorFlow's ConfigProto, the options of a session, from text and without TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from cluster import protos
from cluster.config.text_form import parse_text_form
from cluster.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """A serialized ConfigProto, to which a replica adds the threads that flags ask for, and its device.

    `gpu_memory_fraction` is not left in it: a version gets its part of a GPU from the server, which shares out no more than
    this fraction; 0 is all of it.
    """

    config_proto: bytes = b""
    gpu_memory_fraction: float = 0.0

    def with_bfloat16(self) -> SessionConfig:
        """The same, with graphs rewritten to compute in bfloat16 what loses little by it."""
        message = protos.ConfigProto.FromString(self.config_proto)
        toggle = protos.RewriterConfig.Toggle.Value("ON")
        message.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = toggle
        return replace(self, config_proto=_serialized(message))


def parse_session_config(text: str, path: str) -> SessionConfig:
    """The options that a file's text holds; `path` is named in errors. Raises ConfigError for what cannot be used."""
    message = parse_text_form(text, protos.ConfigProto(), path)
    return to_session_config(message, path)


def to_session_config(message: Any, path: str) -> SessionConfig:
    """The options in a ConfigProto of ours. Raises ConfigError for a field that says what the server itself decides."""
    gpu_options = message.gpu_options
    decided_by_the_server = {
        "cluster_def": message.cluster_def.job,
        "device_filters": message.device_filters,
        "gpu_options.visible_device_list": gpu_options.visible_device_list,
        "gpu_options.experimental.virtual_devices": gpu_options.experimental.virtual_devices,
    }
    for name, value in decided_by_the_server.items():
        if value:
            raise ConfigError(f"{name}: the server assigns devices to versions; leave it out (in {path})")
    fraction = gpu_options.per_process_gpu_memory_fraction
    gpu_options.ClearField("per_process_gpu_memory_fraction")
    return SessionConfig(_serialized(message), fraction)


def _serialized(message: Any) -> bytes:
    serialized: bytes = message.SerializeToString(deterministic=True)
    return serialized
