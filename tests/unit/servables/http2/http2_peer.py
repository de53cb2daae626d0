"""A client of `Http2Connection` in the same process: the `h2` library, or frames written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import h2.config
import h2.connection
import h2.settings

from servables.http2.connection import ConnectionFailed, Event, Http2Connection, Http2Limits
from servables.http2.flood_budget import FloodBudget
from servables.http2.frames import HEADERS, PREFACE, SETTINGS, frame
from servables.http2.header_blocks import RequestHead, response_block, trailers_block

HEADERS_OF_A_REQUEST = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/a.Service/Method"),
    (":authority", "here"),
    ("te", "trailers"),
)
BLOCK = trailers_block([(name.encode(), value.encode()) for name, value in HEADERS_OF_A_REQUEST])
GREETING = PREFACE + frame(SETTINGS, 0, 0)
HEAD = response_block([(b"content-type", b"application/grpc")])
TRAILERS = trailers_block([(b"grpc-status", b"0")])


def server(limits: Http2Limits | None = None, budget: FloodBudget | None = None) -> Http2Connection[RequestHead]:
    return Http2Connection(lambda head: head, limits, budget)


def greeted(limits: Http2Limits | None = None, budget: FloodBudget | None = None) -> Http2Connection[RequestHead]:
    """A connection whose client has said hello, and whose own greeting has been taken."""
    connection = server(limits, budget)
    assert connection.receive(GREETING, 0.0) == []
    output(connection)
    return connection


def output(connection: Http2Connection[Any]) -> bytes:
    """All that it wants written now."""
    written = b""
    while connection.has_output:
        written += b"".join(connection.take_output(1 << 30))
    return written


def failure(events: Sequence[Event[Any]]) -> ConnectionFailed:
    assert isinstance(events[-1], ConnectionFailed), events
    return events[-1]


def headers(stream_id: int, flags: int = 5, block: bytes = BLOCK) -> bytes:
    return frame(HEADERS, flags, stream_id, block)


class Http2Client:
    """The `h2` library, wired to a connection of ours; it raises if we break the protocol."""

    def __init__(self, connection: Http2Connection[RequestHead] | None = None, **settings: int) -> None:
        self.server = connection or server()
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        if settings:
            codes = {getattr(h2.settings.SettingCodes, name): value for name, value in settings.items()}
            self.h2.local_settings = h2.settings.Settings(client=True, initial_values=codes)
        self.h2.initiate_connection()
        self.exchange()

    def exchange(self) -> tuple[list[Event[RequestHead]], list[Any]]:
        """Passes bytes to and fro until neither side has any. Returns what happened at the server, and at the client."""
        events: list[Event[RequestHead]] = []
        told: list[Any] = []
        while True:
            sent = self.h2.data_to_send()
            if sent:
                events += self.server.receive(sent, 0.0)
            answered = output(self.server)
            if answered:
                told += self.h2.receive_data(answered)
            if not sent and not answered:
                return events, told

    def request(self, body: bytes | None = None, more: Sequence[tuple[str, str]] = ()) -> int:
        stream_id = int(self.h2.get_next_available_stream_id())
        self.h2.send_headers(stream_id, [*HEADERS_OF_A_REQUEST, *more], end_stream=body is None)
        if body is not None:
            self.h2.send_data(stream_id, body, end_stream=True)
        return stream_id

    def open_request(self) -> int:
        """A request whose body is yet to come."""
        stream_id = int(self.h2.get_next_available_stream_id())
        self.h2.send_headers(stream_id, HEADERS_OF_A_REQUEST)
        self.exchange()
        return stream_id
