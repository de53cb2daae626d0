"""The fields of a native model config, as pydantic checks them; docs/configuration.md has its tables from these classes.

A default of None leaves what the field is about to the server's flags, or to an estimate.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from cluster.config.batching_parameters import BatchingParameters
from cluster.config.model_config import All, Latest, ModelConfig, Specific, VersionPolicy
from cluster.config.model_settings import (
    Batching,
    ModelSettings,
    PlatformSettings,
    ServingSettings,
    Unbatched,
    WarmupSettings,
)
from cluster.config.platform_names import known_platforms
from cluster.core.errors import ConfigError
from cluster.core.request_logging import RequestLogging
from cluster.core.resources import GpuUse, ResourceRequest

_INT64_MAX = 2**63 - 1
_SIZE = re.compile(r"(?P<number>[0-9]{1,15}(\.[0-9]{1,3})?) ?(?P<unit>[kKMGT]i?B)")
_POWERS = {"K": 1, "M": 2, "G": 3, "T": 4}


def _field(default: Any, meaning: str, *, unit: str = "", default_text: str = "", **limits: Any) -> Any:
    """A field as docs/configuration.md tells of it; `default_text` stands for a default that its value does not explain."""
    return Field(default, description=meaning, json_schema_extra={"unit": unit, "default": default_text}, **limits)


def _size_bytes(value: object) -> object:
    """The bytes that `512MiB` stands for; a number is bytes already."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value)
    if match is None:
        raise _refusal(f"expected a size in bytes, or with a unit, as in 512MiB or 2GiB; got '{value}'")
    base = 1024 if "i" in match["unit"] else 1000
    return int(float(match["number"]) * base ** _POWERS[match["unit"][0].upper()])


def _refusal(message: str) -> PydanticCustomError:
    return PydanticCustomError("refusal", "{message}", {"message": message})


SizeBytes = Annotated[int, BeforeValidator(_size_bytes)]
VersionNumber = Annotated[int, Field(ge=0, le=_INT64_MAX)]


