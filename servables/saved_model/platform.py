"""Tells a SavedModel from other files, and loads it."""

from __future__ import annotations

import os

from cluster.core.errors import NotFound
from servables.servable import Platform, PlatformOptions, Servable

_FILE_NAMES = ("saved_model.pb", "saved_model.pbtxt")


class SavedModelPlatform(Platform):
    """A version is a SavedModel's directory: `saved_model.pb` or `.pbtxt`, `variables/`, `assets/`."""

    name = "tensorflow"

    def check(self, path: str, options: PlatformOptions) -> None:
        if not any(os.path.isfile(os.path.join(path, file_name)) for file_name in _FILE_NAMES):
            raise NotFound(
                f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}. "
                "Check that the directory exists and that you have the right permissions for accessing it."
            )

    def load(self, path: str, options: PlatformOptions) -> Servable:
        self.check(path, options)
        # TensorFlow takes seconds and hundreds of MB to import: only a process that loads a version pays for it.
        from servables.saved_model.saved_model_servable import load_saved_model

        return load_saved_model(path, options)
