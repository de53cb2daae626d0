"""The exact JSON reader: the grammar, the leniencies and the error offsets of the RapidJSON 1.1.0 that TF Serving parses with.

It is RapidJSON's iterative parser with NaN and infinities allowed, stopped at the end of the first value: nesting costs no
call stack, and bytes after that value are not looked at. A NUL byte ends the text. One difference: a decimal becomes the
nearest double, where RapidJSON may be some units in the last place off.
"""

from __future__ import annotations

import math
import re
from typing import NoReturn, TypeAlias

import orjson

from cluster.core.errors import InvalidArgument

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
"""Bytes of a string that are not UTF-8 are kept as surrogate escapes (PEP 383)."""

_WHITESPACE = re.compile(rb"[ \n\r\t]*")
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_NUMBERS = re.compile(  # possessive, so that a long run is not retried from its end
    rb"(?:-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+[ \n\r\t]*+,[ \n\r\t]*+)++"
)
_PLAIN_STRING = re.compile(rb'"([^"\\\x00-\x1f]*)"')
_PLAIN_RUN = re.compile(rb'[^"\\\x00-\x1f]*')
_HEX4 = re.compile(rb"[0-9A-Fa-f]{4}")

_END = 0
_LITERALS: dict[int, tuple[bytes, JsonValue]] = {
    ord("t"): (b"true", True),
    ord("f"): (b"false", False),
    ord("n"): (b"null", None),
}
_NON_FINITE = ((b"Infinity", math.inf), (b"NaN", math.nan), (b"Inf", math.inf))
_ESCAPES = {
    ord('"'): b'"',
    ord("\\"): b"\\",
    ord("/"): b"/",
    ord("b"): b"\b",
    ord("f"): b"\f",
    ord("n"): b"\n",
    ord("r"): b"\r",
    ord("t"): b"\t",
}
_STRUCTURAL = frozenset(b"]},:\0")
_MAX_EXACT_DIGITS = len(str(2**64))

_EMPTY = "The document is empty."
_INVALID_VALUE = "Invalid value."
_MISS_NAME = "Missing a name for object member."
_MISS_COLON = "Missing a colon after a name of object member."
_MISS_COMMA_IN_OBJECT = "Missing a comma or } after an object member."
_MISS_COMMA_IN_ARRAY = "Missing a comma or ] after an array element."
_MISS_QUOTATION_MARK = "Missing a closing quotation mark in string."
_INVALID_HEX = "Incorrect hex digit after \\u escape in string."
_INVALID_SURROGATE = "The surrogate pair in string is invalid."
_INVALID_ESCAPE = "Invalid escape character in string."
_TOO_BIG = "Number too big to be stored in double."
_MISS_FRACTION = "Miss fraction part in number."
_MISS_EXPONENT = "Miss exponent in number."


def read(body: bytes) -> JsonValue:
    """The first JSON value of `body`; of equal names in an object the first counts. Raises InvalidArgument with the offset."""
    if not body:
        raise InvalidArgument("JSON Parse error: The document is empty")
    text = body + b"\0"
    position = _skip_byte_order_mark(text)
    position = _skip_whitespace(text, position)
    if text[position] in _STRUCTURAL:
        _fail(_EMPTY, position)

    containers: list[list[JsonValue] | dict[str, JsonValue]] = []
    names: list[str] = []  # of the member that is being read, one for each open object
    value: JsonValue
    while True:
        opening = text[position]
        if opening == ord("["):
            position = _skip_whitespace(text, position + 1)
            if text[position] != ord("]"):
                numbers, position = _read_numbers(text, position)
                containers.append(numbers)
                if text[position] in _STRUCTURAL:
                    _fail(_INVALID_VALUE, position)
                continue
            value = []
            position += 1
        elif opening == ord("{"):
            position = _skip_whitespace(text, position + 1)
            if text[position] != ord("}"):
                name, position = _read_name(text, position)
                containers.append({})
                names.append(name)
                continue
            value = {}
            position += 1
        else:
            value, position = _read_scalar(text, position)

        # `value` is complete: put it in its place, and close every container that ends here.
        while containers:
            container = containers[-1]
            position = _skip_whitespace(text, position)
            delimiter = text[position]
            if type(container) is list:
                container.append(value)
                if delimiter == ord(","):
                    numbers, position = _read_numbers(text, _skip_whitespace(text, position + 1))
                    container += numbers
                    if text[position] in _STRUCTURAL:
                        _fail(_INVALID_VALUE, position)
                    break
                if delimiter != ord("]"):
                    _fail(_MISS_COMMA_IN_ARRAY, position)
            elif type(container) is dict:
                container.setdefault(names.pop(), value)
                if delimiter == ord(","):
                    name, position = _read_name(text, _skip_whitespace(text, position + 1))
                    names.append(name)
                    break
                if delimiter != ord("}"):
                    _fail(_MISS_COMMA_IN_OBJECT, position)
            value = containers.pop()
            position += 1
        else:
            return value


def _fail(reason: str, offset: int) -> NoReturn:
    raise InvalidArgument(f"JSON Parse error: {reason} at offset: {offset}")


def _skip_byte_order_mark(text: bytes) -> int:
    position = 0
    for mark in b"\xef\xbb\xbf":  # each byte of it by itself, as RapidJSON does
        if text[position] == mark:
            position += 1
    return position


