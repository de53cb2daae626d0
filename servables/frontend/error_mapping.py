"""An error's canonical code, as each protocol says it.

HTTP statuses follow TF Serving's `ToHTTPStatusCode` (`model_servers/http_server.cc`), gRPC's codes are the canonical
ones, and gRPC messages are cut as TF Serving cuts them (`model_servers/grpc_status_util.cc`).
"""

from __future__ import annotations

from collections.abc import Mapping

import grpc

from cluster.core.errors import Code

MAX_GRPC_MESSAGE_BYTES = 1024
_TRUNCATED = "...TRUNCATED"

_HTTP_STATUS: Mapping[Code, int] = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}

_GRPC_STATUS: Mapping[Code, grpc.StatusCode] = {Code(status.value[0]): status for status in grpc.StatusCode}


def http_status(code: Code) -> int:
    return _HTTP_STATUS[code]


def grpc_status(code: Code) -> grpc.StatusCode:
    return _GRPC_STATUS[code]


def grpc_message(message: str) -> str:
    """The message as gRPC carries it: a status travels in a header, and large headers are refused by peers."""
    encoded = message.encode(errors="replace")  # the name of a file may be no UTF-8
    if len(encoded) <= MAX_GRPC_MESSAGE_BYTES:
        return encoded.decode()
    return encoded[:MAX_GRPC_MESSAGE_BYTES].decode(errors="ignore") + _TRUNCATED
