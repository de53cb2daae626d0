"""Whether and how frontends reach replicas past Ray Serve."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LaneOptions:
    """`enabled` False: all frames go through Serve's handles. `across_nodes`: replicas listen on TCP too."""

    enabled: bool = True
    across_nodes: bool = True
