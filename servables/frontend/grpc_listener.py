"""The gRPC port: a grpc.aio server without message limits, shared between frontends of one node by SO_REUSEPORT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

from cluster.core.errors import Unavailable

_MAX_INT32 = (1 << 31) - 1


class GrpcListener:
    """Serves generic handlers, on the event loop it is made and started on."""

    def __init__(self, handlers: Sequence[grpc.GenericRpcHandler[Any, Any]]) -> None:
        self._handlers = handlers
        self._server: grpc.aio.Server | None = None

    async def start(self, addresses: Sequence[str]) -> None:
        """Binds the addresses (`host:port`, `[host]:port`, `unix:path`) and accepts. Raises Unavailable if one is taken."""
        options = (
            ("grpc.max_receive_message_length", _MAX_INT32),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 1),
        )
        self._server = grpc.aio.server(handlers=self._handlers, options=options)
        for address in addresses:
            try:
                bound = self._server.add_insecure_port(address)
            except RuntimeError as error:
                raise Unavailable(f"Cannot listen for gRPC on {address}: {error}") from error
            if not bound:
                raise Unavailable(f"Cannot listen for gRPC on {address}: the address is taken or cannot be bound.")
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Accepts no more calls, lets those under way finish within `grace_s`, and cancels the rest."""
        if self._server is not None:
            await self._server.stop(grace_s)
            self._server = None
