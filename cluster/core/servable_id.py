"""The name of one servable version, of the stream it belongs to, and of each copy of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class ServableId:
    """One version of one servable stream (TF Serving: `core/servable_id.h`).

    `name` is the stream (the model's name); `version` is the number of its directory, 0..2**63-1.
    Ordered by name, then by version.
    """

    name: str
    version: int

    def __str__(self) -> str:
        return f"{{name: {self.name} version: {self.version}}}"


@dataclass(frozen=True, slots=True, order=True)
class CopyId:
    """One copy of a version in the cluster.

    A version whose files are overwritten while it serves is loaded once more beside the copy that serves, under the next
    number; the first copy is number 0. So of two copies of a version the one with the larger number is the newer.
    """

    servable: ServableId
    copy: int = 0

    def __str__(self) -> str:
        return f"{self.servable}, copy {self.copy}" if self.copy else str(self.servable)
