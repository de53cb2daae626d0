"""CRC-32C (Castagnoli), the checksum of TFRecord files.

Fast enough for tensors: lanes of the data go through numpy side by side.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78
_ONES = 0xFFFFFFFF
_LANE_BYTES = 256
# Below this, numpy's overhead for each of a lane's bytes costs more than the plain loop.
_SHORT_BYTES = 6 << 10

_Words = NDArray[np.uint32]


def crc32c(data: bytes | memoryview) -> int:
    """The checksum of `data`: 0xE3069283 for b"123456789"."""
    if len(data) < _SHORT_BYTES:
        return _register_after(_ONES, data) ^ _ONES
    return _register_of_lanes(data) ^ _ONES


def _make_table() -> list[int]:
    table = []
    for register in range(256):
        for _ in range(8):
            register = register >> 1 ^ (_POLYNOMIAL if register & 1 else 0)
        table.append(register)
    return table


_TABLE = _make_table()
_TABLE_WORDS: _Words = np.array(_TABLE, np.uint32)


def _register_after(register: int, data: bytes | memoryview) -> int:
    table = _TABLE
    for byte in data:
        register = table[(register ^ byte) & 0xFF] ^ register >> 8
    return register


def _register_of_lanes(data: bytes | memoryview) -> int:
    """The register is linear in the data, so lanes are worked through apart and joined pairwise.

    A register of zero passes over zeros unchanged, so they fill up the first lanes; that it should begin with ones is the same
    as inverting the first four bytes.
    """
    levels = max(0, (len(data) - 1) // _LANE_BYTES).bit_length()
    padded = np.zeros(_LANE_BYTES << levels, np.uint8)
    first = len(padded) - len(data)
    padded[first:] = np.frombuffer(data, np.uint8)
    padded[first : first + 4] ^= 0xFF
    columns = np.ascontiguousarray(padded.reshape(-1, _LANE_BYTES).T)
    registers: _Words = np.zeros(columns.shape[1], np.uint32)
    for column in columns:
        registers = _TABLE_WORDS[(registers ^ column) & 0xFF] ^ registers >> 8
    for level in range(levels):
        registers = _apply(_advance(level), registers[0::2]) ^ registers[1::2]
    return int(registers[0])


@cache
def _advance(level: int) -> _Words:
    """What `2**level` lanes of zeros do to a register, as four tables: one for each of its bytes."""
    if level:
        half = _advance(level - 1)
        images = _apply(half, _apply(half, _bits()))
    else:
        images = _bits()
        for _ in range(_LANE_BYTES):
            images = _TABLE_WORDS[images & 0xFF] ^ images >> 8
    tables: _Words = np.zeros((4, 256), np.uint32)
    values = np.arange(256)
    for bit, image in enumerate(images):
        tables[bit // 8, values >> bit % 8 & 1 == 1] ^= image
    return tables


def _bits() -> _Words:
    return np.uint32(1) << np.arange(32, dtype=np.uint32)


def _apply(tables: _Words, registers: _Words) -> Any:
    return (
        tables[0][registers & 0xFF]
        ^ tables[1][registers >> 8 & 0xFF]
        ^ tables[2][registers >> 16 & 0xFF]
        ^ tables[3][registers >> 24]
    )
