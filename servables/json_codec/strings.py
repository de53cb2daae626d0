"""Strings as RapidJSON writes them: unchecked, with quotes, backslashes and control characters escaped."""

from __future__ import annotations

import re

_ESCAPED = re.compile(rb'[\x00-\x1f"\\]')
_SHORT_ESCAPES = {
    b'"': b'\\"',
    b"\\": b"\\\\",
    b"\b": b"\\b",
    b"\f": b"\\f",
    b"\n": b"\\n",
    b"\r": b"\\r",
    b"\t": b"\\t",
}


def string_json(string: bytes) -> bytes:
    if _ESCAPED.search(string) is None:
        return b'"%b"' % string
    return b'"%b"' % _ESCAPED.sub(_escape, string)


def _escape(match: re.Match[bytes]) -> bytes:
    byte = match[0]
    return _SHORT_ESCAPES.get(byte) or b"\\u%04X" % byte[0]
