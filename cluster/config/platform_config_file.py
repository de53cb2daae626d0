"""TF Serving's platform config file: a text-format PlatformConfigMap.

platform_configs {
  key: "tensorflow"
  value { source_adapter_config {
    [type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig] {
      legacy_config { session_config { intra_op_parallelism_threads: 4 } saved_model_tags: "serve" }
    }
  } }
}
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cluster import protos
from cluster.config.batching_parameters import BatchingParameters
from cluster.config.batching_parameters_file import to_batching_parameters
from cluster.config.server_options import ServerOptions
from cluster.config.session_config import SessionConfig, to_session_config
from cluster.config.text_form import parse_text_form
from cluster.core.errors import ConfigError

_TENSORFLOW = "tensorflow"


@dataclass(frozen=True, slots=True)
class TensorFlowPlatformConfig:
    """What the file says of the platform "tensorflow". `batching` is None where requests are run one by one."""

    session: SessionConfig
    batching: BatchingParameters | None
    per_model_batching: bool
    saved_model_tags: tuple[str, ...]
    model_warmup: bool
    warmup_iterations: int
    prefer_tflite_model: bool
    num_tflite_pools: int
    num_tflite_interpreters_per_pool: int

    def in_place_of_flags(self, options: ServerOptions) -> ServerOptions:
        """The options with what the file says, or leaves out, in place of the flags that would say the same."""
        return replace(
            options,
            enable_batching=self.batching is not None,
            batching_parameters_file="",
            enable_per_model_batching_parameters=self.per_model_batching,
            saved_model_tags=",".join(self.saved_model_tags),
            enable_model_warmup=self.model_warmup,
            num_request_iterations_for_warmup=self.warmup_iterations,
            prefer_tflite_model=self.prefer_tflite_model,
            num_tflite_pools=self.num_tflite_pools,
            num_tflite_interpreters_per_pool=self.num_tflite_interpreters_per_pool,
            tensorflow_session_config_file="",
            tensorflow_session_parallelism=0,
            tensorflow_intra_op_parallelism=0,
            tensorflow_inter_op_parallelism=0,
            per_process_gpu_memory_fraction=self.session.gpu_memory_fraction,
            mixed_precision="",
        )


def parse_platform_config(text: str, path: str) -> TensorFlowPlatformConfig:
    """What a file's text says of "tensorflow"; `path` is named in errors. Raises ConfigError for what cannot be used."""
    message = parse_text_form(text, protos.PlatformConfigMap(), path)
    others = sorted(message.platform_configs.keys() - {_TENSORFLOW})
    if others:
        raise ConfigError(f'platform_configs {{ key: "{others[0]}" }}: only "{_TENSORFLOW}" can be configured (in {path})')
    if _TENSORFLOW not in message.platform_configs:
        raise ConfigError(f'platform_configs: expected an entry with the key "{_TENSORFLOW}" (in {path})')
    adapter = protos.SavedModelBundleSourceAdapterConfig()
    source_adapter_config = message.platform_configs[_TENSORFLOW].source_adapter_config
    if not source_adapter_config.Unpack(adapter):
        raise ConfigError(
            f"source_adapter_config: expected a [type.googleapis.com/{adapter.DESCRIPTOR.full_name}], "
            f"got {source_adapter_config.TypeName() or 'nothing'} (in {path})"
        )
    config = adapter.legacy_config
    if config.session_target:
        raise ConfigError(
            f'session_target: "{config.session_target}": sessions run in their replicas; leave it out (in {path})'
        )
    return TensorFlowPlatformConfig(
        session=to_session_config(config.session_config, path),
        batching=to_batching_parameters(config.batching_parameters, path) if config.HasField("batching_parameters") else None,
        per_model_batching=config.enable_per_model_batching_params,
        saved_model_tags=tuple(config.saved_model_tags) or ("serve",),
        model_warmup=config.enable_model_warmup,
        warmup_iterations=config.model_warmup_options.num_request_iterations.value,
        prefer_tflite_model=config.prefer_tflite_model,
        num_tflite_pools=config.num_tflite_pools or 1,
        num_tflite_interpreters_per_pool=config.num_tflite_interpreters_per_pool or 1,
    )
