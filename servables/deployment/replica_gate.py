"""Whether a replica takes work, and how much it holds."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.core.errors import NotServing


@dataclass(slots=True)
class ReplicaGate:
    """Open until told to quiesce; then what is inside finishes and nothing enters. Never opens again."""

    name: str
    in_flight: int = 0
    quiescing: bool = False

    def enter(self, calls: int) -> None:
        """Lets `calls` in, all or none. Raises NotServing once the gate is closed."""
        if self.quiescing:
            raise NotServing(f"{self.name} is being unloaded")
        self.in_flight += calls

    def leave(self, calls: int) -> None:
        """`calls` that had entered have their replies."""
        self.in_flight -= calls

    def close(self) -> None:
        self.quiescing = True

    @property
    def quiesced(self) -> bool:
        """Closed and empty: nothing is in flight, and nothing will be."""
        return self.quiescing and self.in_flight == 0
