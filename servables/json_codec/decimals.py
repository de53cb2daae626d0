"""Floating-point numbers as TF Serving writes them (json_tensor.cc, WriteDecimal).

The text is `%g` (six digits) when that reads back as the same value, else `%.9g` for a float and `%.17g` for a double, with
`.0` added to what would look like an integer; NaN, Infinity and -Infinity are bare.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

_NON_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}

_SHORT_CHARS = 7
_BULK_SIZE = 14  # from here on whole-array arithmetic costs less than formatting value by value

# Decades in which arithmetic on doubles is exact (powers of ten up to 1e22) and orjson's notation is %g's, but for the width
# of a one-digit exponent. Rows before and after the table stand for what lies outside.
_DECADES = range(-14, 6)
_POWERS = np.array([float(f"1e{decade}") for decade in (*_DECADES, _DECADES.stop)])
_SIX_DIGIT_SCALES = np.array([1.0, *(float(f"1e{5 - decade}") for decade in _DECADES), 1.0])
_NINE_DIGIT_SCALES = np.array([1.0, *(float(f"1e{8 - decade}") for decade in _DECADES), 1.0])
_OUTSIDE = np.array([True, *(decade == -5 for decade in _DECADES), True])  # 1e-05 is written by orjson as 0.00001
_ONE_DIGIT_EXPONENT = re.compile(rb"e-(?=[6-9])")
_ROUNDING_DOUBT = 1e-6  # the product with a scale may be off by 1.2e-7 of a unit in the ninth digit


def float32_texts(values: Sequence[float]) -> list[str]:
    """The texts of values that are float32 numbers (held as Python floats)."""
    values = list(values)
    if values and _is_short(repr(values[0])):  # then the others probably are
        texts = list(map(repr, values))
        if all(map(_is_short, texts)):
            return texts
    texts = [f"{value:g}" for value in values]
    # Reading through a double changes no answer: no six-digit decimal becomes a double halfway between two floats.
    read_back = array("f", map(float, texts)).tolist()
    if read_back != values:
        texts = [text if back == value else f"{value:.9g}" for text, back, value in zip(texts, read_back, values, strict=True)]
    return list(map(_with_point, texts))


def float64_texts(values: Sequence[float]) -> list[str]:
    return [_with_point(text if float(text := f"{value:g}") == value else f"{value:.17g}") for value in values]


def decimal_json(values: NDArray[np.floating[Any]]) -> bytes:
    """A float32 or float64 array of one or more dimensions as compact JSON, `[[0.5,1.0],[NaN,3e-05]]`."""
    values = np.ascontiguousarray(values)
    doubles, unwritable = _shortest_doubles(values)
    text = orjson.dumps(doubles, option=orjson.OPT_SERIALIZE_NUMPY)
    if b"e-" in text:
        text = _ONE_DIGIT_EXPONENT.sub(b"e-0", text)
    if not unwritable.any():
        return text
    # orjson wrote null for these; their texts go in between.
    left_over = values[unwritable].tolist()
    texts = float32_texts(left_over) if values.dtype == np.float32 else float64_texts(left_over)
    pieces = text.decode().split("null")
    return "".join(chain.from_iterable(zip(pieces, [*texts, ""], strict=True))).encode()


def is_bulk(size: int) -> bool:
    """Whether `decimal_json` is quicker than the text of each value."""
    return size > _BULK_SIZE


def _is_short(shortest: str) -> bool:
    """Whether the shortest text of a double has six digits at most and a point: then `%g` writes the same, but for the `.0`."""
    return len(shortest) <= _SHORT_CHARS and "." in shortest


def _with_point(text: str) -> str:
    if "." in text or "e" in text:
        return text
    return _NON_FINITE.get(text) or text + ".0"


@np.errstate(invalid="ignore")  # infinities are subtracted from each other
def _shortest_doubles(values: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Doubles whose shortest text is the text wanted for `values`; NaN, and True in the mask, where there is none.

    A decimal of up to 15 digits is the shortest text of the double nearest to it. So a value rounded to six or nine digits,
    and divided back by a power of ten that is exact, is written right by any writer of shortest texts.
    """
    exact = values.astype(np.float64)
    row = np.searchsorted(_POWERS, np.abs(exact), side="right")
    scale = _SIX_DIGIT_SCALES[row]
    six_digits = np.rint(exact * scale) / scale
    unwritable = _OUTSIDE[row] & (exact != 0)
    if values.dtype == np.float32:
        is_six_digits = six_digits.astype(np.float32) == values
        scale = _NINE_DIGIT_SCALES[row]
        scaled = exact * scale
        digits = np.rint(scaled)
        in_doubt = np.abs(np.abs(scaled - digits) - 0.5) < _ROUNDING_DOUBT
        doubles = np.where(is_six_digits, six_digits, digits / scale)
        unwritable |= in_doubt & ~is_six_digits
        unwritable |= np.abs(doubles) == 1e-5  # rounded up into the decade that orjson writes otherwise
    else:
        doubles = six_digits
        unwritable |= six_digits != exact
    doubles[unwritable] = np.nan
    return doubles, unwritable
