"""The measurements that lie in a directory or a bucket, split into rows to train on and rows to validate with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cluster.core.errors import InvalidArgument, NotFound
from cluster.publishing.publisher import absolute
from cluster.storage.storages import Storages
from scripts.measurements import Measurements, concatenate, parse_csv


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """`sha256` is over the names and contents of the files: the same files have the same one wherever they lie."""

    path: str
    files: tuple[str, ...]
    training: Measurements
    held_back: Measurements
    sha256: str


def read_training_set(path: str) -> TrainingSet:
    """Reads every CSV file right under `path`, a directory or something like `s3://bucket/prefix`.

    Each file is split on its own, so a row that was held back once is held back for ever, whatever files come later. Raises
    NotFound when there is no CSV file, InvalidArgument for a file that is none, and what the storage says.
    """
    storages, path = Storages(), absolute(path)
    names = tuple(sorted(name for name in storages.children(path) if name.endswith(".csv")))
    if not names:
        raise NotFound(f"{path}: no CSV file is there; scripts/export_measurements.py --out={path} makes one")
    digest = hashlib.sha256()
    training, held_back = [], []
    for name in names:
        file_path = storages.join(path, name)
        content = storages.read(file_path)
        digest.update(f"{name}\n{len(content)}\n".encode() + content)
        try:
            data = parse_csv(content.decode(), file_path)
        except UnicodeDecodeError as error:
            raise InvalidArgument(f"{file_path}: not a text file in UTF-8") from error
        aside = data.held_back()
        training.append(data.rows(~aside))
        held_back.append(data.rows(aside))
    return TrainingSet(path, names, concatenate(training), concatenate(held_back), digest.hexdigest())