class _Fields(BaseModel):
    """A mapping of the file. A field that is empty is as if it were not there."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {name: field for name, field in value.items() if field is not None or name not in cls.model_fields}


class VersionPolicyFields(_Fields):
    """Which versions are served: one of the three. `latest` and `all` may stand alone: `version_policy: all`."""

    latest: int | None = _field(None, "Serve this many of the largest version numbers.", unit="versions", ge=1)
    all: bool | None = _field(None, "`true`: serve every version there is.")
    specific: list[VersionNumber] | None = _field(None, "Serve these versions, those of them that are there.")

    @model_validator(mode="before")
    @classmethod
    def _written_short(cls, value: object) -> object:
        match value:
            case "latest":
                return {"latest": 1}
            case "all":
                return {"all": True}
            case dict() | VersionPolicyFields():
                return value
            case _:
                raise _refusal("expected latest, all, {latest: COUNT} or {specific: [VERSION, ...]}")

    @model_validator(mode="after")
    def _is_one(self) -> VersionPolicyFields:
        if [self.latest is not None, self.all is True, self.specific is not None].count(True) != 1 or self.all is False:
            raise _refusal("expected one of latest, all and specific")
        return self

    def policy(self) -> VersionPolicy:
        if self.specific is not None:
            return Specific(frozenset(self.specific))
        return All() if self.all else Latest(self.latest or 1)


class RequestLoggingFields(_Fields):
    """Which requests and answers are written to files, as TFRecords of PredictionLogs."""

    filename_prefix: str = _field(..., "What the names of the files begin with: an absolute path, or `s3://bucket/prefix`.")
    sampling_rate: float = _field(..., "The part of the requests that is logged, 0 to 1.", ge=0, le=1)

    @field_validator("filename_prefix")
    @classmethod
    def _can_be_written(cls, value: str) -> str:
        try:
            RequestLogging(value, 0.0)
        except ConfigError as error:
            raise _refusal(error.message.removeprefix("filename_prefix: ")) from None
        return value

    def logging(self) -> RequestLogging:
        return RequestLogging(self.filename_prefix, self.sampling_rate)


class ResourceFields(_Fields):
    """What each replica takes of its node. What is not said is estimated, as docs/lifecycle.md tells under Room."""

    cpus: float = _field(
        0.0,
        "CPUs that it is counted with, of its node's and of Ray's. It may use more.",
        unit="CPUs",
        ge=0,
        allow_inf_nan=False,
    )
    memory: SizeBytes | None = _field(
        None, "Memory that it is counted with. It may use more.", unit="bytes", default_text="estimated", ge=1
    )
    gpu: Literal["shared", "exclusive", "none"] = _field(
        "shared",
        "`shared`: it shares a GPU with other versions. `exclusive`: it has one alone; then `version_transition` is "
        "`resource_preserving`. `none`: it computes on CPUs. Without GPUs in the cluster all are the same.",
    )
    gpu_memory: SizeBytes | None = _field(
        None,
        "Memory of its GPU that it is counted with; where the device's is known, also the most that TensorFlow takes.",
        unit="bytes",
        default_text="estimated",
        ge=1,
    )

    @model_validator(mode="after")
    def _fits_together(self) -> ResourceFields:
        if self.gpu == "none" and self.gpu_memory is not None:
            raise _refusal("gpu_memory is given with gpu: none; leave one of them out")
        return self

    def request(self) -> ResourceRequest:
        return ResourceRequest(self.memory, self.gpu_memory, self.cpus, GpuUse(self.gpu))


class BatchingFields(_Fields, BatchingParameters):
    """Batching in each replica. With it, neither the batching flags nor a version's `batching_params.pbtxt` hold for the model.

    Fields and defaults are those of TF Serving's BatchingParameters. Sizes count rows, not requests.
    """

    enabled: bool = _field(True, "`false`: run requests one by one, whatever the flags say.")

    @field_validator("allowed_batch_sizes", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    def batching(self) -> Batching:
        given = self.model_dump(exclude={"enabled"}, exclude_unset=True)
        return BatchingParameters.model_validate(given) if self.enabled else Unbatched()


class WarmupFields(_Fields):
    """What runs in a version before it is available."""

    replay_records: bool | None = _field(
        None, "Run `assets.extra/tf_serving_warmup_requests`.", default_text="--enable_model_warmup"
    )
    iterations: int | None = _field(
        None, "How often each of these requests is run.", default_text="--num_request_iterations_for_warmup", ge=1
    )
    all_batch_sizes: bool | None = _field(
        None,
        "Also run every signature with each of `allowed_batch_sizes`.",
        default_text="--enable_all_batch_sizes_warmup",
    )

    def settings(self) -> WarmupSettings:
        return WarmupSettings(**self.model_dump())


class PlatformOptionFields(_Fields):
    """How the platform loads a version."""

    saved_model_tags: list[str] | None = _field(
        None, "Tags of the MetaGraph to load, all of them.", default_text="--saved_model_tags", min_length=1
    )
    intra_op_parallelism_threads: int | None = _field(
        None,
        "Threads of a session within one op; 0 leaves them to --tensorflow_session_config_file, else to TensorFlow.",
        unit="threads",
        default_text="--tensorflow_intra_op_parallelism, --tensorflow_session_parallelism",
        ge=0,
    )
    inter_op_parallelism_threads: int | None = _field(
        None,
        "Threads of a session between ops; 0 leaves them to --tensorflow_session_config_file, else to TensorFlow. -1: a graph "
        "runs in the thread that has the request, which suits small ones and ends none of them when its time is over; where no "
        "number is set, that is found out for each signature (docs/performance.md).",
        unit="threads",
        default_text="--tensorflow_inter_op_parallelism, --tensorflow_session_parallelism",
        ge=-1,
    )
    prefer_tflite_model: bool | None = _field(
        None, "Serve `model.tflite` where a version has one.", default_text="--prefer_tflite_model"
    )
    num_tflite_pools: int | None = _field(
        None, "Pools of TFLite interpreters.", unit="pools", default_text="--num_tflite_pools", ge=1
    )
    num_tflite_interpreters_per_pool: int | None = _field(
        None,
        "TFLite interpreters in each pool.",
        unit="interpreters",
        default_text="--num_tflite_interpreters_per_pool",
        ge=1,
    )

    def settings(self) -> PlatformSettings:
        tags = None if self.saved_model_tags is None else tuple(self.saved_model_tags)
        return PlatformSettings(saved_model_tags=tags, **self.model_dump(exclude={"saved_model_tags"}))


class ModelFields(_Fields):
    """One model."""

    name: str = _field(..., "The name that clients ask for. Each is there once.", min_length=1)
    base_path: str = _field(
        ..., "Directory that holds the model's versions: `<path>/1`, `<path>/2`, ... An absolute path or a URI."
    )
    platform: str = _field(
        "tensorflow", "What loads it: `tensorflow`, `tflite`, `hashmap` or a plug-in's name (docs/platforms.md)."
    )
    version_policy: VersionPolicyFields | None = _field(
        None, "Which of its versions are served.", default_text="`latest`: the largest number"
    )
    version_labels: dict[str, VersionNumber] | None = _field(
        None, "Names for versions, to be used in requests: `{stable: 1, canary: 2}`.", default_text="no labels"
    )
    request_logging: RequestLoggingFields | None = _field(
        None, "Which of its requests are logged, and where to.", default_text="no request"
    )
    replicas: int | None = _field(
        None,
        "Processes of each version.",
        unit="replicas",
        default_text="--replicas_per_version",
        ge=1,
        le=10_000,
    )
    resources: ResourceFields | None = _field(None, "What each replica takes.", default_text="estimated")
    node_labels: dict[str, str] | None = _field(
        None,
        "Ray node labels (`ray start --labels=pool=gold`). Only nodes that have all of them get replicas.",
        default_text="any node",
    )
    version_transition: Literal["availability_preserving", "resource_preserving"] = _field(
        "availability_preserving",
        "`availability_preserving`: an old version is unloaded when the new one is ready. `resource_preserving`: before the "
        "new one loads, and nothing is served meanwhile.",
    )
    batching: BatchingFields | None = _field(
        None, "How requests are put together.", default_text="--enable_batching, --batching_parameters_file"
    )
    warmup: WarmupFields | None = _field(None, "What runs in a version before it is available.", default_text="the flags")
    platform_options: PlatformOptionFields | None = _field(None, "How the platform loads a version.", default_text="the flags")

    @field_validator("base_path")
    @classmethod
    def _absolute(cls, value: str) -> str:
        try:
            ModelConfig("model", value)
        except ConfigError:
            raise _refusal("expected an absolute path or a URI, as in /models/my_model") from None
        return value

    @field_validator("platform")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in known_platforms():
            raise _refusal(f"expected one of {', '.join(sorted(known_platforms()))}")
        return value

    def model(self) -> ModelConfig:
        return ModelConfig(
            name=self.name,
            base_path=self.base_path,
            platform=self.platform,
            version_policy=self.version_policy.policy() if self.version_policy else Latest(),
            version_labels=dict(self.version_labels or {}),
            request_logging=self.request_logging.logging() if self.request_logging else None,
            settings=self._settings(),
        )

    def _settings(self) -> ModelSettings:
        return ModelSettings(
            replicas=self.replicas,
            resources=self.resources.request() if self.resources else ResourceRequest(),
            node_labels=tuple(sorted((self.node_labels or {}).items())),
            resource_preserving=self.version_transition == "resource_preserving",
            serving=ServingSettings(
                batching=self.batching.batching() if self.batching else None,
                warmup=self.warmup.settings() if self.warmup else WarmupSettings(),
                platform=self.platform_options.settings() if self.platform_options else PlatformSettings(),
            ),
        )


class NativeConfigFields(_Fields):
    """There is one field, and it has to be there: a file that is empty for a moment unloads nothing."""

    models: list[ModelFields] = _field(..., "The models of the server. `[]` serves none.")
