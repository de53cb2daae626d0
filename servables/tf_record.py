"""TFRecord files (TensorFlow: `core/lib/io/record_{reader,writer}.cc`), without TensorFlow.

A record is its length (8 bytes, little endian), that length's checksum, the data, and the data's checksum.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from cluster.core.errors import DataLoss
from servables.crc32c import crc32c

_HEADER = struct.Struct("<QI")
_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")

FRAMING_BYTES = _HEADER.size + _CHECKSUM.size
"""What a record takes beyond its data."""


def encode_record(data: bytes) -> bytes:
    """The record that holds `data`; a file is records one after the other."""
    length = _LENGTH.pack(len(data))
    return b"".join((length, _CHECKSUM.pack(_masked(length)), data, _CHECKSUM.pack(_masked(data))))


def read_records(file: BinaryIO) -> Iterator[bytes]:
    """The data of each record of an uncompressed file. Raises DataLoss, naming the offset, for the first that is damaged."""
    offset = 0
    while header := file.read(_HEADER.size):
        if len(header) < _HEADER.size:
            raise DataLoss(f"truncated record at {offset}")
        size, checksum = _HEADER.unpack(header)
        if checksum != _masked(header[: _LENGTH.size]):
            raise DataLoss(f"corrupted record at {offset}")
        body = file.read(size + _CHECKSUM.size)
        if len(body) < size + _CHECKSUM.size:
            raise DataLoss(f"truncated record at {offset}")
        data = body[:size]
        if _CHECKSUM.unpack_from(body, size)[0] != _masked(data):
            raise DataLoss(f"corrupted record at {offset}")
        yield data
        offset += FRAMING_BYTES + size


def _masked(data: bytes) -> int:
    """The checksum as the format stores it: a checksum of data that holds checksums would be weak."""
    checksum = crc32c(data)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
