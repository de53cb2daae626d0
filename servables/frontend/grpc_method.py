"""Handlers for grpc.aio, made of methods that take and give bytes and raise `AspiredError`s.

Raw bytes, so the messages may live in a descriptor pool of their own, beside any other copy of the same protos in the process.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NoReturn, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from cluster.core.errors import AspiredError, Code, InvalidArgument
from servables.frontend.access_log import AccessLog
from servables.frontend.error_mapping import grpc_message, grpc_status

logger = logging.getLogger(__name__)

# grpc.aio's types are generic over messages; here both sides are bytes.
Context = grpc.aio.ServicerContext[bytes, bytes]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
UnaryMethod = Callable[[bytes, float | None], Awaitable[bytes]]
"""A request and the seconds that its caller waits (None: for ever) to the response."""
StreamMethod = Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]
M = TypeVar("M", bound=Message)


def service(name: str, methods: Mapping[str, Handler]) -> grpc.GenericRpcHandler[Any, Any]:
    """The handler of all methods of the service with this full name."""
    return grpc.method_handlers_generic_handler(name, dict(methods))


def unary_unary(name: str, method: UnaryMethod, access_log: AccessLog | None = None) -> Handler:
    """One request, one response. `name` is what the log calls the method."""

    async def behave(request_bytes: bytes, context: Context) -> bytes:
        try:
            return await method(request_bytes, context.time_remaining())
        except Exception as error:
            await _abort(context, name, error)

    return grpc.unary_unary_rpc_method_handler(behave if access_log is None else access_log.grpc(f"/{name}", behave))


def unary_stream(name: str, method: Callable[[bytes], AsyncIterator[bytes]]) -> Handler:
    """One request, any number of responses."""

    async def behave(request_bytes: bytes, context: Context) -> AsyncIterator[bytes]:
        try:
            async for response_bytes in method(request_bytes):
                yield response_bytes
        except Exception as error:
            await _abort(context, name, error)

    return grpc.unary_stream_rpc_method_handler(behave)


def stream_stream(name: str, method: StreamMethod) -> Handler:
    """Any number of requests and responses."""

    async def behave(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        try:
            async for response_bytes in method(requests):
                yield response_bytes
        except Exception as error:
            await _abort(context, name, error)

    return grpc.stream_stream_rpc_method_handler(behave)


def parsed(message_type: type[M], request_bytes: bytes) -> M:
    """The request as a message. Raises InvalidArgument when it is none."""
    try:
        return message_type.FromString(request_bytes)
    except DecodeError as error:
        raise InvalidArgument(f"The request is not a {message_type.DESCRIPTOR.full_name}: {error}") from error


async def _abort(context: Context, name: str, error: Exception) -> NoReturn:
    """Ends the call with the error's status. One that is not meant is a bug: the log has all of it, the caller nothing."""
    if isinstance(error, AspiredError):
        code, message = error.code, error.message
    else:
        logger.error("%s failed", name, exc_info=error)
        code, message = Code.INTERNAL, "Internal error; see the server's log."
    await context.abort(grpc_status(code), grpc_message(message))
