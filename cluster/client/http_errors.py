"""The error that an HTTP reply stands for.

TF Serving maps several codes to one HTTP status, so the way back is a choice: the code that inference gives most often.
FAILED_PRECONDITION and OUT_OF_RANGE come back as InvalidArgument, ALREADY_EXISTS as Aborted, UNKNOWN and DATA_LOSS as Internal.
"""

from __future__ import annotations

import json
from http import HTTPStatus

from cluster.core.errors import AspiredError, Code, error_for

_CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    408: Code.DEADLINE_EXCEEDED,
    409: Code.ABORTED,
    413: Code.RESOURCE_EXHAUSTED,
    429: Code.RESOURCE_EXHAUSTED,
    499: Code.CANCELLED,
    500: Code.INTERNAL,
    501: Code.UNIMPLEMENTED,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}
SHOWN_BODY_CHARACTERS = 200


def http_error(status: int, body: bytes) -> AspiredError:
    """The error of a reply that is not 200, with the server's message: the `error` of the JSON body, else what there is."""
    return error_for(_CODES.get(status, Code.UNKNOWN), _message(status, body))


def _message(status: int, body: bytes) -> str:
    text = body.decode(errors="replace")
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if isinstance(document, dict) and isinstance(document.get("error"), str):
        return str(document["error"])
    try:
        reason = f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        reason = f"HTTP {status}"
    shown = " ".join(text.split())[:SHOWN_BODY_CHARACTERS]
    return f"{reason}: {shown}" if shown else reason
