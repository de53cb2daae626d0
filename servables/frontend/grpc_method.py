"""Methods of gRPC services, as both listeners serve them: of bytes, raising `AspiredError`s.

Raw bytes, so the messages may live in a descriptor pool of their own, beside any other copy of the same protos in the process.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, TypeVar

from google.protobuf.message import DecodeError, Message

from cluster.core.errors import AspiredError, Code, InvalidArgument
from servables.frontend.error_mapping import grpc_message

logger = logging.getLogger(__name__)

UnaryMethod = Callable[[bytes, float | None], Awaitable[bytes]]
"""A request and the seconds that its caller waits (None: for ever) to the response."""
UnaryCall = Callable[[bytes, float | None, str], Awaitable[bytes]]
"""The same, told the client's address too: `127.0.0.1:5000`, `[::1]:5000`, or `unix:`."""
ServerStreamMethod = Callable[[bytes], AsyncGenerator[bytes, None]]
StreamMethod = Callable[[AsyncIterator[bytes]], AsyncGenerator[bytes, None]]
M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class UnaryUnary:
    """One request, one response. A method's `name` is what the log calls it."""

    name: str
    call: UnaryCall


@dataclass(frozen=True, slots=True)
class UnaryStream:
    """One request, any number of responses."""

    name: str
    call: ServerStreamMethod


@dataclass(frozen=True, slots=True)
class StreamStream:
    """Any number of requests and responses."""

    name: str
    call: StreamMethod


GrpcMethod: TypeAlias = UnaryUnary | UnaryStream | StreamStream


class GrpcService(NamedTuple):
    """A service by its full name, and its methods by theirs. A listener that reads requests later `announce`s each."""

    name: str
    methods: Mapping[str, GrpcMethod]
    announce: Callable[[], None] | None = None


class Failure(NamedTuple):
    """What a caller is told of a call that failed. The message is as gRPC carries it."""

    code: Code
    message: str


def unary_unary(name: str, method: UnaryMethod) -> UnaryUnary:
    """Of a method that does not ask who calls."""

    async def call(request_bytes: bytes, timeout_s: float | None, _: str) -> bytes:
        return await method(request_bytes, timeout_s)

    return UnaryUnary(name, call)


def parsed(message_type: type[M], request_bytes: bytes) -> M:
    """The request as a message. Raises InvalidArgument when it is none."""
    try:
        return message_type.FromString(request_bytes)
    except DecodeError as error:
        raise InvalidArgument(f"The request is not a {message_type.DESCRIPTOR.full_name}: {error}") from error


def failure(name: str, error: Exception) -> Failure:
    """An error's status. One that is not meant is a bug: the log has all of it, the caller nothing."""
    if isinstance(error, AspiredError):
        return Failure(error.code, grpc_message(error.message))
    logger.error("%s failed", name, exc_info=error)
    return Failure(Code.INTERNAL, "Internal error; see the server's log.")
