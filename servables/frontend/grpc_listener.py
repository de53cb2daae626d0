"""The gRPC port: a grpc.aio server without message limits, shared between frontends of one node by SO_REUSEPORT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc

from cluster.config.ssl_config import SSLConfig
from cluster.core.errors import Unavailable

_MAX_INT32 = (1 << 31) - 1
# Calls that wait for the event loop to take them. Beyond gRPC's own 1,000 to 3,000 it cancels them at random, without saying
# why; taken, they are answered, or refused with a reason. One that has not been taken has no more in memory than its window.
_MAX_PENDING_CALLS = 1 << 16


class GrpcListener:
    """Serves generic handlers, on the event loop it is made and started on."""

    def __init__(
        self,
        handlers: Sequence[grpc.GenericRpcHandler[Any, Any]],
        ssl_config: SSLConfig | None = None,
        channel_arguments: Mapping[str, int | str] | None = None,
        use_alts: bool = False,
    ) -> None:
        """`ssl_config` None serves in plain text, unless `use_alts` says otherwise.

        `channel_arguments` are gRPC's own, and win over those that are set here.
        """
        self._handlers = handlers
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

    async def start(self, addresses: Sequence[str]) -> None:
        """Binds the addresses (`host:port`, `[host]:port`, `unix:path`) and accepts. Raises Unavailable if one is taken."""
        self._server = grpc.aio.server(handlers=self._handlers, options=tuple(self._options.items()))
        for address in addresses:
            try:
                bound = self._bind(self._server, address)
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
