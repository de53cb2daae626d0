"""Tells a TFLite model from other files, and loads it."""

from __future__ import annotations

import os

from cluster.core.errors import NotFound
from servables.servable import Platform, PlatformOptions, Servable

FILE_NAME = "model.tflite"


class TfLitePlatform(Platform):
    """A version is a directory with a `model.tflite`."""

    name = "tflite"

    def check(self, path: str, options: PlatformOptions) -> None:
        if not _has_model(path):
            raise NotFound(f"Could not find {FILE_NAME} at supplied path: {path}")

    def load(self, path: str, options: PlatformOptions) -> Servable:
        self.check(path, options)
        # The interpreter comes with TensorFlow, which takes seconds to import: only a process that loads a version pays for it.
        from servables.tflite.tflite_servable import load_tflite

        return load_tflite(os.path.join(path, FILE_NAME), options)


class PreferTfLitePlatform(Platform):
    """Another platform, of which versions with a `model.tflite` are served from that file if the options prefer it."""

    def __init__(self, other: Platform) -> None:
        self.name = other.name
        self._other = other
        self._tflite = TfLitePlatform()

    def check(self, path: str, options: PlatformOptions) -> None:
        self._choose(path, options).check(path, options)

    def load(self, path: str, options: PlatformOptions) -> Servable:
        return self._choose(path, options).load(path, options)

    def _choose(self, path: str, options: PlatformOptions) -> Platform:
        return self._tflite if options.prefer_tflite_model and _has_model(path) else self._other


def _has_model(path: str) -> bool:
    return os.path.isfile(os.path.join(path, FILE_NAME))
