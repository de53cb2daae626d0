"""What a native config says of a model beyond TF Serving's form. What it leaves open, the server's flags say."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from cluster.config.batching_parameters import BatchingParameters
from cluster.core.aspired_version import AspiredVersion
from cluster.core.resources import ResourceRequest


@dataclass(frozen=True, slots=True)
class Unbatched:
    """Requests are run one by one, whatever the flags say."""


Batching = BatchingParameters | Unbatched


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmupSettings:
    """How a version is warmed up; fields as in `servables.warmup.warmup.WarmupOptions`, None as the flags say."""

    replay_records: bool | None = None
    iterations: int | None = None
    all_batch_sizes: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformSettings:
    """How a platform loads a version; fields as in `servables.servable.PlatformOptions`, None as the flags say."""

    saved_model_tags: tuple[str, ...] | None = None
    intra_op_parallelism_threads: int | None = None
    inter_op_parallelism_threads: int | None = None
    prefer_tflite_model: bool | None = None
    num_tflite_pools: int | None = None
    num_tflite_interpreters_per_pool: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSettings:
    """What a version's replicas are told: a source puts it on every `AspiredVersion`, and a load takes it from there."""

    batching: Batching | None = None
    warmup: WarmupSettings = WarmupSettings()
    platform: PlatformSettings = PlatformSettings()

    def batching_over(self, flags: BatchingParameters | None) -> BatchingParameters | None:
        """The parameters that hold where `flags` would without these settings; None: requests are run one by one."""
        if self.batching is None:
            return flags
        return None if isinstance(self.batching, Unbatched) else self.batching


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """All of it, for one model. `serving` goes to the replicas; the rest says where and how many they are (`StreamOptions`).

    `resource_preserving`: an old version is unloaded before the new one loads. `settle_s` is for the source: how long the files
    of a version without a manifest must have been still; None: as the flags say.
    """

    replicas: int | None = None
    resources: ResourceRequest = ResourceRequest()
    node_labels: tuple[tuple[str, str], ...] = ()
    resource_preserving: bool = False
    settle_s: float | None = None
    serving: ServingSettings = ServingSettings()


def serving_settings(version: AspiredVersion) -> ServingSettings:
    """What the version's source was told of it; a source without a native config says nothing."""
    return version.settings if isinstance(version.settings, ServingSettings) else ServingSettings()


def overrides(settings: WarmupSettings | PlatformSettings) -> dict[str, Any]:
    """The fields that say something, by name."""
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return {name: value for name, value in values.items() if value is not None}
