"""What a source has to say of a stream beside its list of versions."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class StreamReport:
    """Tells nothing to do; it is for operators, and for whoever waits for the stream's first version.

    `listed`: the source has a list. `error`: why the stream could not be read at the last poll, `error_since` (seconds since
    the epoch) when that began. `waiting`: versions that are not aspired as they lie there, and what for; a line for each.
    """

    listed: bool = False
    error: str = ""
    error_since: float = 0.0
    waiting: tuple[str, ...] = ()

    def after(self, before: StreamReport | None) -> StreamReport:
        """This report, where `before` was the last one: an error that goes on began when it began, whoever saw it first."""
        if not self.error or before is None or not before.error:
            return self
        return replace(self, error_since=min(self.error_since, before.error_since))
