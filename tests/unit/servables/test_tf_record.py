"""TFRecord files: TensorFlow reads what we write, and we read what it writes."""

# TensorFlow has no types.
# mypy: disable-error-code="misc, untyped-decorator"

from __future__ import annotations

import io
import os
import random
from pathlib import Path

import pytest
import tensorflow as tf

from cluster.core.errors import DataLoss
from servables.crc32c import crc32c
from servables.tf_record import FRAMING_BYTES, encode_record, read_records

RECORDS = [b"", b"one", b"\0" * 5000, random.Random(3).randbytes(70_001)]


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_crc32c_gives_the_published_checksums(data: bytes, checksum: int) -> None:
    assert crc32c(data) == checksum


@pytest.mark.parametrize("size", [6143, 6144, 6145, 65_536, 65_537, 300_001])
def test_crc32c_of_long_data_is_that_of_the_plain_loop(size: int) -> None:
    from servables.crc32c import _register_after

    data = random.Random(size).randbytes(size)
    assert crc32c(data) == _register_after(0xFFFFFFFF, data) ^ 0xFFFFFFFF
    assert crc32c(memoryview(data)) == crc32c(data)


def test_tensorflow_reads_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "records"
    path.write_bytes(b"".join(map(encode_record, RECORDS)))
    assert [record.numpy() for record in tf.data.TFRecordDataset(str(path))] == RECORDS
    assert path.stat().st_size == sum(len(record) + FRAMING_BYTES for record in RECORDS)


def test_reads_what_tensorflow_writes(tmp_path: Path) -> None:
    path = tmp_path / "records"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in RECORDS:
            writer.write(record)
    with path.open("rb") as file:
        assert list(read_records(file)) == RECORDS


@pytest.mark.parametrize("cut", [1, 11, 12, 15, 18])
def test_a_truncated_record_is_named_by_its_offset(cut: int) -> None:
    whole = encode_record(b"one")
    records = read_records(io.BytesIO(whole + whole[:cut]))
    assert next(records) == b"one"
    with pytest.raises(DataLoss, match=f"^truncated record at {len(whole)}$"):
        next(records)


@pytest.mark.parametrize("position", range(19))
def test_a_flipped_bit_anywhere_is_found(position: int) -> None:
    damaged = bytearray(encode_record(b"one"))
    damaged[position] ^= 4
    with pytest.raises(DataLoss, match=r"^corrupted record at 0$"):
        list(read_records(io.BytesIO(bytes(damaged))))


def test_a_file_of_another_kind_is_corrupted() -> None:
    with pytest.raises(DataLoss):
        list(read_records(io.BytesIO(os.urandom(100))))
