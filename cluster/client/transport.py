"""The connection to one server: the only part of the client that waits for anything."""

from __future__ import annotations

from abc import ABC, abstractmethod

from cluster.client.codec import Codec
from cluster.client.connection_options import ConnectionOptions
from cluster.client.exchange import Outcome, WireRequest
from cluster.client.target import Protocol, Target

# Each protocol's library is imported by the first client that speaks it: a user of REST never pays for gRPC.


class Transport(ABC):
    """Blocking, and safe to use from several threads. Connects when first used, and keeps the connection."""

    @abstractmethod
    def send(self, request: WireRequest, timeout_s: float | None) -> Outcome:
        """Sends one request and returns its outcome within `timeout_s`; failures are outcomes, never raised."""

    @abstractmethod
    def close(self) -> None: ...


class AsyncTransport(ABC):
    """The same for asyncio; belongs to the event loop that first uses it."""

    @abstractmethod
    async def send(self, request: WireRequest, timeout_s: float | None) -> Outcome:
        """Sends one request and returns its outcome within `timeout_s`. Cancelling it cancels the request."""

    @abstractmethod
    async def close(self) -> None: ...


def codec_for(protocol: Protocol) -> Codec:
    if protocol is Protocol.REST:
        from cluster.client.rest_codec import RestCodec

        return RestCodec()
    from cluster.client.grpc_codec import GrpcCodec

    return GrpcCodec()


def open_transport(target: Target, options: ConnectionOptions) -> Transport:
    if target.protocol is Protocol.REST:
        from cluster.client.http_transport import HttpTransport

        return HttpTransport(target, options)
    from cluster.client.grpc_transport import GrpcTransport

    return GrpcTransport(target, options)


def open_async_transport(target: Target, options: ConnectionOptions) -> AsyncTransport:
    if target.protocol is Protocol.REST:
        from cluster.client.http_transport import AsyncHttpTransport

        return AsyncHttpTransport(target, options)
    from cluster.client.grpc_transport import AsyncGrpcTransport

    return AsyncGrpcTransport(target, options)
