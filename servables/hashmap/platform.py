"""Finds and reads the table of a version."""

from __future__ import annotations

from pathlib import Path

from cluster.core.errors import DataLoss, InvalidArgument, NotFound
from servables.hashmap.hashmap_servable import HashmapServable
from servables.servable import Platform, PlatformOptions

_DEFAULT_FILE = "hashmap.csv"


class HashmapPlatform(Platform):
    """A version is a directory with a `hashmap.csv`, or with one .csv file of any name.

    The format is SIMPLE_CSV of TF Serving's `hashmap_source_adapter.cc`: one `key,value` a line in UTF-8 without quoting;
    of lines with the same key the first one counts.
    """

    name = "hashmap"

    def check(self, path: str, options: PlatformOptions) -> None:
        _table_file(path)

    def load(self, path: str, options: PlatformOptions) -> HashmapServable:
        file = _table_file(path)
        try:
            content = file.read_bytes()
        except OSError as error:
            raise DataLoss(f"Cannot read {file}: {error.strerror}") from error
        return HashmapServable(_parse(content, file))


def _table_file(path: str) -> Path:
    directory = Path(path)
    default = directory / _DEFAULT_FILE
    if default.is_file():
        return default
    files = sorted(directory.glob("*.csv"))
    if not files:
        raise NotFound(f"Could not find a .csv file at supplied path: {path}")
    if len(files) > 1:
        raise NotFound(f"Could not find {_DEFAULT_FILE}, and more than one other .csv file, at supplied path: {path}")
    return files[0]


def _parse(content: bytes, file: Path) -> dict[bytes, bytes]:
    table: dict[bytes, bytes] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        columns = line.split(b",")
        if len(columns) != 2:
            raise InvalidArgument(f"Unexpected format at {file}:{number}: expected key,value")
        table.setdefault(columns[0], columns[1])
    return table
