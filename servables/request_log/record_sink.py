"""Where records go."""

from __future__ import annotations

from abc import ABC, abstractmethod


class RecordSink(ABC):
    """Takes the records of one filename_prefix. Used by one thread, which may wait here.

    A sink that has raised OSError is asked again later; what it took before is safe.
    """

    @abstractmethod
    def write(self, record: bytes) -> None:
        """Keeps one TFRecord, whole. Raises OSError when it cannot; then nothing of the record is kept."""

    @abstractmethod
    def complete(self) -> None:
        """Hands what was written to whoever reads it, and begins anew. Raises OSError when it cannot."""

    @abstractmethod
    def due_at(self) -> float | None:
        """When `complete` is to be called even if nothing more comes, in seconds since the epoch; None: not at all."""
