"""What `model_platform` of a model config may say; the platforms themselves are in `servables.platforms`."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

BUILT_IN = frozenset({"tensorflow", "tflite", "hashmap"})
GROUP = "aspired.platforms"
"""Entry points by which installed packages add platforms: name -> something that makes a `servables.servable.Platform`."""


@cache
def plug_ins() -> dict[str, EntryPoint]:
    """The platforms that packages installed here add, by name. None of them takes the name of one that is built in."""
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in BUILT_IN}


def known_platforms() -> frozenset[str]:
    """Every name that may be said."""
    return BUILT_IN | plug_ins().keys()
