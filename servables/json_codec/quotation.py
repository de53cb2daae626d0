"""How an error message shows the JSON value it is about."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from decimal import Decimal

from servables.json_codec.decimals import float32_texts, float64_texts
from servables.json_codec.reader import JsonValue
from servables.json_codec.strings import string_json

_MAX_BYTES = 256
_FLOAT_MAX = 3.4028234e38
_INDENT = b"    "


def quoted(value: JsonValue) -> str:
    """`value` in RapidJSON's pretty print with arrays on one line, cut at 256 bytes."""
    if type(value) is float:
        if abs(value) <= _FLOAT_MAX:
            return float32_texts(array("f", (value,)).tolist())[0]
        return float64_texts((value,))[0]
    text = bytearray()
    for piece in _pieces(value):
        text += piece
        if len(text) >= _MAX_BYTES:
            break
    return bytes(text[:_MAX_BYTES]).decode("utf-8", "replace")


def type_name(value: JsonValue) -> str:
    """RapidJSON's name for the type of `value`."""
    if value is None:
        return "Null"
    if value is True:
        return "True"
    if value is False:
        return "False"
    if isinstance(value, str):
        return "String"
    if isinstance(value, list):
        return "Array"
    return "Object" if isinstance(value, dict) else "Number"


def _pieces(value: JsonValue) -> Iterator[bytes]:
    """The text of `value` piece by piece, without recursion: what is shown may be nested deeper than a call stack."""
    open_containers: list[tuple[Iterator[tuple[str | None, JsonValue]], bytes]] = []
    entries: Iterator[tuple[str | None, JsonValue]] = iter([(None, value)])
    closing = b""
    is_first = True
    while True:
        for name, entry in entries:
            if name is not None:
                yield (b"\n" if is_first else b",\n") + _INDENT * len(open_containers) + _string(name) + b": "
            elif not is_first:
                yield b", "
            is_first = False
            if entry and isinstance(entry, list | dict):
                open_containers.append((entries, closing))
                if isinstance(entry, dict):
                    entries, closing = iter(entry.items()), b"\n" + _INDENT * (len(open_containers) - 1) + b"}"
                    yield b"{"
                else:
                    entries, closing = ((None, element) for element in entry), b"]"
                    yield b"["
                is_first = True
                break
            yield _scalar(entry)
        else:
            yield closing
            if not open_containers:
                return
            entries, closing = open_containers.pop()


def _scalar(value: JsonValue) -> bytes:
    if value is None:
        return b"null"
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, float):
        return _double(value).encode()
    return str(value).encode()  # an integer, [] or {}


def _string(text: str) -> bytes:
    return string_json(text.encode("utf-8", "surrogateescape"))


def _double(value: float) -> str:
    """The shortest text of a double, in RapidJSON's notation."""
    if not math.isfinite(value):
        return float64_texts((value,))[0]
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    minus = "-" if sign else ""
    text = "".join(map(str, digits))
    if value == 0:
        return minus + "0.0"
    point = len(text) + exponent
    if exponent >= 0 and point <= 21:
        return f"{minus}{text}{'0' * exponent}.0"
    if 0 < point <= 21:
        return f"{minus}{text[:point]}.{text[point:]}"
    if -6 < point <= 0:
        return f"{minus}0.{'0' * -point}{text}"
    fraction = f".{text[1:]}" if len(text) > 1 else ""
    return f"{minus}{text[0]}{fraction}e{point - 1}"
