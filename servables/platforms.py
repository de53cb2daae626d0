"""The platforms by name: what `model_platform` of a model config may say.

A platform's module is imported when the platform is first asked for, so a process that only routes or decodes never
pays for TensorFlow. Installed packages add platforms by entry points (see `cluster.config.platform_names`).
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.config.platform_names import known_platforms, plug_ins
from cluster.core.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from servables.servable import Platform

PlatformFactory = Callable[[], Platform]


def _tensorflow() -> Platform:
    from servables.saved_model.platform import SavedModelPlatform
    from servables.tflite.platform import PreferTfLitePlatform

    return PreferTfLitePlatform(SavedModelPlatform())


def _tflite() -> Platform:
    from servables.tflite.platform import TfLitePlatform

    return TfLitePlatform()


def _hashmap() -> Platform:
    from servables.hashmap.platform import HashmapPlatform

    return HashmapPlatform()


_FACTORIES: dict[str, PlatformFactory] = {"tensorflow": _tensorflow, "tflite": _tflite, "hashmap": _hashmap}


def register(name: str, factory: PlatformFactory) -> None:
    """Makes a platform known to this process alone, under `name`: for tools and tests that load versions themselves.

    A server's processes find platforms by entry points. `factory` should import heavy libraries no earlier than in
    `Platform.load`: `check` runs in processes without them. Raises AlreadyExists for a name that is taken.
    """
    if name in platform_names():
        raise AlreadyExists(f'Platform "{name}" is already registered')
    _FACTORIES[name] = factory


def platform_names() -> frozenset[str]:
    """Every name that `platform` knows now."""
    return known_platforms() | _FACTORIES.keys()


def platform(name: str) -> Platform:
    """The platform called `name`.

    Raises InvalidArgument, naming those that exist, when there is none, and FailedPrecondition when the package that adds it
    cannot make it.
    """
    factory = _FACTORIES.get(name) or _plug_in(name)
    return factory()


def _plug_in(name: str) -> PlatformFactory:
    entry_point = plug_ins().get(name)
    if entry_point is None:
        raise InvalidArgument(f'Unknown platform "{name}"; known platforms: {", ".join(sorted(platform_names()))}')
    try:
        factory: PlatformFactory = entry_point.load()
    except Exception as error:  # another's code: anything may go wrong in it
        text = " ".join(str(error).split())
        raise FailedPrecondition(
            f'Platform "{name}" cannot be imported from {entry_point.value}: {type(error).__name__}: {text}'
        ) from error
    return factory
