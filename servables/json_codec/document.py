"""A request body as one JSON object."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain
from typing import Any

import orjson

from cluster.core.errors import InvalidArgument
from servables.json_codec.number_arrays import put_number_arrays, take_number_arrays
from servables.json_codec.quotation import quoted
from servables.json_codec.reader import JsonValue, read

SIGNATURE_NAME = "signature_name"
_ESCAPED_COLON = re.compile(rb"\\u003[aA]")


def read_object(body: bytes) -> dict[str, JsonValue]:
    """The object that `body` begins with. Raises InvalidArgument (malformed, not an object).

    orjson reads what it can; the exact reader reads the rest: NaN, what follows the object, deep nesting, text that is not
    UTF-8, equal names, and everything malformed.
    """
    document: JsonValue
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = read(body)
    else:
        if not _has_every_member(document, body):
            document = read(body)
    if type(document) is not dict:
        raise InvalidArgument(f"JSON Value: {quoted(document)} Is not object")
    return document


def read_object_of_arrays(body: bytes) -> dict[str, Any] | None:
    """What `read_object` returns, with NumberArrays in place of large dense lists of numbers.

    None when there are none, and for what is not plainly well-formed: `read_object` then says what it is.
    """
    taken = take_number_arrays(body)
    if taken is None:
        return None
    rest, arrays = taken
    try:
        document = orjson.loads(rest)
    except orjson.JSONDecodeError:
        return None
    if type(document) is not dict or not _has_every_member(document, rest):
        return None
    put_number_arrays(document, arrays)
    return document


def read_signature_name(document: dict[str, JsonValue]) -> str:
    """The `signature_name` of a request, "" when it has none. Raises InvalidArgument when it is not a string."""
    name = document.get(SIGNATURE_NAME, "")
    if type(name) is not str:
        raise InvalidArgument(
            f"JSON Value: {quoted(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def _has_every_member(document: JsonValue, body: bytes) -> bool:
    """Whether orjson dropped nothing: of equal names it keeps the last, TF Serving finds the first.

    Each member has a colon. Colons in the body that are neither a kept member's nor part of a kept string belong to a member
    that was dropped; only an escaped colon could hide one.
    """
    colons = body.count(b":")
    if type(document) is dict and colons == len(document):
        return True
    return colons == _count_colons(document) and _ESCAPED_COLON.search(body) is None


def _count_colons(document: JsonValue) -> int:
    count = 0
    level: list[JsonValue] = [document]
    while level:
        kinds = set(map(type, level))
        if kinds == {list}:
            level = list(chain.from_iterable(level))  # type: ignore[arg-type]
            continue
        objects: Iterable[dict[str, JsonValue]] = [value for value in level if type(value) is dict] if dict in kinds else []
        lists: Iterable[list[JsonValue]] = [value for value in level if type(value) is list] if list in kinds else []
        if str in kinds:
            count += "".join([value for value in level if type(value) is str]).count(":")
        count += sum(map(len, objects)) + "".join(chain.from_iterable(objects)).count(":")
        level = list(chain(chain.from_iterable(map(dict.values, objects)), chain.from_iterable(lists)))
    return count
