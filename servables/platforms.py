"""The platforms by name: what `model_platform` of a model config may say.

A platform's module is imported when the platform is first asked for, so a process that only routes or decodes never
pays for TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.core.errors import AlreadyExists, InvalidArgument
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
    """Makes a platform known to this process under `name`, as a model config spells it.

    Call it in every process that loads or checks versions, before the first model is configured. `factory` should import
    heavy libraries no earlier than in `Platform.load`: `check` runs in processes without them.
    Raises AlreadyExists for a name that is taken.
    """
    if name in _FACTORIES:
        raise AlreadyExists(f'Platform "{name}" is already registered')
    _FACTORIES[name] = factory


def platform_names() -> frozenset[str]:
    """Every name that `platform` knows now: what a model config may use."""
    return frozenset(_FACTORIES)


def platform(name: str) -> Platform:
    """The platform called `name`. Raises InvalidArgument, naming those that exist, when there is none."""
    factory = _FACTORIES.get(name)
    if factory is None:
        raise InvalidArgument(f'Unknown platform "{name}"; known platforms: {", ".join(sorted(_FACTORIES))}')
    return factory()
