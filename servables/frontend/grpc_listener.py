"""The gRPC port, on our own HTTP/2: many small requests at a fraction of the cost of gRPC's library.

    listener = GrpcListener(services, ssl_config)
    await listener.start(addresses, held)
    await listener.stop(grace_s)

`GrpcAioListener` serves the same services in the same way, and has what is not here: ALTS, and gRPC's channel arguments.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import stat
import sys
from collections.abc import Sequence

from cluster.config.ssl_config import SSLConfig
from cluster.core.errors import Unavailable
from servables.frontend.acceptor import Acceptor
from servables.frontend.grpc_connection import GrpcConnection, GrpcLimits
from servables.frontend.grpc_method import GrpcService
from servables.frontend.grpc_tls import server_tls
from servables.frontend.grpc_wire import CallHead, Refusal, read_call_head
from servables.frontend.held_bytes import HeldBytes
from servables.http2.header_blocks import RequestHead

_TICK_S = 1.0
_UNIX = "unix:"


class GrpcListener:
    """Serves services, on the event loop it is made and started on."""

    def __init__(
        self,
        services: Sequence[GrpcService],
        held: HeldBytes,
        ssl_config: SSLConfig | None = None,
        limits: GrpcLimits | None = None,
    ) -> None:
        """`ssl_config` None serves in plain text. What has come of requests that are not whole counts as `held`."""
        self.held = held
        self.limits = limits or GrpcLimits()
        self._methods = {
            f"/{service.name}/{name}".encode(): method for service in services for name, method in service.methods.items()
        }
        self._tls = None if ssl_config is None else server_tls(ssl_config)
        self._max_connections = self.limits.max_connections or _max_connections()
        self._acceptors: list[Acceptor] = []
        self._connections: set[GrpcConnection] = set()
        self._dirty: list[GrpcConnection] = []
        self._all_closed: asyncio.Future[None] | None = None
        self._tick_timer: asyncio.TimerHandle | None = None
        self._socket_path = ""

    async def start(self, addresses: Sequence[str], held: socket.socket | None) -> None:
        """Accepts on `held`, a bound socket, and on those of the addresses that are `unix:path`.

        Raises Unavailable if a path is taken.
        """
        sockets = []
        for address in addresses:
            if address.startswith(_UNIX):
                path = address.removeprefix(_UNIX)
                sockets.append(_unix_socket(path))
                self._socket_path = path
        if held is not None:
            sockets += [held, *_other_family(held)]
        loop = asyncio.get_running_loop()
        for sock in sockets:
            acceptor = Acceptor(
                sock, lambda: GrpcConnection(self, loop), self._tls, self.limits.greet_timeout_s, self._has_room
            )
            acceptor.start(self.limits.backlog)
            self._acceptors.append(acceptor)
        self._tick_timer = loop.call_later(_TICK_S, self._tick)

    async def stop(self, grace_s: float) -> None:
        """Accepts no more calls, lets those under way finish within `grace_s`, and ends the rest."""
        for acceptor in self._acceptors:
            await acceptor.stop()
        self._acceptors = []
        if self._socket_path:
            _unlink_socket(self._socket_path)
            self._socket_path = ""
        for connection in list(self._connections):
            connection.begin_drain()
        await self._wait_until_closed(grace_s)
        for connection in list(self._connections):
            connection.stop()
        await self._wait_until_closed(_TICK_S)
        for connection in list(self._connections):
            connection.abort()
        await self._wait_until_closed(_TICK_S)
        if self._tick_timer is not None:
            self._tick_timer.cancel()

    def read_head(self, head: RequestHead) -> CallHead | Refusal:
        return read_call_head(head, self._methods.get)

    def opened(self, connection: GrpcConnection) -> None:
        self._connections.add(connection)

    def closed(self, connection: GrpcConnection) -> None:
        self._connections.discard(connection)
        if not self._connections and self._all_closed is not None and not self._all_closed.done():
            self._all_closed.set_result(None)

    def flush_soon(self, connection: GrpcConnection) -> None:
        """Has the connection write when this turn of the event loop is over."""
        if not self._dirty:
            asyncio.get_running_loop().call_soon(self._flush)
        self._dirty.append(connection)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for connection in dirty:
            connection.flush()

    def _has_room(self) -> bool:
        # One that is being opened may count twice, for a moment.
        return len(self._connections) + sum(acceptor.opening for acceptor in self._acceptors) < self._max_connections

    async def _wait_until_closed(self, timeout_s: float) -> None:
        if self._connections and timeout_s > 0:
            self._all_closed = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._all_closed], timeout=timeout_s)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self._connections):
            connection.check_timeouts(now)
        self._tick_timer = loop.call_later(_TICK_S, self._tick)


def _max_connections() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if files == resource.RLIM_INFINITY else files * 3 // 4


def _other_family(held: socket.socket) -> list[socket.socket]:
    """A socket for IPv6 beside one for all addresses of IPv4, as gRPC has it: `localhost` may be either."""
    host, port = held.getsockname()[:2]
    if host != "0.0.0.0":
        return []
    bound = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("::", port))
    except OSError:
        bound.close()
        return []  # there is no IPv6 here, or somebody else has this port of it
    return [bound]


def _unix_socket(path: str) -> socket.socket:
    """Bound to the path; a socket that a server left behind there gives way."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _unlink_socket(path)
        bound.bind(path)
    except OSError as error:
        bound.close()
        raise Unavailable(f"Cannot listen for gRPC on {_UNIX}{path}: {error.strerror or error}") from error
    return bound


def _unlink_socket(path: str) -> None:
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        pass