def _skip_whitespace(text: bytes, position: int) -> int:
    if text[position] > ord(" "):
        return position
    match = _WHITESPACE.match(text, position)
    return match.end() if match else position


def _read_name(text: bytes, position: int) -> tuple[str, int]:
    """A member's name and its colon; the position returned is that of the member's value."""
    if text[position] != ord('"'):
        _fail(_MISS_NAME, position)
    name, position = _read_string(text, position)
    position = _skip_whitespace(text, position)
    if text[position] != ord(":"):
        _fail(_MISS_COLON, position)
    position = _skip_whitespace(text, position + 1)
    if text[position] in _STRUCTURAL:
        _fail(_INVALID_VALUE, position)
    return name, position


def _read_scalar(text: bytes, position: int) -> tuple[JsonValue, int]:
    first = text[position]
    if first == ord('"'):
        return _read_string(text, position)
    if first in _LITERALS:
        literal, value = _LITERALS[first]
        end = _common_end(text, position, literal)
        if end - position < len(literal):
            _fail(_INVALID_VALUE, end)
        return value, end
    return _read_number(text, position)


def _common_end(text: bytes, position: int, expected: bytes) -> int:
    """Where `text` stops agreeing with `expected`."""
    for byte in expected:
        if text[position] != byte:
            break
        position += 1
    return position


def _read_number(text: bytes, position: int) -> tuple[JsonValue, int]:
    match = _NUMBER.match(text, position)
    if match is None:
        return _read_non_finite(text, position)
    end = match.end()
    fraction, exponent = match.groups()
    if exponent is None:
        if fraction is None and text[end] == ord("."):
            _fail(_MISS_FRACTION, end + 1)
        if text[end] in b"eE":
            _fail(_MISS_EXPONENT, end + (2 if text[end + 1] in b"+-" else 1))
    token = match[0]
    if fraction is None and exponent is None and len(token) <= _MAX_EXACT_DIGITS:
        integer = int(token)
        if -(2**63) <= integer < 2**64:
            return integer, end
    decimal = float(token)
    if math.isinf(decimal):
        _fail(_TOO_BIG, position)
    return decimal, end


def _read_numbers(text: bytes, position: int) -> tuple[list[JsonValue], int]:
    """Array elements from here on that are numbers with a comma behind them, read together."""
    run = _NUMBERS.match(text, position)
    if run is None:
        return [], position
    try:
        return orjson.loads(b"[" + run[0].rstrip(b", \n\r\t") + b"]"), run.end()
    except orjson.JSONDecodeError:  # one of them is too big: the one that fails here
        return [_read_number(text, number.start())[0] for number in _NUMBER.finditer(text, position, run.end())], run.end()


def _read_non_finite(text: bytes, position: int) -> tuple[float, int]:
    minus = text[position] == ord("-")
    start = position + minus
    for token, value in _NON_FINITE:
        if text.startswith(token, start):
            end = start + len(token)
            if token == b"Inf" and text[end] == ord("i"):
                _fail(_INVALID_VALUE, _common_end(text, start, b"Infinity"))
            return (-value if minus else value), end
    return _fail(_INVALID_VALUE, _common_end(text, start, b"NaN" if text[start] == ord("N") else b"Inf"))


def _read_string(text: bytes, position: int) -> tuple[str, int]:
    plain = _PLAIN_STRING.match(text, position)
    if plain is not None:
        return _decode(plain[1]), plain.end()
    position += 1
    pieces: list[bytes] = []
    while True:
        run = _PLAIN_RUN.match(text, position)
        if run is not None:
            pieces.append(run[0])
            position = run.end()
        stop = text[position]
        if stop == ord('"'):
            return _decode(b"".join(pieces)), position + 1
        if stop != ord("\\"):
            _fail(_MISS_QUOTATION_MARK if stop == _END else _INVALID_ESCAPE, position)
        piece, position = _read_escape(text, position)
        pieces.append(piece)


def _read_escape(text: bytes, position: int) -> tuple[bytes, int]:
    kind = text[position + 1]
    if kind in _ESCAPES:
        return _ESCAPES[kind], position + 2
    if kind != ord("u"):
        _fail(_INVALID_ESCAPE, position)
    code = _read_hex4(text, position + 2, position)
    end = position + 6
    if 0xD800 <= code <= 0xDBFF:
        if not text.startswith(b"\\u", end):
            _fail(_INVALID_SURROGATE, position)
        low = _read_hex4(text, end + 2, position)
        if not 0xDC00 <= low <= 0xDFFF:
            _fail(_INVALID_SURROGATE, position)
        code = 0x10000 + ((code - 0xD800) << 10 | (low - 0xDC00))
        end += 6
    # A low surrogate alone passes, as the three bytes that its number makes.
    return chr(code).encode("utf-8", "surrogatepass"), end


def _read_hex4(text: bytes, position: int, escape_offset: int) -> int:
    digits = _HEX4.match(text, position)
    if digits is None:
        _fail(_INVALID_HEX, escape_offset)
    return int(digits[0], 16)


def _decode(string: bytes) -> str:
    return string.decode("utf-8", "surrogateescape")
