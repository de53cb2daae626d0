"""A source that is told what to aspire, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cluster.core.aspired_version import AspiredVersion
from cluster.core.errors import NotFound
from cluster.core.source import Source


class StaticSource(Source):
    """Aspires a fixed list for each stream.

    For servers whose versions are known beforehand, and for tests.
    """

    def __init__(self, versions: Mapping[str, Sequence[AspiredVersion]]) -> None:
        self._versions = {stream: tuple(aspired) for stream, aspired in versions.items()}

    def streams(self) -> Sequence[str]:
        return tuple(self._versions)

    def poll(self, stream: str, now: float) -> Sequence[AspiredVersion]:
        if stream not in self._versions:
            raise NotFound(f"There is no stream {stream}")
        return self._versions[stream]
