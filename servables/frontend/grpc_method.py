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


def service(
    name: str, methods: Mapping[str, Handler], announce: Callable[[], None] | None = None
) -> grpc.GenericRpcHandler[Any, Any]:
    """The handler of all methods of the service with this full name. `announce` is told of each request, before it is read."""
    handler = grpc.method_handlers_generic_handler(name, dict(methods))
    return handler if announce is None else _AnnouncingHandler(handler, announce)


class _AnnouncingHandler(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic for the type checker alone
    def __init__(self, handler: grpc.GenericRpcHandler[Any, Any], announce: Callable[[], None]) -> None:
        self._handler = handler
        self._announce = announce

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        found = self._handler.service(handler_call_details)
        if found is not None:
            self._announce()
        return found


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
