"""Logged requests as a version's warm-up:

python -m servables.warmup.warmup_file --filename_prefix=/var/log/aspired/my_model --version=/models/my_model/2
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click

from cluster.core.errors import AspiredError, DataLoss, InvalidArgument, NotFound
from servables.request_log.record_files import find_log_files
from servables.tf_record import encode_record, read_records
from servables.warmup.warmup_records import MAX_RECORDS, REQUESTS_FILE


def write_warmup_file(filename_prefix: str, version: str, max_records: int) -> int:
    """Makes the newest logged requests what `version` is warmed up with; returns how many they are.

    Takes the place of a warm-up file that is there. Raises NotFound when nothing has been logged, DataLoss for a file that is
    damaged, InvalidArgument for a directory that cannot be read or written.
    """
    try:
        newest = _newest(filename_prefix, max_records)
        if not newest:
            raise NotFound(f"{filename_prefix}-*.tfrecord: there are no complete files with records")
        _replace(Path(version) / REQUESTS_FILE, b"".join(map(encode_record, newest)))
    except OSError as error:
        raise InvalidArgument(f"{error.filename}: {error.strerror}") from error
    return len(newest)


def _newest(filename_prefix: str, max_records: int) -> list[bytes]:
    """In the order in which they were logged."""
    newest: list[bytes] = []
    for path in _complete_files(filename_prefix):
        with path.open("rb") as file:
            try:
                records = list(read_records(file))
            except DataLoss as error:
                raise DataLoss(f"{path}: {error.message}") from error
        newest = records[-(max_records - len(newest)) :] + newest
        if len(newest) == max_records:
            break
    return newest


def _complete_files(filename_prefix: str) -> Iterator[Path]:
    """The newest first."""
    for file in reversed(find_log_files(filename_prefix, time.time())):
        if not file.partial:
            yield file.path


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(data)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


@click.command()
@click.option("--filename_prefix", required=True, metavar="PATH", help="As in the model's log_collector_config.")
@click.option("--version", required=True, metavar="DIRECTORY", help="The version: a directory with a saved_model.pb.")
@click.option(
    "--records", default=100, show_default=True, type=click.IntRange(1, MAX_RECORDS), help="At most so many, the newest."
)
def main(filename_prefix: str, version: str, records: int) -> None:
    """Writes a version's assets.extra/tf_serving_warmup_requests from its model's request log."""
    try:
        written = write_warmup_file(filename_prefix, version, records)
    except AspiredError as error:
        raise click.ClickException(error.message) from None
    click.echo(f"{Path(version) / REQUESTS_FILE}: {written} requests")


if __name__ == "__main__":
    sys.exit(main())
