"""Which requests of a model are logged, and where to (TF Serving: `config/logging_config.proto`)."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RequestLogging:
    """`sampling_rate` is the part of the requests, 0 to 1; `filename_prefix` what files' names begin with.

    That is an absolute path, or `s3://bucket/prefix`.

    Making one that cannot be followed raises ConfigError, which names the field.
    """

    filename_prefix: str
    sampling_rate: float

    def __post_init__(self) -> None:
        prefix = self.filename_prefix
        if "://" in prefix:
            scheme, _, place = prefix.partition("://")
            bucket, _, key = place.partition("/")
            if scheme != "s3" or not bucket or not key:
                raise ConfigError(
                    f"filename_prefix: '{prefix}': expected a path, as in '/var/log/aspired/my_model', or 's3://bucket/my_model'"
                )
        elif not prefix.startswith("/"):
            raise ConfigError(f"filename_prefix: '{prefix}' is not absolute; give a path such as '/var/log/aspired/my_model'")
        if prefix.endswith("/"):
            raise ConfigError(f"filename_prefix: '{prefix}' names no file; add what the names begin with: '{prefix}my_model'")
        if not 0 <= self.sampling_rate <= 1:
            raise ConfigError(f"sampling_rate: {self.sampling_rate:g}: expected a number from 0 to 1")
