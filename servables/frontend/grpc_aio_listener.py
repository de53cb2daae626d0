"""The gRPC port by grpc.aio: a server without message limits, shared between frontends of one node by SO_REUSEPORT.

It has all that gRPC's own library can do, ALTS and channel arguments among it, at several times the cost of `GrpcListener`.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias
from urllib.parse import unquote

import grpc

from cluster.config.ssl_config import SSLConfig
from cluster.core.errors import Unavailable
from servables.frontend.error_mapping import grpc_status
from servables.frontend.grpc_method import GrpcMethod, GrpcService, StreamStream, UnaryStream, UnaryUnary, failure

# grpc.aio's types are generic over messages; here both sides are bytes.
Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_MAX_INT32 = (1 << 31) - 1
# Calls that wait for the event loop to take them. Beyond gRPC's own 1,000 to 3,000 it cancels them at random, without saying
# why; taken, they are answered, or refused with a reason. One that has not been taken has no more in memory than its window.
_MAX_PENDING_CALLS = 1 << 16


class GrpcAioListener:
    """Serves services, on the event loop it is made and started on."""

    def __init__(
        self,
        services: Sequence[GrpcService],
        ssl_config: SSLConfig | None = None,
        channel_arguments: Mapping[str, int | str] | None = None,
        use_alts: bool = False,
    ) -> None:
        """`ssl_config` None serves in plain text, unless `use_alts` says otherwise.

        `channel_arguments` are gRPC's own, and win over those that are set here.
        """
        self._services = services
        self._credentials = _credentials(ssl_config, use_alts)
        self._options = {
            "grpc.max_receive_message_length": _MAX_INT32,
            "grpc.max_send_message_length": -1,
            "grpc.so_reuseport": 1,
            "grpc.server.max_pending_requests": _MAX_PENDING_CALLS,
            "grpc.server.max_pending_requests_hard_limit": _MAX_PENDING_CALLS,
            **(channel_arguments or {}),
        }
        self._server: grpc.aio.Server | None = None

    async def start(self, addresses: Sequence[str], held: socket.socket | None) -> None:
        """Binds the addresses (`host:port`, `[host]:port`, `unix:path`) and accepts. Raises Unavailable if one is taken.

        `held` keeps the port until then, and is closed.
        """
        handlers = [service_handler(service) for service in self._services]
        self._server = grpc.aio.server(handlers=handlers, options=tuple(self._options.items()))
        for address in addresses:
            try:
                bound = self._bind(self._server, address)
            except RuntimeError as error:
                raise Unavailable(f"Cannot listen for gRPC on {address}: {error}") from error
            if not bound:
                raise Unavailable(f"Cannot listen for gRPC on {address}: the address is taken or cannot be bound.")
        await self._server.start()
        if held is not None:
            held.close()

    async def stop(self, grace_s: float) -> None:
        """Accepts no more calls, lets those under way finish within `grace_s`, and cancels the rest."""
        if self._server is not None:
            await self._server.stop(grace_s)
            self._server = None

    def _bind(self, server: grpc.aio.Server, address: str) -> int:
        if self._credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, self._credentials)


def _credentials(config: SSLConfig | None, use_alts: bool) -> grpc.ServerCredentials | None:
    if config is None:
        return grpc.alts_server_credentials() if use_alts else None
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )


def service_handler(service: GrpcService) -> grpc.GenericRpcHandler[Any, Any]:
    methods = {name: _method_handler(method) for name, method in service.methods.items()}
    handler = grpc.method_handlers_generic_handler(service.name, methods)
    return handler if service.announce is None else _AnnouncingHandler(handler, service.announce)


class _AnnouncingHandler(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic for the type checker alone
    def __init__(self, handler: grpc.GenericRpcHandler[Any, Any], announce: Callable[[], None]) -> None:
        self._handler = handler
        self._announce = announce

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        found = self._handler.service(handler_call_details)
        if found is not None:
            self._announce()
        return found


def _method_handler(method: GrpcMethod) -> Handler:
    if isinstance(method, UnaryUnary):
        return _unary_unary(method)
    return _unary_stream(method) if isinstance(method, UnaryStream) else _stream_stream(method)


def _unary_unary(method: UnaryUnary) -> Handler:
    async def behave(request_bytes: bytes, context: Context) -> bytes:
        try:
            return await method.call(request_bytes, context.time_remaining(), _address(context.peer()))
        except Exception as error:
            await _abort(context, method.name, error)

    return grpc.unary_unary_rpc_method_handler(behave)


def _unary_stream(method: UnaryStream) -> Handler:
    async def behave(request_bytes: bytes, context: Context) -> AsyncIterator[bytes]:
        try:
            async for response_bytes in method.call(request_bytes):
                yield response_bytes
        except Exception as error:
            await _abort(context, method.name, error)

    return grpc.unary_stream_rpc_method_handler(behave)


def _stream_stream(method: StreamStream) -> Handler:
    async def behave(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        try:
            async for response_bytes in method.call(requests):
                yield response_bytes
        except Exception as error:
            await _abort(context, method.name, error)

    return grpc.stream_stream_rpc_method_handler(behave)


async def _abort(context: Context, name: str, error: Exception) -> NoReturn:
    code, message = failure(name, error)
    await context.abort(grpc_status(code), message)


def _address(peer: str) -> str:
    """gRPC's `ipv4:127.0.0.1:5000` and `ipv6:%5B::1%5D:5000` as REST's peers are written; `unix:` stays."""
    return unquote(peer.removeprefix("ipv4:").removeprefix("ipv6:"))
