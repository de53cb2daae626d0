"""The name of one servable version, and of the stream it belongs to."""

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
