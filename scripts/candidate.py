"""A classifier that may become the next version."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.measurements import Measurements


@dataclass(frozen=True, slots=True)
class Candidate:
    """An exported model that fits into memory, as it comes from whichever node it was trained on.

    `files` are those of its SavedModel by relative name, `probabilities` what that SavedModel answers on the held-back rows.
    """

    files: Mapping[str, bytes]
    probabilities: NDArray[np.float32]

    def save(self, directory: Path) -> Path:
        """Writes the SavedModel; `directory` must not be there yet."""
        for name, content in self.files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return directory


def train_candidate(training: Measurements, held_back: Measurements) -> Candidate:
    """Trains a classifier, exports it, and asks the export: what is validated is what would be served. Takes seconds."""
    import tensorflow as tf

    from scripts.chopsticks import train
    from scripts.sample_models import save_chopsticks

    with tempfile.TemporaryDirectory() as scratch:
        export = Path(scratch, "export")
        save_chopsticks(train(training), export)
        predict: Any = tf.saved_model.load(str(export)).signatures["serving_default"]
        outputs = predict(length_mm=tf.constant(held_back.length_mm), person=tf.constant(held_back.person))
        files = {path.relative_to(export).as_posix(): path.read_bytes() for path in export.rglob("*") if path.is_file()}
    return Candidate(files, outputs["probabilities"].numpy())
