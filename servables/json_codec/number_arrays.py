"""The large arrays of numbers in a body, read in one pass each and without an object per number.

The arrays are taken out of the text, simdjson reads them, and what is left is a small document like any other. simdjson
flattens; that lists are of one size at each level is told by their brackets and commas: those of a dense array repeat one
pattern. Whatever is not plainly right is left to the readers that know how to say what is wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import simdjson
from numpy.typing import NDArray

from servables.json_codec.tensor_values import MAX_RANK

NumberArray = NDArray[np.int64] | NDArray[np.float64]
"""Integers if all numbers are written as such and are in range, else doubles."""

MIN_BYTES = 4096
"""Of a text worth the detour."""

_STRINGS_BEFORE_GIVING_UP = 64
_BEFORE_LISTS = re.compile(rb"[ \n\r\t]*:[ \n\r\t]*(?=\[)")
_NOT_STRUCTURE = bytes(set(range(256)).difference(b"[],"))
_MARK = "taken out: "
# simdjson's, for text that is no JSON, for values that are no numbers, and for what it has no room for.
_REFUSALS = (ValueError, TypeError, RuntimeError, MemoryError)


def take_number_arrays(body: bytes) -> tuple[bytes, list[NumberArray]] | None:
    """The large dense arrays that are members' values, and the rest of `body` with marks in their places.

    `body` is well-formed exactly if that rest is. None when there is no such array, and whenever there is a doubt.
    """
    found = _find_lists(body) if len(body) >= MIN_BYTES else []
    if not found:
        return None
    rest: list[bytes] = []
    arrays: list[NumberArray] = []
    position = 0
    for start, end in found:
        array = _read_array(body[start:end])
        if array is None:
            return None
        rest += body[position:start], f'"{_MARK}{len(arrays)}"'.encode()
        arrays.append(array)
        position = end
    rest.append(body[position:])
    # What is a mark must be one of ours; with an escape, another string could say the same.
    if any(b"\\" in text or _MARK.encode() in text for text in rest[::2]):
        return None
    return b"".join(rest), arrays


def put_number_arrays(document: dict[str, Any], arrays: Sequence[NumberArray]) -> None:
    """Puts the arrays in the places of their marks."""
    containers: list[Any] = [document]
    while containers:
        container = containers.pop()
        if type(container) is list:
            containers += [element for element in container if type(element) in (list, dict)]
            continue
        for name, member in container.items():
            if type(member) in (list, dict):
                containers.append(member)
            elif type(member) is str and member.startswith(_MARK):
                container[name] = arrays[int(member.removeprefix(_MARK))]


def _find_lists(body: bytes) -> list[tuple[int, int]]:
    """Where large lists that may be numbers begin and end: between a name's colon and the next brace or string."""
    found: list[tuple[int, int]] = []
    position = strings = 0
    while True:
        quote = body.find(b'"', position)
        end = quote if quote >= 0 else len(body)
        if end - position >= MIN_BYTES and (name_end := _BEFORE_LISTS.match(body, position, end)):
            start = name_end.end()
            brace = body.find(b"}", start, end)
            end = body.rfind(b"]", start, brace if brace >= 0 else end) + 1
            if end - start >= MIN_BYTES:
                found.append((start, end))
        if quote < 0:
            return found
        strings += 1
        position = body.find(b'"', quote + 1) + 1
        if not position or body[position - 2] == ord("\\") or strings > _STRINGS_BEFORE_GIVING_UP + quote // MIN_BYTES:
            return []


def _read_array(text: bytes) -> NumberArray | None:
    try:
        values = _flatten(simdjson.Parser().parse(text), integers=b"." not in text)
    except _REFUSALS:
        return None
    shape = _dense_shape(text)
    return values.reshape(shape) if shape is not None and math.prod(shape) == values.size else None


def _flatten(array: Any, integers: bool) -> NumberArray:
    if integers:
        try:
            return np.frombuffer(array.as_buffer(of_type="i"), np.int64)
        except (TypeError, ValueError):
            pass  # a number with an exponent, or one out of range
    return np.frombuffer(array.as_buffer(of_type="d"), np.float64)


def _dense_shape(text: bytes) -> tuple[int, ...] | None:
    """The shape that lists nested in `text` have, None if they differ; its leaves have neither brackets nor commas."""
    structure = text.translate(None, _NOT_STRUCTURE)
    rank = len(structure) - len(structure.lstrip(b"["))
    if rank > MAX_RANK:
        return None
    closes = np.frombuffer(structure, np.uint8)[rank:] == ord("]")
    closes_levels = closes
    sizes: list[int] = []
    pattern = b""  # of one element
    for depth in range(1, rank + 1):
        # The first list of so many levels ends where as many brackets close.
        if depth > 1:
            closes_levels = closes_levels[:-1] & closes[depth - 1 :]
        length = int(closes_levels.argmax()) + 2 * depth
        size, surplus = divmod(length - 1, len(pattern) + 1)
        if surplus or size < 1:
            return None
        pattern = b"[%b]" % ((pattern + b",") * size)[:-1]
        sizes.append(size)
    return tuple(reversed(sizes)) if pattern == structure else None
