"""Binary values in JSON: `{"b64": "<base64 text>"}`."""

from __future__ import annotations

import binascii
import re
from typing import TypeGuard

from cluster.core.errors import InvalidArgument
from servables.json_codec.reader import JsonValue

_KEY = "b64"
_WHITESPACE = re.compile(r"[ \t\n\v\f\r]+")
_DIGITS_AND_PADDING = re.compile(r"([A-Za-z0-9+/]*)([=.]*)")


def is_base64_object(value: JsonValue) -> TypeGuard[dict[str, str]]:
    return type(value) is dict and len(value) == 1 and type(value.get(_KEY)) is str


def decode_base64_object(value: dict[str, str]) -> bytes:
    """The bytes of a base64 object, read as absl::Base64Unescape reads them. Raises InvalidArgument."""
    text = value[_KEY]
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return _decode_leniently(text)


def _decode_leniently(text: str) -> bytes:
    match = _DIGITS_AND_PADDING.fullmatch(_WHITESPACE.sub("", text))
    if match is None:
        raise InvalidArgument("Unable to base64 decode")
    digits, padding = match.groups()
    wanted = -len(digits) % 4
    if wanted == 3 or len(padding) not in (0, wanted):
        raise InvalidArgument("Unable to base64 decode")
    return binascii.a2b_base64(digits + "=" * wanted)
