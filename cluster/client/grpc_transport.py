"""gRPC transports: one channel a target, raw bytes in and out (the codec knows the messages)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from cluster.client.connection_options import ConnectionOptions, FilePath, TLSConfig
from cluster.client.exchange import Outcome, WireRequest
from cluster.client.target import Target
from cluster.client.transport import AsyncTransport, Transport
from cluster.core.errors import Code, DeadlineExceeded, Unavailable, error_for

# What gRPC says when the time is up on this side, and when it never had a connection.
_LOCAL_DEADLINE = "Deadline Exceeded"
_NO_CONNECTION = ("failed to connect to all addresses", "DNS resolution failed", "Name resolution failure")


class GrpcTransport(Transport):
    def __init__(self, target: Target, options: ConnectionOptions) -> None:
        self._target = target
        self._metadata = call_metadata(options.headers)
        arguments = _channel_arguments(options)
        if target.tls:
            self._channel = grpc.secure_channel(target.authority, _credentials(options.tls), arguments)
        else:
            self._channel = grpc.insecure_channel(target.authority, arguments)
        self._methods: dict[str, Callable[..., bytes]] = {}

    def send(self, request: WireRequest, timeout_s: float | None) -> Outcome:
        method = self._methods.get(request.path)
        if method is None:
            method = self._methods[request.path] = self._channel.unary_unary(request.path, None, None)
        try:
            return Outcome(method(request.body, timeout=timeout_s, metadata=self._metadata))
        except grpc.RpcError as error:
            return grpc_failure(error, self._target, timeout_s)

    def close(self) -> None:
        self._channel.close()


class AsyncGrpcTransport(AsyncTransport):
    def __init__(self, target: Target, options: ConnectionOptions) -> None:
        self._target = target
        self._metadata = call_metadata(options.headers)
        self._channel = open_async_channel(target, options)
        self._methods: dict[str, Callable[..., Awaitable[bytes]]] = {}

    async def send(self, request: WireRequest, timeout_s: float | None) -> Outcome:
        method = self._methods.get(request.path)
        if method is None:
            method = self._methods[request.path] = self._channel.unary_unary(request.path, None, None)
        try:
            return Outcome(await method(request.body, timeout=timeout_s, metadata=self._metadata))
        except grpc.aio.AioRpcError as error:
            return grpc_failure(error, self._target, timeout_s)

    async def close(self) -> None:
        await self._channel.close(None)


def open_async_channel(target: Target, options: ConnectionOptions, *more: tuple[str, int]) -> grpc.aio.Channel:
    """A channel with the client's arguments, and `more` of them; connects when it is first used."""
    arguments = [*_channel_arguments(options), *more]
    if target.tls:
        return grpc.aio.secure_channel(target.authority, _credentials(options.tls), arguments)
    return grpc.aio.insecure_channel(target.authority, arguments)


def _channel_arguments(options: ConnectionOptions) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        # gRPC's own reconnect backoff grows to two minutes, and fails every call meanwhile; the retry policy rules here.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # Despite its name this is the time one attempt to connect may take.
        ("grpc.min_reconnect_backoff_ms", max(1, round(options.connect_timeout_s * 1000))),
    ]


def call_metadata(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Headers as gRPC writes them."""
    return tuple((name.lower(), value) for name, value in headers.items())


def _credentials(tls: TLSConfig) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(_read(tls.ca_file), _read(tls.key_file), _read(tls.cert_file))


def _read(file: FilePath | None) -> bytes | None:
    return None if file is None else Path(file).read_bytes()


def grpc_failure(error: Any, target: Target, timeout_s: float | None) -> Outcome:
    """The outcome of a call that raised an RpcError."""
    code, message = Code(error.code().value[0]), error.details() or ""
    if code is Code.DEADLINE_EXCEEDED and message == _LOCAL_DEADLINE:
        return Outcome(error=DeadlineExceeded(f"No reply from {target} within {timeout_s or 0:.3g} s"))
    if code is Code.UNAVAILABLE and message.startswith(_NO_CONNECTION):
        return Outcome(error=Unavailable(f"Cannot connect to {target}: {message}"), sent=False)
    return Outcome(error=error_for(code, message))
