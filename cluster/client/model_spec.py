"""Which servable a call is for."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.core.errors import InvalidArgument

MAX_VERSION = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model's name and, at most one of them, a version or a label; with neither it is the latest available version."""

    name: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise InvalidArgument("The model's name must not be empty")
        if self.version is not None and self.label is not None:
            raise InvalidArgument(f"Model {self.name}: give a version or a label, not both")
        if self.version is not None and not 0 <= self.version <= MAX_VERSION:
            raise InvalidArgument(f"Model {self.name}: version {self.version} is not in 0..2**63-1")
        if self.label == "":
            raise InvalidArgument(f"Model {self.name}: the label must not be empty")

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.name} version {self.version}"
        return f"{self.name} label {self.label}" if self.label is not None else self.name
