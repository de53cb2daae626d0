"""Slots over HTTP/1.1, each a connection that is kept: requests are written whole, replies only parsed for their end."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Sequence
from typing import Literal, cast

import httptools

from cluster.bench.load_request import LoadRequest
from cluster.bench.slot import Answered, Connections, Slot
from cluster.client.connection_options import ConnectionOptions
from cluster.client.http_errors import http_error
from cluster.client.http_transport import tls_context
from cluster.client.target import Target
from cluster.core.errors import AspiredError, DeadlineExceeded, Unavailable

RECONNECT_PAUSE_S = 0.1
"""After a connection that could not be made: a server that is gone is not to be asked as fast as it refuses."""


class HttpConnections(Connections):
    def __init__(
        self, target: Target, options: ConnectionOptions, requests: Sequence[LoadRequest], timeout_s: float | None
    ) -> None:
        assert target.port is not None  # only gRPC has UNIX sockets
        self.target = target
        self.host = target.host
        self.port = target.port
        self.tls: ssl.SSLContext | Literal[False] = tls_context(target, options)
        self.connect_timeout_s = options.connect_timeout_s
        self.requests = [_encoded(target, options, request) for request in requests]
        self._timeout_s = timeout_s
        self._slots: list[_HttpSlot] = []

    def slot(self, answered: Answered) -> Slot:
        slot = _HttpSlot(self, answered)
        self._slots.append(slot)
        return slot

    def expire(self, now: float) -> None:
        if self._timeout_s is None:
            return
        for slot in self._slots:
            if slot.busy and now - slot.sent > self._timeout_s:
                slot.fail(DeadlineExceeded(f"No reply from {self.target} within {self._timeout_s:g} s"))

    async def close(self) -> None:
        for slot in self._slots:
            slot.busy = False
            slot.drop()
        self._slots.clear()


class _HttpSlot(Slot):
    __slots__ = ("_answered", "_connecting", "_connections", "busy", "connection", "sent")

    def __init__(self, connections: HttpConnections, answered: Answered) -> None:
        super().__init__()
        self._connections = connections
        self._answered = answered
        self._connecting: asyncio.Task[None] | None = None
        self.connection: _HttpConnection | None = None
        self.busy = False
        self.sent = 0.0

    def send(self, number: int) -> None:
        self.number = number
        self.busy = True
        self.sent = time.perf_counter()
        if self.connection is not None:
            self.connection.transport.write(self._connections.requests[number])
        else:
            self._connecting = asyncio.get_running_loop().create_task(self._connect(number))

    def end(self, error: AspiredError | None) -> None:
        """The request under way has ended."""
        self.busy = False
        self._answered(self, error)

    def fail(self, error: AspiredError) -> None:
        """Ends the request under way, and with it the connection, on which its reply may still come."""
        self.drop()
        self.end(error)

    def drop(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self.connection is not None:
            connection, self.connection = self.connection, None
            connection.transport.abort()

    async def _connect(self, number: int) -> None:
        connections = self._connections
        try:
            async with asyncio.timeout(connections.connect_timeout_s):
                transport, connection = await asyncio.get_running_loop().create_connection(
                    lambda: _HttpConnection(self, connections.target),
                    connections.host,
                    connections.port,
                    ssl=connections.tls or None,
                )
        except OSError as error:  # TimeoutError and TLS errors are too
            await asyncio.sleep(RECONNECT_PAUSE_S)
            self.end(Unavailable(f"Cannot connect to {connections.target}: {error or type(error).__name__}"))
            return
        self.connection = connection
        transport.write(connections.requests[number])


class _HttpConnection(asyncio.Protocol):
    """One connection of a slot; after the slot has dropped it, nothing that comes on it matters."""

    def __init__(self, slot: _HttpSlot, target: Target) -> None:
        self._slot = slot
        self._target = target
        self._parser = httptools.HttpResponseParser(self)
        self._error_body = bytearray()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass

    def data_received(self, data: bytes) -> None:
        if self._slot.connection is not self:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._lost(f"The reply of {self._target} is not HTTP: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._slot.connection is self:
            self._lost(f"The connection to {self._target} was closed: {exc or 'by the server'}")

    # Called by the parser.

    def on_body(self, body: bytes) -> None:
        if self._parser.get_status_code() != 200:
            self._error_body += body

    def on_message_complete(self) -> None:
        slot = self._slot
        if not slot.busy:
            return
        status = self._parser.get_status_code()
        error = None if status == 200 else http_error(status, bytes(self._error_body))
        self._error_body.clear()
        if not self._parser.should_keep_alive():
            slot.drop()
        slot.end(error)

    def _lost(self, message: str) -> None:
        if self._slot.busy:
            self._slot.fail(Unavailable(message))
        else:
            self._slot.drop()


def _encoded(target: Target, options: ConnectionOptions, request: LoadRequest) -> bytes:
    wire = request.wire
    headers = {
        "Host": target.authority,
        "Content-Type": "application/json",
        "Content-Length": str(len(wire.body)),
        **options.headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{wire.verb} {target.path}{wire.path} HTTP/1.1\r\n{lines}\r\n".encode() + wire.body
